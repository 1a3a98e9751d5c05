"""Pseudo-labels: what they gain where there is something to gain, and that they stay away where there is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom, ttest_1samp

from polymodal import fit
from polymodal.core.errors import DataError, RecipeError
from polymodal.data.partition import make_fold_splits
from polymodal.data.table.table import open_table
from polymodal.experiments import confidence_calibration as calibration
from polymodal.experiments.plan import make_plan
from polymodal.model.model import Model
from polymodal.recipe.recipe import Recipe
from polymodal.training.temperature import fit_temperature
from polymodal.training.trainer import Trainer

WIDE = 16
Columns = dict[str, list[Any]]


def rows(count: int, seed: int, *, noise: bool = False) -> Columns:
    """Two clusters, apart in four of the columns; the label is the cluster, or (`noise`) the toss of a coin."""
    draw = np.random.default_rng(seed)
    side = draw.integers(0, 2, count)
    x = draw.normal(size=(count, WIDE))
    x[:, :4] += np.where(side, 1.2, -1.2)[:, None]
    label = draw.integers(0, 2, count) if noise else side
    return {f"x{i}": x[:, i].tolist() for i in range(WIDE)} | {"y": np.where(label, "right", "left").tolist()}


def without(columns: Columns, labels: int = 0) -> Columns:
    """The same rows with labels in the first few alone; without any, without the column."""
    if not labels:
        return {name: cells for name, cells in columns.items() if name != "y"}
    return columns | {"y": [y if row < labels else None for row, y in enumerate(columns["y"])]}


def recipe(**pseudo: Any) -> dict[str, Any]:
    return {
        "hidden_size": 16,
        "inputs": {"x": {"modality": "number", "columns": [f"x{i}" for i in range(WIDE)]}},
        "outputs": {"y": "classification"},
        "training": {"epochs": 6, "batch_size": 16, "num_threads": 1, "precision": "fp32", "pseudo_labels": pseudo},
        "evaluation": {"bootstrap_samples": 0, "unimodal_scores": "none"},
        "data": {"split": {"test_size": 0}},
    }


def trained(seed: int, *, rounds: int, noise: bool = False, **more: Any) -> Model:
    table, valid = without(rows(310, seed, noise=noise), 10), rows(100, 100 + seed, noise=noise)
    return fit(table, recipe=recipe(rounds=rounds, **more) | {"seed": seed}, validation=valid)


def test_ten_labels_and_rows_without_beat_ten_labels_alone() -> None:
    gains, given = [], []
    for seed in range(4):
        test = rows(1000, 200 + seed)
        alone = fit(
            {name: cells[:10] for name, cells in rows(310, seed).items()},
            recipe=recipe() | {"seed": seed, "training": recipe()["training"] | {"epochs": 120}},
            validation=rows(100, 100 + seed),
        )
        more = trained(seed, rounds=1)
        found = [float(np.mean(np.array(model.predict(test)) == np.array(test["y"]))) for model in (alone, more)]
        gains.append(found[1] - found[0])
        given.append(more.run.pseudo_labels.rounds[1].num_labels)
    assert min(given) > 0
    assert np.mean(gains) > 0.02, gains
    assert ttest_1samp(gains, 0, alternative="greater").pvalue < 0.05, gains


def test_where_labels_are_noise_none_are_given() -> None:
    for seed in range(2):
        model = trained(seed, rounds=1, noise=True)
        record = model.run.pseudo_labels
        assert record.selected_round == 0
        assert [one.num_labels for one in record.rounds] == [0, 0]
        assert "no confidence threshold" in record.rounds[1].reason
        assert any("no confidence threshold reaches a precision of 90%" in notice for notice in model.run.notices)


def test_the_run_tells_what_was_given() -> None:
    model = trained(0, rounds=2)
    record = model.run.pseudo_labels
    assert (record.output, record.unlabeled) == ("y", 300)
    first = record.rounds[1]
    assert sum(first.labels_by_class.values()) == first.num_labels == first.num_changed > 100
    assert first.precision >= first.precision_low >= 0.9
    assert 0.5 <= first.threshold <= 1
    scores = [one.validation_score for one in record.rounds if one.validation_score is not None]
    assert record.selected_round == int(np.argmax(scores))
    assert any(f"round {record.selected_round} is selected" in notice for notice in model.run.notices)


def test_a_table_of_its_own_gives_the_same_as_rows_with_gaps() -> None:
    table, valid = rows(60, 0), rows(100, 100)
    whole = fit(without(table, 10), recipe=recipe(rounds=1), validation=valid)
    labelled = {name: cells[:10] for name, cells in table.items()}
    more = without({name: cells[10:] for name, cells in table.items()})
    apart = fit(labelled, recipe=recipe(rounds=1), validation=valid, unlabeled=more)
    assert apart.run.pseudo_labels == whole.run.pseudo_labels
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, apart.network.state_dict()[name]), name


def test_classes_give_their_share_at_most() -> None:
    """Three of four unlabelled rows are of one class, half of the labelled ones."""
    table = rows(310, 0)
    order = [*range(10), *(row for row in range(10, 310) if table["y"][row] == "left" or row % 3 == 0)]
    table = {name: [cells[row] for row in order] for name, cells in table.items()}
    most = {}
    for class_balanced in (True, False):
        model = fit(
            without(table, 10), recipe=recipe(rounds=1, class_balanced=class_balanced), validation=rows(100, 100)
        )
        labels_by_class = model.run.pseudo_labels.rounds[1].labels_by_class
        most[class_balanced] = labels_by_class["left"] / sum(labels_by_class.values())
    assert most[True] < most[False]


def test_a_label_that_cannot_be_used_is_no_gap_to_fill() -> None:
    table, valid = rows(60, 0), rows(100, 100)
    for one in (table, valid):
        one["y"] = [float(y == "left") for y in one["y"]]
    table = without(table, 10)
    table["y"][20] = float("inf")
    model = fit(table, recipe=recipe(rounds=1), validation=valid)
    assert model.run.pseudo_labels.unlabeled == 49
    assert model.run.cell_errors.count == 1


def test_rows_without_a_label_are_not_split_off() -> None:
    model = fit(
        without(rows(300, 0), 60), recipe=recipe() | {"data": {"split": {"validation_size": 0.2, "test_size": 0.2}}}
    )
    assert {name: part.rows for name, part in model.run.splits.items()} == {"train": 276, "validation": 12, "test": 12}


class Killed(Exception):
    pass


@pytest.mark.parametrize("when", [(0, 15), (1, 10)], ids=["in the first training", "in the round after it"])
def test_a_resumed_run_equals_an_uninterrupted_one(
    when: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, valid = without(rows(60, 0), 20), rows(100, 100)

    def run(folder: Path, resume: bool = False) -> Model:
        return fit(table, recipe=recipe(rounds=2), validation=valid, out=folder, resume=resume)

    whole = run(tmp_path / "whole")
    ordinary: Callable[..., None] = Trainer._step
    begun: list[Trainer] = []

    def until(self: Trainer, batch: object) -> None:
        if self not in begun:
            begun.append(self)
        if (len(begun) - 1, self.history.steps) == when:
            raise Killed
        ordinary(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", until)
        with pytest.raises(Killed):
            run(tmp_path / "killed")
    resumed = run(tmp_path / "killed", resume=True)
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name
    records = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("whole", "killed")]
    assert records[0]["pseudo_labels"] == records[1]["pseudo_labels"]
    assert records[0]["history"] == records[1]["history"]
    assert not list((tmp_path / "killed").rglob("checkpoint.safetensors"))


@pytest.mark.parametrize("task", ["regression", "multilabel_classification"])
def test_other_tasks_are_refused_by_the_name_of_the_key(task: str) -> None:
    table = rows(60, 0)
    table["y"] = [[one] if task == "multilabel_classification" else float(one == "left") for one in table["y"]]
    with pytest.raises(RecipeError, match=rf"training\.pseudo_labels\.rounds: .*{task}"):
        fit(table, recipe=recipe(rounds=1) | {"outputs": {"y": task}})


def test_unlabelled_rows_that_nothing_learns_from_or_that_have_labels_are_refused() -> None:
    table = rows(60, 0)
    with pytest.raises(RecipeError, match="does not use unlabeled rows"):
        fit(table, recipe=recipe(), unlabeled=without(table))
    with pytest.raises(DataError, match="so they are labeled"):
        fit(table, recipe=recipe(rounds=1), unlabeled=table)
    lacking = {name: cells for name, cells in without(table).items() if name != "x3"}
    with pytest.raises(DataError, match="x3"):
        fit(table, recipe=recipe(rounds=1), unlabeled=lacking)


def test_a_temperature_undoes_what_made_probabilities_too_sure() -> None:
    draw = torch.Generator().manual_seed(0)
    true = 2 * torch.randn(4000, 3, generator=draw)
    target = torch.multinomial(true.softmax(-1), 1, generator=draw)[:, 0]
    assert fit_temperature(4 * true, target) == pytest.approx(4, rel=0.1)
    assert fit_temperature(true / 2, target) == pytest.approx(0.5, rel=0.1)


def test_the_lower_bound_is_where_so_many_right_ones_would_be_a_surprise() -> None:
    for right, count in ((9, 10), (40, 50), (20, 20)):
        low = calibration.precision_lower_bound(right, count)
        assert binom.sf(right - 1, count, low) == pytest.approx(1 - calibration.PRECISION_CONFIDENCE_LEVEL)
    assert calibration.precision_lower_bound(0, 10) == 0
    for wanted in (0.5, 0.9, 0.95):
        few = calibration.min_validation_rows(wanted)
        assert (
            calibration.precision_lower_bound(few, few) >= wanted > calibration.precision_lower_bound(few - 1, few - 1)
        )


def test_the_threshold_is_the_lowest_that_will_do() -> None:
    confidence = np.linspace(0, 1, 200)
    right = confidence > 0.4
    found = calibration.find_threshold(confidence, right, 0.9)
    assert found is not None
    assert found.precision_low >= 0.9
    lower = confidence[confidence < found.confidence]
    assert all(
        calibration.precision_lower_bound(int(right.sum()), int((confidence >= t).sum())) < 0.9 for t in lower[-20:]
    )
    assert calibration.find_threshold(confidence, np.arange(200) % 2 == 0, 0.9) is None


def test_folds_validate_on_rows_with_a_label() -> None:
    table = open_table(without(rows(300, 0), 60), cache=Path("unused"))
    plan = make_plan(table, Recipe(**recipe() | {"data": {"split": {"validation_size": 0.25}}}))
    for parts in make_fold_splits(plan.recipe, table, 3):
        assert len(parts["validation"].rows) == 10
        assert parts["validation"].rows.max() < 60
        assert len(parts["train"].rows) + len(parts["validation"].rows) + len(parts["test"].rows) == 300
