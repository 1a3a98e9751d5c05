"""The suite of tables: its statistics, splits and protocol on planted data, its record, and its sets."""

from __future__ import annotations

import dataclasses
import json
import math
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("pandas", reason="the scripts of the suite read data frames")

from benchmarks.record import Record, read_records
from benchmarks.report import pages
from benchmarks.tables.catalog import SETS, UnknownSet, describe, find, is_available
from benchmarks.tables.cells import Cell, read_cells
from benchmarks.tables.dataset import Columns, Dataset
from benchmarks.tables.entrants import CONTESTANTS, Contestant
from benchmarks.tables.paired import compare_folds, compare_sets, mean_ranks
from benchmarks.tables.planted_tables import NOTES, SYMPTOMS, orders, repairs
from benchmarks.tables.protocol import Plan, run
from benchmarks.tables.results import Results
from benchmarks.tables.scores import calibration_bins, chance_calibration_error, expected_calibration_error, score
from benchmarks.tables.splits import folds
from benchmarks.tables.summary import study, tables, terminal

#: The half of each set, written down before any model was run.
DEVELOPMENT = [
    "breast_cancer",
    "diabetes",
    "digits_numbers",
    "digits_images",
    "penguins",
    "diamonds",
    "newsgroups",
    "chinese_reviews",
    "emoji",
    "emoji_pictures",
    "gunpoint",
    "italypowerdemand",
    "stamps",
    "spoken_stamps",
    "tweets",
    "repairs",
]


def planted() -> Columns:
    """60 rows; the class is the sign of `x`, and equal names are in one group."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    groups = [f"group {number}" for number in rng.integers(0, 20, 60)]
    return {"x": x.tolist(), "name": groups, "kind": ["plus" if one > 0 else "minus" for one in x]}


PLANTED = Dataset(
    "planted", "numbers", "development", "kind", "accuracy", planted, {"name": "category"}, group="name", seeds=2
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cells of a small run: a script and the baseline, two folds of one seed."""
    folder = tmp_path_factory.mktemp("cells")
    chosen = [CONTESTANTS["linear model"], CONTESTANTS["constant"]]
    assert run(Plan([PLANTED], chosen, folder, seeds=1, folds=2))
    return folder


def test_protocol_finds_the_planted_signal_and_measures(finished: Path) -> None:
    cells = read_cells(finished)
    results = Results(cells)
    assert len(cells) == 4
    assert (results.mean("planted", "linear model") or 0) > 0.9
    assert (results.mean("planted", "constant") or 1) < 0.7
    for cell in cells:
        assert cell.train_rows + cell.test_rows == 60
        assert cell.cpu_seconds > (cell.work_cpu_seconds or math.inf) >= 0
        assert cell.memory_mib > 10
        assert sum(rows for rows, *_ in cell.calibration_bins or []) == cell.test_rows
    assert "linear model" in terminal(cells)


def test_finished_cells_are_not_computed_again(finished: Path) -> None:
    computed: list[Cell] = []
    chosen = [CONTESTANTS["linear model"], CONTESTANTS["constant"]]
    assert run(Plan([PLANTED], chosen, finished, seeds=1, folds=2), computed.append)
    assert computed == []
    assert not run(Plan([PLANTED], chosen, finished, seeds=2, folds=2, minutes=0), computed.append)
    other = [dataclasses.replace(chosen[1], settings=("seed=3",))]
    assert not run(Plan([PLANTED], other, finished, seeds=1, folds=2, minutes=0), computed.append)


def test_comparisons_of_noise_and_of_single_inputs() -> None:
    """Differences are paired by fold, and variants of a set do not count in the ranks."""
    facts = {"train_rows": 80, "test_rows": 20, "folds": 4}

    def made(dataset: str, contestant: str, scores: list[float]) -> list[Cell]:
        return [Cell(dataset, contestant, 0, fold, score=one, **facts) for fold, one in enumerate(scores)]

    cells = [
        *made("stamps", "mine", [0.9, 0.8, 0.9, 0.8]),
        *made("stamps", "average", [0.8, 0.7, 0.8, 0.7]),
        *made("stamps", "joint linear", [0.5, 0.6, 0.5, 0.6]),
        *made("stamps:picture", "mine", [0.7, 0.5, 0.7, 0.5]),
        *made("stamps:caption", "mine", [0.8, 0.6, 0.9, 0.7]),
        *made("stamps+5texts", "mine", [0.89, 0.8, 0.91, 0.8]),
    ]
    results = Results(cells)
    assert results.best_single_input("stamps", "mine") == "stamps:caption"
    assert results.ranks() == {"mine": 1, "best script": 2}
    standing = results.standing("mine")
    assert (standing.sets, standing.better, standing.not_below) == (1, 1, 1)
    by_title = tables(results)
    assert by_title["All inputs against the best single one"][1][:6] == [
        "stamps", "mine", "0.850", "caption", "0.750", "+0.100",
    ]  # fmt: skip
    assert by_title["Noise columns: difference from the set without them"][1][4] == "+0.000"
    assert by_title["Against the best script"][1][:6] == ["stamps", "mine", "0.850", "average", "0.750", "+0.100"]


def test_set_with_one_input_keeps_its_folds() -> None:
    single = PLANTED.only("x")
    assert list(single.input_types(planted())) == ["x"]
    pairs = zip(folds(PLANTED, planted(), 0, 3), folds(single, planted(), 0, 3), strict=True)
    assert all(one.test.tolist() == other.test.tolist() for one, other in pairs)


def test_failed_contestant_has_a_reason_and_no_score(tmp_path: Path) -> None:
    broken = Contestant("broken", "scripts.absent", "script")
    slow = Contestant("slow", "scripts.constant", "script")
    assert run(Plan([PLANTED], [broken], tmp_path, seeds=1, folds=2))
    assert run(Plan([PLANTED], [slow], tmp_path, seeds=1, folds=2, cell_minutes=0.0001))
    cells = read_cells(tmp_path)
    assert all(cell.score is None for cell in cells)
    assert {cell.contestant: cell.error for cell in cells}["slow"] == "stopped after 0.0001 minutes"
    assert "scripts.absent" in {cell.contestant: cell.error for cell in cells}["broken"]


def test_record_of_a_half_reads_back_and_has_a_page(finished: Path, tmp_path: Path) -> None:
    cells = read_cells(finished)
    cells += [dataclasses.replace(cell, contestant="default") for cell in cells if cell.contestant == "linear model"]
    cells = [dataclasses.replace(cell, dataset="penguins") for cell in cells]
    made = study("development", cells)
    made.date, made.machine = "2026-01-01", {"processor": "p", "flags": [], "cores": 1, "memory_gib": 1.0}
    made.machine |= {"system": "s", "python": "3", "torch": "2", "polymodal": "0"}
    made.write(tmp_path)
    (record,) = read_records(tmp_path)
    assert isinstance(record, Record)
    measured = record.measurements["penguins, linear model"]["score"].split()
    scores = [cell.score for cell in cells if cell.contestant == "linear model"]
    assert [float(one) for one in measured] == pytest.approx(scores, abs=1e-4)
    text = pages([record])["results/tables.md"]
    assert "**Scores**" in text
    assert "| penguins | default |" in text


def test_folds_partition_the_rows_and_keep_groups_and_classes() -> None:
    columns = planted()
    for seed in (0, 1):
        made = list(folds(PLANTED, columns, seed, 3))
        assert sorted(np.concatenate([fold.test for fold in made]).tolist()) == list(range(60))
        for fold in made:
            names = [{columns["name"][row] for row in rows} for rows in (fold.train, fold.test)]
            assert not names[0] & names[1]
            assert len({columns["kind"][row] for row in fold.test}) == 2
    again = list(folds(PLANTED, columns, 1, 3))
    assert all((one.train == other.train).all() for one, other in zip(made, again, strict=True))
    assert next(folds(PLANTED, columns, 0, 3)).test.tolist() != made[0].test.tolist()


def test_corrected_test_is_the_paired_t_test_with_a_larger_variance() -> None:
    rng = np.random.default_rng(0)
    ours, reference = rng.normal(0.02, 0.1, 10).tolist(), rng.normal(0, 0.1, 10).tolist()
    plain = stats.ttest_rel(ours, reference)
    assert compare_folds(ours, reference, 0).p_value == pytest.approx(plain.pvalue)
    corrected = compare_folds(ours, reference, 0.25)
    statistic = plain.statistic * math.sqrt((1 / 10) / (1 / 10 + 0.25))
    assert corrected.p_value == pytest.approx(2 * stats.t.sf(abs(statistic), 9))
    assert corrected.p_value > plain.pvalue
    assert compare_folds([0.5, 0.5], [0.9, 0.9], 0.25).is_below
    assert not compare_folds([0.9, 0.9], [0.9, 0.9], 0.25).is_below
    assert math.isnan(compare_folds([0.5], [0.9], 0.25).p_value)


def test_false_alarms_of_the_corrected_test_on_cross_validation() -> None:
    """Two contestants of equal quality: the plain test finds a difference far too often, the corrected one rarely."""
    rng = np.random.default_rng(1)
    alarms = {0.0: 0, 0.25: 0}
    for _ in range(200):
        # the training rows that folds share move the difference of all folds of a table together
        differences = rng.normal(0, 0.1) * math.sqrt(0.25) + rng.normal(0, 0.1, 25)
        for ratio in alarms:
            alarms[ratio] += compare_folds(differences.tolist(), [0.0] * 25, ratio).p_value < 0.05
    assert alarms[0.0] > 60
    assert alarms[0.25] < 25


def test_ranks_and_the_test_over_sets() -> None:
    scores = {"a": {"x": 0.9, "y": 0.8, "z": 0.8}, "b": {"x": 0.5, "z": 0.7}}
    assert mean_ranks(scores, ["x", "y", "z"]) == {"x": 1.5, "y": 2.75, "z": 1.75}
    one, other = np.random.default_rng(0).normal(size=(2, 12)).tolist()
    assert compare_sets(one, other) == stats.wilcoxon(one, other).pvalue
    assert math.isnan(compare_sets([1.0], [1.0]))


def test_scores_and_calibration_of_known_predictions() -> None:
    assert score("accuracy", ["a", "a", "a", "b"], ["a", "a", "a", "a"]) == 0.75
    assert score("balanced_accuracy", ["a", "a", "a", "b"], ["a", "a", "a", "a"]) == 0.5
    assert score("r2", [1.0, 2.0, 3.0], [2.0, 2.0, 2.0]) == 0
    sure = np.array([[0.9, 0.1]] * 10)
    assert calibration(["a"] * 9 + ["b"], sure) == pytest.approx(0)
    assert calibration(["a"] * 5 + ["b"] * 5, sure) == pytest.approx(0.4)
    mixed = np.array([[1.0, 0.0]] * 5 + [[0.6, 0.4]] * 5)
    assert calibration(["b"] * 5 + ["a"] * 5, mixed) == pytest.approx((1.0 + 0.4) / 2)


def test_perfect_probabilities_have_the_calibration_error_of_chance() -> None:
    draw = np.random.default_rng(0)
    confidence = draw.uniform(0.5, 1, (200, 300))
    right = draw.uniform(size=confidence.shape) < confidence
    found, expected = [], []
    for one, truth in zip(confidence, right, strict=True):
        bins = calibration_bins(
            ["a" if is_right else "b" for is_right in truth], ["a", "b"], np.stack([one, 1 - one], 1)
        )
        found.append(expected_calibration_error(bins))
        expected.append(chance_calibration_error(bins))
    assert np.mean(found) == pytest.approx(np.mean(expected), rel=0.05)


def calibration(truth: list[str], probabilities: np.ndarray) -> float:
    return expected_calibration_error(calibration_bins(truth, ["a", "b"], probabilities))


def test_each_set_has_a_fixed_half_and_both_halves_have_every_kind() -> None:
    assert sorted(DEVELOPMENT) == sorted(name for name, one in SETS.items() if one.half == "development")
    assert len(SETS) >= 14
    kinds = {(one.kind, one.half) for one in SETS.values()}
    assert len(kinds) == 12


@pytest.mark.parametrize("name", sorted(SETS))
def test_set_can_be_read(name: str) -> None:
    dataset = SETS[name]
    if not is_available(dataset):
        pytest.skip(f"{', '.join(dataset.assets)}: not unpacked (python -m benchmarks.tables.assets)")
    columns = dataset.build()
    assert set(dataset.types) <= set(columns)
    assert dataset.target in columns
    assert len({len(cells) for cells in columns.values()}) == 1
    assert all(cell is not None for cell in columns[dataset.target])
    assert len(describe(dataset, columns)) == 8
    json.dumps(columns, allow_nan=False)


def test_noise_columns_are_the_only_change() -> None:
    base = find("breast_cancer")
    noisy = find("breast_cancer+5texts")
    before, after = base.build(), noisy.build()
    added = [name for name in after if name not in before]
    assert len(added) == 5
    assert all(noisy.types[name] == "text" for name in added)
    assert all(after[name] == before[name] for name in before)
    assert after == noisy.build()
    assert next(folds(base, before, 0, 2)).test.tolist() == next(folds(noisy, after, 0, 2)).test.tolist()
    for name in ("absent", "breast_cancer+5smells", "breast_cancer+texts"):
        with pytest.raises(UnknownSet, match="choose from"):
            find(name)


@pytest.mark.parametrize(
    ("make", "phrases", "moment_format"), [(orders, NOTES, "%Y-%m-%d %H:%M:%S"), (repairs, SYMPTOMS, "%d.%m.%Y %H:%M")]
)
def test_planted_tables_depend_on_dates_and_texts(make, phrases, moment_format) -> None:  # type: ignore[no-untyped-def]
    columns = make(2000)
    assert columns == make(2000)
    date, text, *_, target = columns
    values = np.array(columns[target])
    has = {one: np.array([one in (cell or "") for cell in columns[text]]) for one in phrases}
    effects = [values[rows].mean() - values[~rows].mean() for rows in has.values()]
    assert np.corrcoef(effects, list(phrases.values()))[0, 1] > 0.9
    moments = [datetime.strptime(cell, moment_format) for cell in columns[date]]
    weekday = np.array([one.weekday() for one in moments])

    def explained(numbers: np.ndarray) -> float:
        means = np.array([numbers[weekday == day].mean() for day in range(7)])
        return float(np.var(means[weekday]) / np.var(numbers))

    assert explained(values) > 4 * explained(np.random.default_rng(0).permutation(values))
