"""The validation score that selects the best epoch, and the notice on few validation rows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from polymodal import fit
from polymodal.data.partition import Split
from polymodal.datasets.planted import make_exclusive_or
from polymodal.inference.predictions import Predictions
from polymodal.tasks.base import Task
from polymodal.tasks.classification import ClassificationTask
from polymodal.tasks.regression import RegressionTask
from polymodal.training.validation import validate

ROWS = 60


def score(task: Task, values: Tensor, target: np.ndarray) -> float:
    table: Any = SimpleNamespace(targets={"y": (target, np.ones(len(target), dtype=bool))})
    split: Split[Any] = Split(table, np.arange(len(target)))
    return validate({"y": task}, {"y": Predictions(values, {}, {})}, split).score


def classes() -> tuple[Task, Tensor, np.ndarray]:
    """Logits that rank most rows rightly, with the same few errors at any scale."""
    task = ClassificationTask(ClassificationTask.Options(), columns=["y"])
    task.load({"labels": ["a", "b", "c"], "rows": [1, 1, 1]})
    draw = np.random.default_rng(0)
    target = draw.integers(0, 3, ROWS)
    values = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(0)) + 2 * torch.eye(3)[target]
    return task, values, target


def test_an_overconfident_epoch_with_the_same_ranking_has_the_same_score() -> None:
    task, values, target = classes()
    assert score(task, 12 * values, target) == pytest.approx(score(task, values, target), abs=1e-3)
    plain = float(task.loss(12 * values, torch.from_numpy(target)).mean())
    assert plain > 2 * float(task.loss(values, torch.from_numpy(target)).mean()), "the loss itself is far worse"


def test_probabilities_that_rank_rows_better_win_at_equal_accuracy() -> None:
    task, values, target = classes()
    worse = values.clone()
    right = worse.argmax(1) == torch.from_numpy(target)
    worse[right] = 0.01 * worse[right]  # still right, but as sure as of its errors or less
    assert (worse.argmax(1) == values.argmax(1)).all()
    assert score(task, 12 * values, target) > score(task, worse, target) + 0.02


def test_numbers_have_no_temperature() -> None:
    task = RegressionTask(RegressionTask.Options(), columns=["y"])
    task.load(
        {
            "mean": [0.0],
            "std": [1.0],
            "target_mean": [0.0],
            "constant_loss": 1.0,
            "notes": [],
            "formats": [{}],
        }
    )
    target = np.random.default_rng(0).normal(size=(ROWS, 1)).astype(np.float32)
    values = torch.from_numpy(target)
    assert score(task, values, target) > score(task, 2 * values, target) + 0.5


@pytest.mark.parametrize(("rows", "told"), [(120, True), (560, False)])
def test_few_validation_rows_are_told(rows: int, told: bool) -> None:
    settings = {
        "training.epochs": 2,
        "training.precision": "fp32",
        "training.num_threads": 1,
        "evaluation.bootstrap_samples": 0,
        "evaluation.unimodal_scores": "none",
        "inputs.a": {"modality": "number", "columns": ["a0", "a1"]},
        "inputs.b": {"modality": "number", "columns": ["b0", "b1"]},
    }
    model = fit(make_exclusive_or(rows, 0), "target", settings=settings)
    found = [notice for notice in model.run.notices if "validation row" in notice]
    assert [f"output 'target' has {rows // 10} validation rows" in notice for notice in found] == [True] * told
