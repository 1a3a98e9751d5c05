"""The rows of a split that a model predicts best, beside `examples.worst_rows`."""

from __future__ import annotations

import numpy as np

from polymodal.tasks.base import Task


def best_rows(task: Task, distribution: np.ndarray, truth: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Positions of the rows that are right, the surest first: with the right class, with all labels right, or with the
    smallest errors of numbers (the half of the rows with the smaller errors). Other tasks have none.

    distribution, truth: `[rows, ...]`; present: `[rows]` bool
    """
    if task.is_network_only() or not present.any():
        return np.zeros(0, np.int64)
    if task.space == "categorical":
        right, badness = distribution.argmax(axis=1) == truth, -distribution.max(axis=1)
    elif task.space == "binary":
        given = np.where(truth > 0, distribution, 1 - distribution)
        right = ((distribution >= task.threshold) == (truth > 0)).all(axis=1)
        badness = -np.log(np.maximum(given, 1e-12)).sum(axis=1)
    else:
        scale = truth[present].std(axis=0)
        badness = (np.abs(distribution - truth) / np.where(scale > 0, scale, 1.0)).mean(axis=1)
        right = badness <= np.median(badness[present])
    positions = np.flatnonzero(right & present)
    return positions[np.argsort(badness[positions], kind="stable")]
