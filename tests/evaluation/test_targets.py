"""A score says how many rows it counts, and which it leaves out; a part that cannot be scored is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import polymodal
from polymodal.core.errors import DataError
from polymodal.core.registry import components, find
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import BadCellsWarning, CellErrors
from polymodal.evaluation.scores import Score, score_output
from polymodal.evaluation.targets import REASONS, OutputTargets, RowCounts
from polymodal.recipe.data import LimitOptions
from polymodal.recipe.evaluation import EvaluationOptions
from polymodal.tasks.base import Task

WITHOUT_INTERVALS = EvaluationOptions(bootstrap_samples=0, unimodal_scores="none")
SETTINGS = ["training.epochs=2", "evaluation.bootstrap_samples=0", "seed=0"]

#: By task: usable target cells, and cells that are missing or cannot be used.
CELLS: dict[str, tuple[list[Any], list[Any]]] = {
    "classification": (["a", "b", "c"], [None, ["x"], float("nan"), "never seen", "B"]),
    "multilabel_classification": ([["a"], ["b"], ["a", "b"]], [None, ["never seen"], 3]),
    "regression": ([1.0, 2.0, 4.0, 8.0], [None, float("nan"), "three", float("inf")]),
    "metric_learning": (["a", "b"], [None, ["x"]]),
    "text_generation": (["a cat", "a dog", "two dogs"], [None, "", {"no": "text"}]),
    "event_detection": (
        [[{"start": 0.0, "end": 1.0, "label": "a"}], [{"start": 1.0, "end": 2.0, "label": "b"}]],
        [None, "no events", [{"start": 0.0, "end": 1.0, "label": "never seen"}]],
    ),
    "image_generation": ([Image.new("RGB", (32, 32), color) for color in ("red", "blue")], [None, 3, b"no image"]),
    "object_detection": (
        [[[0, 0, 4, 4, "a"]], [[2, 2, 5, 6, "b"]]],
        [None, "no boxes", [[0, 0, 4, 4, "never seen"]]],
    ),
}
#: Options of tasks whose fitting would take long.
OPTIONS: dict[str, dict[str, Any]] = {"image_generation": {"autoencoder_steps": 1, "patch_size": 16}}
SIGN = {True: 1, False: -1}


def block(cells: list[Any]) -> RowBlock:
    return RowBlock({"y": cells}, np.arange(len(cells)), None, "t", CellErrors(), LimitOptions())


def prepared(task: Task, cells: list[Any], weight: np.ndarray | None = None) -> OutputTargets:
    rows = block(cells)
    value, present = task.prepare(rows)
    unusable = np.isin(rows.rows, [error.row for error in rows.errors.errors])
    return OutputTargets(value, present, weight, unusable=unusable)


def fitted(name: str) -> Task:
    component = find("task", name)
    task = component(component.Options(**OPTIONS.get(name, {})), columns=["y"])
    usable = CELLS[name][0]
    task.fit([block([cell for cell in usable for _ in range(3)])])
    return task


def predictions(task: Task, rows: int, seed: int) -> np.ndarray:
    """Predictions `[rows, k]` that are often right: the constant prediction with noise."""
    constant = task.baseline_predictions(rows)
    if constant.dtype == object:
        return constant
    noisy = np.abs(constant + np.random.default_rng(seed).normal(0, 0.3, constant.shape)) + 1e-3
    return noisy / (np.linalg.norm(noisy, axis=1) if task.is_embedding else noisy.sum(1))[:, None]


@pytest.mark.parametrize("name", sorted(CELLS))
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_rows_that_cannot_be_used_are_counted_or_lower_the_score(name: str, data: st.DataObject) -> None:
    """The law: k inserted rows without a usable target, or of weight 0, are named in `left_out`, or count as wrong."""
    task = fitted(name)
    usable, bad = CELLS[name]
    good = usable * 2 + data.draw(st.lists(st.sampled_from(usable), max_size=6))
    inserted = data.draw(st.lists(st.sampled_from(bad), max_size=6))
    zero = data.draw(st.integers(0, 3))
    cells = [*good, *inserted, *usable[:1] * zero]
    weight = np.where(np.arange(len(cells)) < len(good) + len(inserted), 1.0, 0.0)
    distribution = predictions(task, len(cells), seed=len(cells))
    before = score_output(task, distribution[: len(good)], prepared(task, good), WITHOUT_INTERVALS)
    after = score_output(task, distribution, prepared(task, cells, weight), WITHOUT_INTERVALS)
    for metric in task.metrics:
        old, new = before[metric.name], after[metric.name]
        assert new.rows + sum(new.left_out.values()) == len(cells)
        assert set(new.left_out) <= set(REASONS)
        wrong = new.unknown_class_rows
        assert sum(new.left_out.values()) == len(inserted) + zero - wrong + sum(old.left_out.values())
        if wrong and metric.name in ("accuracy", "balanced_accuracy", "f1_macro", "recall_macro", "log_loss"):
            assert worse(new, old)
        elif not wrong and name != "metric_learning":
            assert new.value == pytest.approx(old.value)


def worse(new: Score, old: Score) -> bool:
    assert new.value is not None
    assert old.value is not None
    sign = SIGN[new.greater_is_better]
    return sign * new.value < sign * old.value or new.value == old.value == 0


def test_every_task_of_the_registry_is_in_the_law() -> None:
    assert set(CELLS) == set(components("task"))


def test_a_row_alone_in_its_group_is_no_query() -> None:
    targets = prepared(fitted("metric_learning"), ["a", "a", "alone", None])
    counts = targets.counts(fitted("metric_learning"))
    assert (counts.rows, counts.left_out) == (2, {"missing_target": 1, "no_other_row_of_group": 1})


def test_sentences_name_every_reason() -> None:
    counts = RowCounts(rows=20, unknown_class_rows=5, left_out=dict.fromkeys(REASONS, 2))
    assert counts.sentence("test row").startswith("20 test rows scored; left out: 2 without a target")
    assert "5 of a class that training did not see, which count as wrong" in counts.sentence()
    assert RowCounts(rows=1).sentence() == "1 row scored"


def table(rows: int, labels: list[Any] | None = None) -> dict[str, list[Any]]:
    x = [float(row % 2) for row in range(rows)]
    return {"x": x, "y": labels or ["b" if one else "a" for one in x]}


@pytest.fixture(scope="module")
def model() -> polymodal.Model:
    return polymodal.fit(table(60), "y", settings=SETTINGS)


def test_half_of_a_test_table_of_an_unknown_class_halves_the_accuracy(model: polymodal.Model) -> None:
    """The finding: accuracy 1.000 "on 40 test rows", of which 20 have a class that training never saw."""
    test = table(40, [*table(20)["y"], *["zzz"] * 20])
    with pytest.warns(BadCellsWarning):
        score = model.evaluate(test)["y"]["accuracy"]
    known = model.evaluate(table(20))["y"]["accuracy"]
    assert score["value"] == known["value"] / 2
    assert (score["rows"], score["unknown_class_rows"], score["left_out"]) == (40, 20, {})
    scored = polymodal.fit(table(60), "y", test=test, settings=SETTINGS).metrics["test"]["y"]["accuracy"]
    assert (scored["rows"], scored["unknown_class_rows"]) == (40, 20)
    assert scored["value"] <= 0.5


@pytest.mark.parametrize("labels", [[None] * 8, [["x"]] * 8, ["zzz"] * 8])
def test_a_table_without_a_usable_target_is_refused(model: polymodal.Model, labels: list[Any]) -> None:
    with pytest.raises(DataError, match=r"column 'y'.*no row has a usable target.*8 "):
        model.evaluate(table(8, labels))
    for part in ("validation", "test"):
        with pytest.raises(DataError, match=f"no {part} row has a usable target"):
            polymodal.fit(table(60), "y", settings=SETTINGS, **{part: table(8, labels)})


def test_weights_that_are_all_zero_are_refused() -> None:
    data = table(60) | {"w": [0.0] * 60}
    with pytest.raises(DataError, match="of weight 0"):
        polymodal.fit(data, "y", settings=[*SETTINGS, "data.weight_column=w"])


@pytest.mark.parametrize(("key", "column"), [("data.weight_column", "w"), ("data.split.group_column", "g")])
def test_a_missing_weight_or_group_column_is_refused_alike(key: str, column: str) -> None:
    data = table(60) | {column: [1.0 + row // 4 for row in range(60)]}
    trained = polymodal.fit(data, "y", settings=[*SETTINGS, f"{key}={column}"])
    assert trained.evaluate(data)["y"]["accuracy"]["rows"] == 60
    with pytest.raises(DataError, match=f"'{column}'"):
        trained.evaluate(table(20))
