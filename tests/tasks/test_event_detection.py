"""Event detection: cells, coverage and ends, default times, loss, predictions, scores, and a whole run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional

import polymodal
from polymodal.checkpoint.output_file import OutputFile
from polymodal.core.errors import DataError, RecipeError
from polymodal.core.registry import components
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import open_table
from polymodal.datasets.events import make_audio_events, make_series_events, make_video_events
from polymodal.evaluation.class_alignment import have_same_classes, reorder_classes
from polymodal.evaluation.intervals import Resampling, bootstrap
from polymodal.recipe.data import LimitOptions
from polymodal.tasks.event_detection import EventDetectionTask
from polymodal.tasks.event_timeline import decode_events, event_coverage, events_from_coverage

torch.set_num_threads(1)

CELLS: list[Any] = [
    [{"start": 0.5, "end": 1.25, "label": "dog"}, {"start": 1.0, "end": 3.0, "label": "cat"}],
    [],
    None,
    [{"start": 2.0, "end": 4.0, "label": "dog"}, {"start": 3.5, "end": 4.5, "label": "dog"}],
    [{"start": 0.25, "end": 1.25, "label": "cat"}],
]
READ = [
    [{"start": 0.5, "end": 1.25, "label": "dog"}, {"start": 1.0, "end": 3.0, "label": "cat"}],
    [],
    [{"start": 2.0, "end": 4.5, "label": "dog"}],
    [{"start": 0.25, "end": 1.25, "label": "cat"}],
]


def block(cells: Any, faults: CellErrors | None = None) -> RowBlock:
    return RowBlock({"y": cells}, np.arange(len(cells)), None, "t", faults or CellErrors(), LimitOptions())


def fitted(cells: Any, **options: Any) -> EventDetectionTask:
    task = EventDetectionTask(EventDetectionTask.Options(**options), columns=["y"])
    task.fit(iter([block(cells)]))
    return task


def events(task: EventDetectionTask, answers: list[Any]) -> list[Any]:
    return [[{key: event[key] for key in ("start", "end", "label")} for event in row] for row in answers]


@pytest.mark.parametrize(
    "cells", [CELLS, [cell and json.dumps(cell) for cell in CELLS[:1]] + CELLS[1:], pa.array(CELLS)]
)
def test_lists_records_and_json_text_are_read_alike(cells: Any) -> None:
    task, faults = fitted(cells, resolution=0.25), CellErrors()
    value, present = task.prepare(block(cells, faults))
    assert not faults.errors
    assert present.tolist() == [True, True, False, True, True]
    assert task.classes == ["cat", "dog"]
    assert value.shape == (5, task.output_size)
    assert task.events(value[present]) == READ


def test_the_value_of_a_cell_is_the_share_that_is_covered() -> None:
    task = fitted(CELLS, resolution=0.5, duration=5)
    value, _ = task.prepare(block([CELLS[4]]))
    shares = value.reshape(10, 2)
    assert shares[:, 0].tolist() == [0.5, 1.0, 0.5] + [0.0] * 7, "cat, cell by cell"
    assert not shares[:, 1].any()


def random_events(draw: np.random.Generator, apart: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Events of two labels on 40 cells: longer than a cell, `apart` cells or more from the next."""
    found = []
    for label in range(2):
        time = draw.uniform(0, 3)
        while (end := time + draw.uniform(1.001, 6)) <= 40:
            found.append((time, end, label))
            time = end + apart + draw.uniform(0.001, 5)
    start, end_, label_ = np.array(found).T
    return start, end_, label_.astype(np.int64)


def test_starts_and_ends_come_back_exactly() -> None:
    draw = np.random.default_rng(0)
    for _ in range(100):
        width = draw.uniform(0.01, 2)
        start, end, label = random_events(draw, apart=1)
        found = events_from_coverage(event_coverage(start * width, end * width, label, 40, 2, width)[None], width)
        assert found.label.tolist() == label.tolist()
        np.testing.assert_allclose(found.start, start * width, atol=2e-4 * width)
        np.testing.assert_allclose(found.end, end * width, atol=2e-4 * width)


def test_exact_shares_are_decoded_to_exact_ends() -> None:
    draw = np.random.default_rng(1)
    for _ in range(50):
        start, end, label = random_events(draw, apart=2)
        shares = event_coverage(start, end, label, 40, 2, 1.0)[None]
        found = decode_events(
            shares, 1.0, threshold=0.5, median_filter_seconds=0, min_gap_seconds=0, min_event_seconds=0
        )
        np.testing.assert_allclose(found.start, start, atol=1e-4)
        np.testing.assert_allclose(found.end, end, atol=1e-4)


def test_what_lies_inside_one_cell_is_put_in_its_middle() -> None:
    tiny = events_from_coverage(event_coverage(np.array([2.1]), np.array([2.3]), np.array([0]), 5, 1, 1.0)[None], 1.0)
    np.testing.assert_allclose([tiny.start[0], tiny.end[0]], [2.4, 2.6], atol=1e-6)
    times = np.array([0.0, 2.7]), np.array([2.5, 4.0])
    split = events_from_coverage(event_coverage(*times, np.array([0, 0]), 5, 1, 1.0)[None], 1.0)
    np.testing.assert_allclose(split.start, [0, 2.6], atol=1e-6)
    np.testing.assert_allclose(split.end, [2.4, 4], atol=1e-6)


def probabilities(*runs: tuple[int, int, float], frames: int = 20) -> np.ndarray:
    values = np.zeros((1, frames, 1))
    for first, after, probability in runs:
        values[0, first:after] = probability
    return values


def test_decoding_merges_drops_and_smooths() -> None:
    plain: dict[str, float] = {
        "threshold": 0.5,
        "median_filter_seconds": 0,
        "min_gap_seconds": 0,
        "min_event_seconds": 0,
    }
    values = probabilities((2, 6, 1.0), (7, 12, 1.0), (15, 16, 1.0))

    def found(**changed: float) -> list[tuple[float, float]]:
        got = decode_events(values, 0.5, **{**plain, **changed})
        return [(round(a, 6), round(b, 6)) for a, b in zip(got.start.tolist(), got.end.tolist(), strict=True)]

    assert found() == [(1.0, 3.0), (3.5, 6.0), (7.5, 8.0)]
    assert found(min_gap_seconds=0.6) == [(1.0, 6.0), (7.5, 8.0)]
    assert found(min_event_seconds=0.6) == [(1.0, 3.0), (3.5, 6.0)]
    assert found(median_filter_seconds=1.0) == [(1.0, 6.0)]


def test_the_score_is_the_mean_probability_of_the_cells_of_the_event() -> None:
    got = decode_events(
        probabilities((0, 2, 0.6), (2, 4, 1.0)),
        1.0,
        threshold=0.5,
        median_filter_seconds=0,
        min_gap_seconds=0,
        min_event_seconds=0,
    )
    assert got.score.tolist() == pytest.approx([0.8])


def test_default_times_come_from_the_training_rows() -> None:
    long = [[{"start": float(s), "end": s + 2.0, "label": "x"}] for s in range(10)]
    task = fitted(long)
    assert task.grid.seconds == pytest.approx(1.05 * 11)
    assert task.width == pytest.approx(0.2, rel=0.02)
    assert (task.segment_seconds, task.min_event_seconds, task.min_gap_seconds) == (1.0, 1.0, 1.0)
    assert fitted([*long, [{"start": 0, "end": 4000, "label": "x"}]]).grid.frames == 2000
    assert fitted([[{"start": 0, "end": 0.02, "label": "x"}], [{"start": 1, "end": 1.02, "label": "x"}]]).width == (
        pytest.approx(0.01, rel=0.01)
    )
    assert fitted(long, duration=20, resolution=0.3).grid == (67, pytest.approx(20.1))


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (7, "list of events"),
        ("[not json", "JSON text"),
        (["dog"], "start, end and label"),
        ([{"start": 1, "label": "dog"}], "no end"),
        ([{"start": 1, "end": 2}], "no label"),
        ([{"start": "1", "end": 2, "label": "dog"}], "number of seconds"),
        ([{"start": 2, "end": 2, "label": "dog"}], "not after its start"),
        ([{"start": -1, "end": 2, "label": "dog"}], "cannot start"),
        ([{"start": 1, "end": float("inf"), "label": "dog"}], "cannot end"),
        ([{"start": 1, "end": 2, "label": "fox"}], "'fox' does not occur"),
        ([{"start": 1, "end": 99, "label": "dog"}], "after the timeline"),
    ],
)
def test_unusable_cells_are_cell_errors_and_missing(cell: Any, reason: str) -> None:
    task, faults = fitted(CELLS), CellErrors()
    value, present = task.prepare(block([CELLS[0], cell], faults))
    assert present.tolist() == [True, False]
    assert not value[1].any()
    assert [fault.row for fault in faults.errors] == [1]
    assert reason in faults.errors[0].reason


def test_nothing_to_learn_and_impossible_timelines_are_errors() -> None:
    with pytest.raises(DataError, match="no event"):
        fitted([[], None, []])
    with pytest.raises(DataError, match=r"ends before 0\.1 s"):
        fitted(CELLS, duration=0.1)
    with pytest.raises(RecipeError, match="resolution"):
        fitted(CELLS, resolution=1e-5)
    with pytest.raises(RecipeError, match="exactly one column"):
        EventDetectionTask(EventDetectionTask.Options(), columns=["y", "z"])


def test_loss_equals_torch_and_the_baseline_is_the_best_constant() -> None:
    task = fitted(CELLS)
    value, present = task.prepare(block(CELLS))
    target = torch.from_numpy(value[present])
    values = torch.randn(4, task.output_size, generator=torch.Generator().manual_seed(0))
    expected = functional.binary_cross_entropy_with_logits(values, target, reduction="none").mean(1)
    torch.testing.assert_close(task.loss(values, target), expected)
    best = torch.from_numpy(task.baseline_prediction()).logit(eps=1e-12).float().expand_as(target)
    assert float(task.loss(best, target).mean()) == pytest.approx(task.baseline_loss(), abs=1e-5)
    for moved in (best + 0.2, best - 0.2):
        assert float(task.loss(moved, target).mean()) > task.baseline_loss()


def test_perfect_probabilities_score_perfectly_and_resamples_agree_with_rows() -> None:
    task = fitted(CELLS)
    value, present = task.prepare(block(CELLS))
    truth = task.truth(value[present])
    draw = np.random.default_rng(0)
    noisy = np.clip(truth + 0.45 * draw.normal(size=truth.shape), 0.001, 0.999)
    for metric in task.metrics:
        assert metric.score(truth.astype(float), truth, np.ones(4)) == (1 if metric.greater_is_better else 0)
        weight = np.array([2.0, 0.0, 1.0, 1.0])
        rows = [0, 0, 2, 3]
        whole = metric.score(noisy[rows], truth[rows], np.ones(4))
        assert metric.weighted(noisy, truth)(weight) == pytest.approx(whole)
        assert metric.score(noisy, truth, weight) == pytest.approx(whole)
        interval = bootstrap(metric, noisy, truth, np.ones(4), Resampling(samples=50))
        assert interval.low <= interval.value <= interval.high


def test_saved_and_loaded_it_answers_the_same() -> None:
    task = fitted([[{"start": 0.0, "end": 1.0, "label": 3}], [{"start": 1, "end": 2.5, "label": 12}]])
    again = EventDetectionTask(EventDetectionTask.Options(), columns=["y"])
    again.load(json.loads(json.dumps(task.save())))
    probability = np.random.default_rng(0).random((3, task.output_size))
    assert again.predict(probability) == task.predict(probability)
    assert (again.grid, again.baseline_loss(), again.classes, again.notes[0]) == (
        task.grid,
        task.baseline_loss(),
        ["3", "12"],
        task.notes[0],
    )


def test_answers_are_ordered_and_can_serve_as_targets() -> None:
    task = fitted(CELLS, min_event_seconds=0, min_gap_seconds=0)
    value, _ = task.prepare(block([CELLS[0]]))
    answers = task.predict(value.astype(np.float64))
    assert [event["start"] for event in answers[0]] == sorted(event["start"] for event in answers[0])
    again, present = task.prepare(block([json.dumps(answers[0])]))
    assert present.all()
    np.testing.assert_allclose(again, value, atol=1e-3)


def test_columns_of_events_are_inferred(tmp_path: Path) -> None:
    for cells in (CELLS, [json.dumps(cell) for cell in CELLS if cell is not None]):
        sample = open_table({"y": cells}, cache=tmp_path).sample("y")
        guesses = {name: one.match_column(sample) for name, one in components("task").items()}
        sure = max((guess.confidence, name) for name, guess in guesses.items() if guess is not None)
        assert sure[1] == "event_detection"
    for cells in ([[], []], [["a"], ["b"]], ["text", "[1, 2]"], [1.0, 2.0]):
        assert EventDetectionTask.match_column(open_table({"y": cells}, cache=tmp_path).sample("y")) is None


def test_timelines_of_two_models_are_brought_to_the_same_cells() -> None:
    fine = fitted(CELLS, resolution=0.05, duration=5)
    coarse = fitted([*CELLS, [{"start": 1.0, "end": 2.0, "label": "bat"}]], resolution=0.25, duration=10)
    value = {task: task.prepare(block([CELLS[0]]))[0].astype(np.float64) for task in (fine, coarse)}
    np.testing.assert_allclose(reorder_classes(value[fine], fine, coarse), value[coarse], atol=1e-6)
    assert reorder_classes(value[coarse], coarse, fine).shape == value[fine].shape
    assert have_same_classes(fine, fitted(CELLS, resolution=0.3))
    assert not have_same_classes(fine, coarse)


def test_planted_sets_are_seeded_and_inside_their_rows() -> None:
    for maker, length in ((make_audio_events, 4.0), (make_series_events, 240.0), (make_video_events, 3.2)):
        once, again = maker(12, 5), maker(12, 5)
        assert once == again != maker(12, 6)
        found = [event for row in once["events"] for event in row]
        assert found
        assert all(0 <= event["start"] < event["end"] <= length for event in found)


WORDS = {"early": 0.4, "middle": 3.3, "late": 6.3}


def said(rows: int, seed: int) -> dict[str, list[Any]]:
    """A word that gives the time of an event, and another that gives whether a second event happens."""
    draw = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {"when": [], "more": [], "events": []}
    for _ in range(rows):
        when, more = draw.choice(list(WORDS)), draw.choice(["yes", "no"])
        found = [{"start": WORDS[when], "end": WORDS[when] + 1.5, "label": "knock"}]
        columns["when"].append(str(when))
        columns["more"].append(str(more))
        columns["events"].append(found + [{"start": 4.3, "end": 5.7, "label": "voice"}] * (more == "yes"))
    return columns


def test_a_whole_run_from_table_to_predictions(tmp_path: Path) -> None:
    """Without an input in time, the fused vector of the row predicts the times of the events."""
    settings = [
        "training.epochs=12",
        "evaluation.unimodal_scores=none",
        "training.num_threads=1",
        "training.precision=fp32",
    ]
    model = polymodal.fit(said(240, 0), target="events", test=said(80, 1), out=tmp_path / "run", settings=settings)
    scores = model.metrics["test"]["events"]
    assert list(scores) == ["segment_f1", "event_f1", "segment_error_rate", "segment_f1_macro"]
    assert scores["segment_f1"]["value"] > 0.9
    assert scores["segment_f1"]["baseline"] < 0.7
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert "2 classes, knock, voice" in card
    assert "segment F1" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")

    loaded = polymodal.load(tmp_path / "run")
    rows = {"when": ["late", "early"], "more": ["no", "yes"]}
    answers = loaded.predict(rows)
    assert answers == model.predict(rows)
    assert [event["label"] for event in answers[0]] == ["knock"]
    assert abs(answers[0][0]["start"] - 6.3) < 0.3

    from polymodal.model.prediction_files import write_predictions

    for suffix in (".csv", ".parquet", ".jsonl"):
        path = tmp_path / f"answers{suffix}"
        assert write_predictions(loaded, loaded.open(rows), CellErrors(), OutputFile(path), probabilities=True) == 2
        table = open_table(path, cache=tmp_path)
        assert table.columns == ["events"]
        cells = [cell if isinstance(cell, list) else json.loads(cell) for cell in table.sample("events").values]
        assert cells == answers
    assert pq.read_table(tmp_path / "answers.parquet").schema.field("events").type == pa.string()


@pytest.mark.parametrize(
    ("maker", "rows", "epochs"),
    [(make_audio_events, 160, 4), (make_series_events, 100, 4), (make_video_events, 200, 5)],
)
def test_planted_events_are_recovered_with_defaults(maker: Any, rows: int, epochs: int, tmp_path: Path) -> None:
    settings = [
        f"training.epochs={epochs}",
        "training.num_threads=1",
        "training.precision=fp32",
        "evaluation.bootstrap_samples=0",
    ]
    model = polymodal.fit(
        maker(rows, 1),
        validation=maker(30, 2),
        test=maker(50, 3),
        target="events",
        out=tmp_path / "run",
        settings=settings,
    )
    assert model.metrics["test"]["events"]["segment_f1"]["value"] > 0.9
