"""With every task, a small network learns a planted target that no constant prediction reaches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from polymodal.core.registry import find
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.recipe.data import LimitOptions

torch.set_num_threads(1)

TRAIN, TEST = 600, 400
FEATURES = np.random.default_rng(3).normal(size=(TRAIN + TEST, 4)).astype(np.float32)
QUADRANT = 2 * (FEATURES[:, 0] > 0) + (FEATURES[:, 1] * FEATURES[:, 2] > 0)

CASES: list[tuple[str, dict[str, Any], list[Any], str, float]] = [
    ("classification", {}, [bool(q % 2) for q in QUADRANT], "accuracy", 0.85),
    ("classification", {}, [int(q) for q in QUADRANT], "accuracy", 0.8),
    (
        "classification",
        {"class_weights": "balanced", "label_smoothing": 0.1},
        ["abcd"[q] for q in QUADRANT],
        "roc_auc",
        0.9,
    ),
    (
        "multilabel_classification",
        {},
        [[n for n, v in zip("abcd", row, strict=True) if v > 0.5] for row in FEATURES],
        "average_precision",
        0.9,
    ),
    (
        "multilabel_classification",
        {"pos_weight": "balanced"},
        ["|".join(n for n, v in zip("ab", row[:2], strict=True) if v > 1) for row in FEATURES],
        "f1_macro",
        0.75,
    ),
    ("regression", {}, (FEATURES[:, 0] * FEATURES[:, 1] * 5 + 100).tolist(), "r2", 0.8),
    ("regression", {"loss": "absolute_error"}, (np.abs(FEATURES[:, 0]) + FEATURES[:, 1]).tolist(), "r2", 0.8),
    (
        "regression",
        {"loss": "huber", "transform": "log"},
        np.exp(2 * FEATURES[:, 0] + 3).tolist(),
        "spearman",
        0.95,
    ),
]


@pytest.mark.parametrize(("name", "options", "cells", "metric", "floor"), CASES)
def test_planted_target(name: str, options: dict[str, Any], cells: list[Any], metric: str, floor: float) -> None:
    component = find("task", name)
    task = component(component.Options(**options), columns=["y"])

    def rows(start: int, stop: int) -> RowBlock:
        return RowBlock({"y": cells[start:stop]}, np.arange(start, stop), None, "t", CellErrors(), LimitOptions())

    task.fit(iter([rows(0, TRAIN)]))
    target = torch.from_numpy(task.prepare(rows(0, TRAIN))[0])
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, task.output_size))
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.01)
    features = torch.from_numpy(FEATURES)
    for _ in range(200):
        loss = task.loss(network(features[:TRAIN]), target).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.7 * task.baseline_loss()

    value, present = task.prepare(rows(TRAIN, TRAIN + TEST))
    assert present.all()
    scores = {one.name: one for one in task.metrics}
    truth, weight = task.truth(value), np.ones(TEST)
    reached = scores[metric].score(task.distribution(network(features[TRAIN:])), truth, weight)
    constant = scores[metric].score(np.tile(task.baseline_prediction(), (TEST, 1)), truth, weight)
    assert reached > floor
    assert not constant > floor
