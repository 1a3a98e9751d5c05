"""Scores of an output: present rows only, JSON-ready, with the floor of the constant answer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn import metrics as reference

from polymodal.core.registry import find
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.evaluation.scores import (
    UNKNOWN_CLASSES,
    baseline_scores,
    output_class_details,
    score_metric,
    score_output,
)
from polymodal.evaluation.targets import OutputTargets
from polymodal.recipe.data import LimitOptions
from polymodal.recipe.evaluation import EvaluationOptions
from polymodal.tasks.base import Task

OPTIONS = EvaluationOptions(bootstrap_samples=50)


def task_and_rows(name: str, train: list[Any], test: list[Any]) -> tuple[Task, OutputTargets]:
    def block(cells: list[Any]) -> RowBlock:
        return RowBlock({"y": cells}, np.arange(len(cells)), None, "t", CellErrors(), LimitOptions())

    component = find("task", name)
    task = component(component.Options(), columns=["y"])
    task.fit(iter([block(train)]))
    cells = block(test)
    value, present = task.prepare(cells)
    unusable = np.isin(cells.rows, [error.row for error in cells.errors.errors])
    return task, OutputTargets(value, present, unusable=unusable)


def test_rows_without_a_target_are_left_out_and_counted() -> None:
    task, targets = task_and_rows("classification", ["a", "a", "a", "b"], ["a", None, "b", ["x"], "a"])
    distribution = np.array([[0.9, 0.1], [0.0, 1.0], [0.2, 0.8], [0.0, 1.0], [0.4, 0.6]])
    scores = score_output(task, distribution, targets, OPTIONS)
    assert scores["accuracy"].value == pytest.approx(2 / 3)
    assert scores["accuracy"].baseline == pytest.approx(2 / 3)
    assert scores["balanced_accuracy"].baseline == pytest.approx(0.5)
    assert scores["roc_auc"].baseline == pytest.approx(0.5)
    assert not scores["log_loss"].greater_is_better
    for score in scores.values():
        assert (score.rows, score.unknown_class_rows) == (3, 0)
        assert score.left_out == {"missing_target": 1, "unusable_target": 1}
    changed = distribution.copy()
    changed[[1, 3]] = 0.5
    assert score_output(task, changed, targets, OPTIONS) == scores
    assert score_metric(task.metrics[0], task, distribution, targets) == scores["accuracy"].value
    weighted = score_output(task, distribution, replace(targets, weight=np.array([1, 9, 0, 9, 2])), OPTIONS)["accuracy"]
    assert weighted.value == pytest.approx(1 / 3)
    assert (weighted.rows, weighted.left_out["zero_weight"]) == (2, 1)
    assert set(scores) == {metric.name for metric in task.metrics}


def test_rows_of_a_class_that_training_did_not_see_are_wrong() -> None:
    cells = ["a", "b", "new", "newer", "new"]
    task, targets = task_and_rows("classification", ["a", "a", "b"], cells)
    distribution = np.array([[0.9, 0.1], [0.2, 0.8], [0.9, 0.1], [0.3, 0.7], [0.8, 0.2]])
    scores = score_output(task, distribution, targets, OPTIONS)
    assert (scores["accuracy"].rows, scores["accuracy"].unknown_class_rows) == (5, 3)
    assert scores["accuracy"].value == scores["accuracy"].baseline + 0.2 == pytest.approx(0.4)
    predicted = task.predict(distribution)
    assert scores["balanced_accuracy"].value == pytest.approx(2 / 4)  # the recall of a, b, new and newer
    assert scores["f1_macro"].value == pytest.approx(reference.f1_score(cells, predicted, average="macro"))
    assert scores["log_loss"].value is not None
    assert scores["log_loss"].value > 20  # three of five rows have the probability 0
    details = output_class_details(task, distribution, targets)
    assert details["classes"] == ["a", "b", UNKNOWN_CLASSES]
    assert details["confusion"] == [[1, 0, 0], [0, 1, 0], [2, 1, 0]]
    assert details["per_class"]["support"] == [1, 1, 3]


def test_scores_and_details_are_json_even_where_undefined() -> None:
    task, targets = task_and_rows("classification", ["a", "b", "c"], ["a", "a", None])
    distribution = np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.1, 0.9, 0.0]])
    scores = score_output(task, distribution, targets, OPTIONS)
    assert scores["roc_auc"].value is None
    assert scores["roc_auc"].low is None
    json.dumps({name: score.model_dump() for name, score in scores.items()}, allow_nan=False)
    found = json.loads(json.dumps(output_class_details(task, distribution, targets), allow_nan=False))
    assert found["classes"] == ["a", "b", "c"]
    assert found["confusion"] == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert found["per_class"]["recall"] == [0.5, None, None]
    assert found["per_class"]["support"] == [2, 0, 0]


def test_no_present_row_at_all() -> None:
    task, targets = task_and_rows("classification", ["a", "b"], [None, None])
    scores = score_output(task, np.full((2, 2), 0.5), targets, OPTIONS)
    assert all(score.value is None and score.baseline is None for score in scores.values())


def test_multilabel_details_have_no_confusion() -> None:
    task, targets = task_and_rows("multilabel_classification", [["a"], ["b"], ["b"]], [["a", "b"], []])
    found = output_class_details(task, np.array([[0.9, 0.4], [0.6, 0.1]]), targets)
    assert found["per_class"]["precision"] == [0.5, None]
    assert "confusion" not in found
    assert baseline_scores(task, targets)["average_precision"] == pytest.approx(0.5)


def test_regression_floor_is_the_training_mean() -> None:
    task, targets = task_and_rows("regression", [0, 2, 4], [1, 3, None])
    scores = score_output(task, np.array([[1.0], [2.0], [99.0]]), targets, OPTIONS)
    assert scores["rmse"].value == pytest.approx(np.sqrt(0.5))
    assert scores["rmse"].baseline == pytest.approx(1)
    assert scores["spearman"].baseline is None
    assert output_class_details(task, np.array([[1.0], [2.0], [99.0]]), targets) == {}


def test_intervals_follow_the_options_and_groups() -> None:
    rng = np.random.default_rng(0)
    task, targets = task_and_rows("classification", ["a", "b"], ["a"] * 200)
    distribution = np.eye(2)[(np.repeat(rng.random(10), 20) < 0.4).astype(int)]

    def width(groups: np.ndarray | None = None, **options: Any) -> float:
        chosen = EvaluationOptions(**options)
        score = score_output(task, distribution, replace(targets, groups=groups), chosen)["accuracy"]
        assert score.low is not None
        assert score.high is not None
        return score.high - score.low

    assert width(bootstrap_samples=200, confidence_level=0.5) < width(bootstrap_samples=200, confidence_level=0.95)
    assert width(np.repeat(np.arange(10), 20), bootstrap_samples=200) > 2 * width(bootstrap_samples=200)
    bare = score_output(task, distribution, targets, EvaluationOptions(bootstrap_samples=0))["accuracy"]
    assert bare.value is not None
    assert bare.low is None


def test_options_are_strict() -> None:
    for wrong in ({"bootstrap_samples": -1}, {"confidence_level": 1.0}, {"unimodal_scores": "all"}, {"samples": 3}):
        with pytest.raises(ValidationError):
            EvaluationOptions(**wrong)
