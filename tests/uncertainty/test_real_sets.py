"""The coverage of sets and intervals on real tables, over 200 splits into calibration and new rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits, load_wine
from sklearn.linear_model import LogisticRegression, Ridge

from polymodal.tasks.base import Task
from polymodal.tasks.classification import ClassificationTask
from polymodal.tasks.regression import RegressionTask
from polymodal.uncertainty.calibration_rows import CalibrationRows
from polymodal.uncertainty.conformal_sets import Conformal, Score, conformal_answers

SPLITS = 200


def covered(task: Task, values: np.ndarray, target: np.ndarray, wanted: Conformal) -> float:
    """The mean coverage of half of the rows, calibrated on the other half."""
    present = np.ones((len(values), 1), bool)
    found = []
    for split in range(SPLITS):
        order = np.random.default_rng(split).permutation(len(values))
        known, new = np.array_split(order, 2)
        rows = CalibrationRows.of(task, values[known], target[known], present[known])
        answers = conformal_answers(task, torch.from_numpy(values[new]), present[new], rows, wanted).values
        if task.space == "real":
            low, high = np.array(answers).T
            truth = task.truth(target[new])[:, 0]
            found.append(np.mean((low <= truth) & (truth <= high)))
        else:
            found.append(
                np.mean([task.class_labels[at] in some for at, some in zip(target[new], answers, strict=True)])
            )
    return float(np.mean(found))


@pytest.mark.parametrize("score", ["lac", "aps"])
@pytest.mark.parametrize("name", ["digits", "wine"])
def test_sets_of_real_classes_are_within_a_point(name: str, score: Score) -> None:
    """A few columns only, as a set is right more often than asked if the model itself is."""
    X, y = (load_digits if name == "digits" else load_wine)(return_X_y=True)
    X = X[:, 8:26:3] if name == "digits" else X[:, 1:4:2]
    train = np.random.default_rng(0).random(len(y)) < 0.3
    model = LogisticRegression(max_iter=2000).fit(X[train], y[train])
    assert model.score(X[~train], y[~train]) < 0.85
    task = ClassificationTask(ClassificationTask.Options(), columns=["y"])
    classes = [str(one) for one in model.classes_]
    task.load({"labels": classes, "rows": [1] * len(classes)})
    values = model.predict_log_proba(X[~train]).astype(np.float32)
    rows = len(values) // 2
    found = covered(task, values, y[~train], Conformal(0.9, score))
    assert -0.01 < found - 0.9 < 0.01 + 1 / rows, found  # by rounding up, a small set is covered up to 1 / rows more


def test_intervals_of_real_numbers_are_within_a_point() -> None:
    X, y = load_diabetes(return_X_y=True)
    train = np.random.default_rng(0).random(len(y)) < 0.3
    task = RegressionTask(RegressionTask.Options(), columns=["y"])
    task.formats, task.mean, task.std = [], np.array([y.mean()]), np.array([y.std()])
    model = Ridge(alpha=0.1).fit(X[train], (y[train] - y.mean()) / y.std())
    values = model.predict(X[~train])[:, None].astype(np.float32)
    target = ((y[~train] - y.mean()) / y.std())[:, None].astype(np.float32)
    assert abs(covered(task, values, target, Conformal(0.9)) - 0.9) < 0.01
