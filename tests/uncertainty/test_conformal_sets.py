"""Conformal sets hold the truth as often as asked: on average over splits, and in each group that is promised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from polymodal.core.errors import RecipeError
from polymodal.tasks.base import Task
from polymodal.tasks.classification import ClassificationTask
from polymodal.tasks.multilabel_classification import MultilabelClassificationTask
from polymodal.tasks.regression import RegressionTask
from polymodal.uncertainty.calibration_rows import CalibrationRows
from polymodal.uncertainty.conformal_sets import Conformal, conformal_answers

SPLITS, CALIBRATION, ROWS = 200, 1000, 3000
LABELS = ["a", "b", "c", "d"]


def classification() -> Task:
    task = ClassificationTask(ClassificationTask.Options(), columns=["y"])
    task.load({"labels": LABELS, "rows": [1] * 4})
    return task


def drawn_classes(seed: int, rows: int = 6000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Overconfident logits, classes, and which of two inputs are present; rows without the second are harder."""
    draw = np.random.default_rng(seed)
    present = np.stack([np.ones(rows, bool), draw.random(rows) < 0.6], axis=1)
    signal = np.where(present[:, 1], 2.0, 0.7)[:, None]
    label = draw.choice(4, rows, p=[0.4, 0.3, 0.2, 0.1])
    logits = signal * np.eye(4)[label] + draw.normal(size=(rows, 4))
    return (2 * logits).astype(np.float32), label, present


def coverages(task: Task, wanted: Conformal, groups: str) -> dict[Any, float]:
    """The mean coverage over 200 splits into calibration and new rows, of all rows and of each group."""
    values, label, present = drawn_classes(0)
    names = np.array(LABELS, dtype=object)[label]
    group = label if groups == "classes" else present[:, 1].astype(int)
    found: dict[Any, list[float]] = {}
    for split in range(SPLITS):
        order = np.random.default_rng(split).permutation(len(label))
        known, new = order[:CALIBRATION], order[CALIBRATION : CALIBRATION + 1000]
        rows = CalibrationRows.of(task, values[known], label[known], present[known])
        sets = conformal_answers(task, torch.from_numpy(values[new]), present[new], rows, wanted).values
        held = np.array([name in some for name, some in zip(names[new], sets, strict=True)])
        found.setdefault("all", []).append(held.mean())
        for one in np.unique(group):
            found.setdefault(int(one), []).append(held[group[new] == one].mean())
    return {name: float(np.mean(one)) for name, one in found.items()}


@pytest.mark.parametrize("score", ["lac", "aps"])
def test_coverage_is_within_a_point_in_all_rows_and_in_each_pattern_of_inputs(score: Any) -> None:
    found = coverages(classification(), Conformal(0.9, score, "inputs"), "inputs")
    assert set(found) == {"all", 0, 1}
    assert all(abs(one - 0.9) < 0.01 for one in found.values()), found


def test_without_patterns_the_hard_rows_are_covered_less() -> None:
    found = coverages(classification(), Conformal(0.9, "lac", "all"), "inputs")
    assert abs(found["all"] - 0.9) < 0.01
    assert found[0] < 0.87 < 0.91 < found[1]


def test_coverage_is_within_a_point_in_each_class() -> None:
    found = coverages(classification(), Conformal(0.9, "lac", "classes"), "classes")
    assert all(abs(one - 0.9) < 0.01 for one in found.values()), found
    marginal = coverages(classification(), Conformal(0.9, "lac", "all"), "classes")
    assert min(marginal.values()) < 0.89  # a rare class pays for the others without it


def test_intervals_and_sets_of_labels_are_within_a_point() -> None:
    draw = np.random.default_rng(3)
    rows = 6000
    present = np.ones((rows, 1), bool)
    numbers = RegressionTask(RegressionTask.Options(transform="log"), columns=["price"])
    numbers.formats, numbers.mean, numbers.std = [], np.array([3.0]), np.array([2.0])
    center = draw.normal(size=(rows, 1)).astype(np.float32)
    target = (center + draw.standard_t(3, (rows, 1))).astype(np.float32)
    truth = numbers.truth(target)[:, 0]
    labels = MultilabelClassificationTask(MultilabelClassificationTask.Options(), columns=["tags"])
    labels.load({"labels": ["x", "y", "z"], "positives": [1] * 3, "rows": 3})
    logits = draw.normal(size=(rows, 3)).astype(np.float32)
    tags = (draw.random((rows, 3)) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    held: dict[str, list[float]] = {"numbers": [], "labels": []}
    wanted = Conformal(0.8)
    for split in range(SPLITS):
        order = np.random.default_rng(split).permutation(rows)
        known, new = order[:CALIBRATION], order[CALIBRATION : CALIBRATION + 500]
        own = CalibrationRows.of(numbers, center[known], target[known], present[known])
        intervals = conformal_answers(numbers, torch.from_numpy(center[new]), present[new], own, wanted).values
        held["numbers"].append(
            np.mean([low <= y <= high for (low, high), y in zip(intervals, truth[new], strict=True)])
        )
        own = CalibrationRows.of(labels, logits[known], tags[known], present[known])
        sets = conformal_answers(labels, torch.from_numpy(logits[new]), present[new], own, wanted).values
        wholes = [{name for name, has in zip("xyz", row, strict=True) if has} for row in tags[new]]
        held["labels"].append(np.mean([whole <= set(some) for whole, some in zip(wholes, sets, strict=True)]))
    assert all(abs(np.mean(one) - 0.8) < 0.01 for one in held.values()), held


def test_sets_begin_with_the_predicted_class_and_grow_with_the_coverage() -> None:
    task = classification()
    values, label, present = drawn_classes(1, 2000)
    rows = CalibrationRows.of(task, values[:1000], label[:1000], present[:1000])
    new, has = torch.from_numpy(values[1000:]), present[1000:]
    predicted, before = task.predict(task.distribution(new)), [set[str]()] * 1000
    for coverage in (0.3, 0.6, 0.9, 0.99):
        sets = conformal_answers(task, new, has, rows, Conformal(coverage)).values
        assert [one[0] for one in sets] == predicted
        assert all(small <= set(large) for small, large in zip(before, sets, strict=True))
        before = [set(one) for one in sets]


def test_rows_of_a_pattern_without_calibration_rows_are_marked() -> None:
    task = classification()
    values, label, present = drawn_classes(2, 1000)
    rows = CalibrationRows.of(task, values, label, present)
    strange = np.array([[False, True], [True, True]])
    found = conformal_answers(task, torch.from_numpy(values[:2]), strange, rows, Conformal(0.9))
    assert found.pooled.tolist() == [True, False]


def test_too_few_rows_and_wrong_options_are_errors() -> None:
    task = classification()
    values, label, present = drawn_classes(2, 8)
    rows = CalibrationRows.of(task, values, label, present)
    with pytest.raises(RecipeError, match="needs 9 calibration rows, and the output 'y' has 8"):
        Conformal(0.9).check("y", task, rows)
    with pytest.raises(RecipeError, match="coverage: must be between 0 and 1"):
        Conformal(1.0)
    numbers = RegressionTask(RegressionTask.Options(), columns=["price"])
    with pytest.raises(RecipeError, match="aps needs classes"):
        Conformal(0.5, "aps").check("price", numbers, rows)
