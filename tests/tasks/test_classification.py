"""Classification: labels keep their type, bad labels are gaps, the loss is the stated one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from polymodal.core.errors import DataError, RecipeError
from polymodal.core.registry import find
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.sample import ColumnSample
from polymodal.recipe.data import LimitOptions
from polymodal.tasks.classification import ClassificationTask
from polymodal.tasks.multilabel_classification import MultilabelClassificationTask
from polymodal.tasks.regression import RegressionTask

torch.set_num_threads(1)


def block(cells: Any, faults: CellErrors | None = None) -> RowBlock:
    return RowBlock({"y": cells}, np.arange(100, 100 + len(cells)), None, "t", faults or CellErrors(), LimitOptions())


def fitted(cells: Any, **options: Any) -> ClassificationTask:
    task = ClassificationTask(ClassificationTask.Options(**options), columns=["y"])
    task.fit(iter([block(cells)]))
    return task


def sample(values: list[Any]) -> ColumnSample:
    return ColumnSample("y", values, None, len(values), len(values), 0, None)


@pytest.mark.parametrize(
    "cells",
    [["b", "a", None, "b"], [True, False, True], [3, -1, 3, None, 10], [0.0, 1.0, None], [1, "1", True, "x"]],
)
def test_labels_keep_their_type_through_prediction_and_saving(cells: list[Any]) -> None:
    task = fitted(cells)
    again = ClassificationTask(ClassificationTask.Options(), columns=["y"])
    again.load(json.loads(json.dumps(task.save())))
    for one in (task, again):
        value, present = one.prepare(block(cells))
        np.testing.assert_array_equal(present, [cell is not None for cell in cells])
        answers = one.predict(np.eye(one.output_size)[value])
        for cell, answer in zip(cells, answers, strict=True):
            if cell is not None:
                assert (answer, type(answer)) == (cell, type(cell))
    assert (again.classes, again.baseline_loss(), again.notes) == (task.classes, task.baseline_loss(), task.notes)


def test_arrow_columns_and_dictionaries() -> None:
    cells = pa.array(["x", "y", None, "x"]).dictionary_encode()
    task = fitted(cells)
    value, present = task.prepare(block(cells))
    assert value.tolist() == [0, 1, 0, 0]
    assert present.tolist() == [True, True, False, True]


def test_unseen_labels_and_nan_are_cell_errors_and_null_is_missing() -> None:
    task, faults = fitted(["a", "b"]), CellErrors()
    value, present = task.prepare(block(["a", "zebra", None, math.nan, ["a"], "b"], faults))
    assert present.tolist() == [True, False, False, False, False, True]
    assert np.maximum(value, 0).tolist() == task.collate(value).tolist() == [0, 0, 0, 0, 0, 1]
    assert task.scored_rows(value, present).tolist() == [True, True, False, False, False, True]
    assert [fault.row for fault in faults.errors] == [101, 103, 104]
    assert "zebra" in faults.errors[0].reason
    with pytest.raises(DataError, match="row 101"):
        task.prepare(block(["a", "zebra"], CellErrors(strict=True)))


def test_unknown_classes_are_numbered_after_the_known_ones() -> None:
    task = fitted(["a", "b"])
    value, present = task.prepare(block(["zebra", "a", "yak", "b", "zebra"], CellErrors()))
    truth = task.truth(value).tolist()
    assert (truth[1], truth[3]) == (0, 1)
    assert truth[0] == truth[4]
    assert {truth[0], truth[2]} == {2, 3}
    assert task.truth(value[present]).tolist() == [0, 1]


def test_bad_labels_do_not_become_classes() -> None:
    assert fitted(["a", math.nan, {"c": 1}, "b"]).labels.values == ["a", "b"]


@pytest.mark.parametrize("cells", [["a", "a", None], [None, None], [math.nan, 1.0], []])
def test_fewer_than_two_classes_is_an_error(cells: list[Any]) -> None:
    with pytest.raises(DataError, match=r"column 'y'.*two classes"):
        fitted(cells)


def test_a_class_with_one_row_works_and_is_noted() -> None:
    task = fitted(["cat"] * 5 + ["zebra"])
    assert task.notes == ["class 'zebra' has 1 training row"]
    assert fitted(list("abcdef")).notes == ["6 classes have 1 training row each, such as 'a'"]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", ["none", "balanced", {"a": 3.0, "c": 0.5}])
def test_loss_equals_torch_and_the_baseline_is_the_best_constant(weights: Any, smoothing: float) -> None:
    cells = ["a"] * 20 + ["b"] * 7 + ["c"] * 3
    task = fitted(cells, class_weights=weights, label_smoothing=smoothing)
    target = torch.from_numpy(task.prepare(block(cells))[0])
    shares = np.array([20, 7, 3]) / 30
    raw = {"none": np.ones(3), "balanced": 1 / shares}.get(weights if isinstance(weights, str) else "")
    raw = np.array([3.0, 1.0, 0.5]) if raw is None else raw
    scaled = torch.tensor(raw / (shares @ raw), dtype=torch.float32)
    values = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    expected = functional.cross_entropy(values, target, weight=scaled, label_smoothing=smoothing, reduction="none")
    found = task.loss(values.bfloat16(), target)
    assert found.shape == (30,)
    assert found.dtype == torch.float32
    torch.testing.assert_close(task.loss(values, target), expected)

    grid = torch.linspace(0.005, 0.99, 198)
    p, q = (axis.flatten() for axis in torch.meshgrid(grid, grid, indexing="ij"))
    constants = torch.stack([p, q, 1 - p - q], dim=1)[p + q < 0.999].log()
    by_class = [share * task.loss(constants, torch.full((len(constants),), c)) for c, share in enumerate(shares)]
    best = float(torch.stack(by_class).sum(0).min())
    assert best - 2e-3 < task.baseline_loss() <= best + 1e-6


def test_class_weights_by_name_of_numbers_and_booleans() -> None:
    options = ClassificationTask.Options(class_weights={True: 4.0, False: 1.0})
    assert ClassificationTask.Options.model_validate_json(options.model_dump_json()) == options
    task = fitted([True, False], class_weights={True: 4.0})
    assert task.weights[1] / task.weights[0] == pytest.approx(4)
    assert fitted([1, 2], class_weights={2: 3.0}).weights.tolist() == [0.5, 1.5]


def test_wrong_options_say_what_is_wrong() -> None:
    with pytest.raises(RecipeError, match=r"class_weights.*did you mean 'cat'"):
        fitted(["cat", "dog"], class_weights={"cats": 2.0})
    with pytest.raises(RecipeError, match="exactly one column"):
        ClassificationTask(ClassificationTask.Options(), columns=["y", "z"])
    for wrong in ({"class_weights": {"a": 0.0}}, {"class_weights": "rare"}, {"label_smoothing": 1.0}):
        with pytest.raises(ValidationError):
            ClassificationTask.Options(**wrong)


def test_distribution_and_constant() -> None:
    task = fitted(["a"] * 3 + ["b"])
    values = torch.tensor([[0.0, math.log(3)]], requires_grad=True)
    np.testing.assert_allclose(task.distribution(values), [[0.25, 0.75]])
    np.testing.assert_allclose(task.baseline_prediction(), [0.75, 0.25])
    assert task.baseline_loss() == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))


def test_balanced_weights_make_balanced_accuracy_lead() -> None:
    assert fitted(["a", "b"]).metrics[0].name == "accuracy"
    assert fitted(["a", "b"], class_weights="balanced").metrics[0].name == "balanced_accuracy"


def leader(values: list[Any]) -> str:
    """The task with the highest confidence for a column of these values."""
    guesses = {task.Options.model_fields["name"].default: task.match_column(sample(values)) for task in TASKS}
    return max((guess.confidence, name) for name, guess in guesses.items() if guess is not None)[1]


TASKS = [ClassificationTask, MultilabelClassificationTask, RegressionTask]


def columns() -> Iterator[tuple[str, list[Any]]]:
    rng = np.random.default_rng(0)
    yield "classification", ["yes", "no"] * 500
    yield "classification", [True, False] * 10
    yield "classification", rng.integers(5, size=500).tolist()
    yield "classification", [0.0, 1.0] * 100
    yield "classification", [0, 1, 1, 0]
    yield "multilabel_classification", [["a", "b"], ["c"], []] * 50
    yield "multilabel_classification", ["drama|war", "war", "comedy|drama"] * 50
    yield "regression", rng.normal(size=500).tolist()
    yield "regression", rng.integers(1000, size=500).tolist()
    yield "regression", [3, 9, 4, 1, 7]


@pytest.mark.parametrize(("expected", "values"), list(columns()))
def test_the_right_task_recognises_its_column(expected: str, values: list[Any]) -> None:
    assert leader(values) == expected


def test_recognition_gives_its_reason_and_declines_the_impossible() -> None:
    guess = ClassificationTask.match_column(sample(["a", "b", "c", "a"] * 500))
    assert guess is not None
    assert guess.reason == "3 distinct strings in 2,000 sampled cells"
    assert ClassificationTask.match_column(sample([0.5, 1.5])) is None
    assert ClassificationTask.match_column(sample([["a"]])) is None
    assert RegressionTask.match_column(sample(["007", "8"])) is None
    assert MultilabelClassificationTask.match_column(sample([1, 2])) is None
    assert all(task.match_column(sample([])) is None for task in TASKS)


def test_the_registry_finds_the_tasks() -> None:
    assert [find("task", name) for name in ("classification", "multilabel_classification", "regression")] == TASKS
