"""Alignment of the distributions of two models: class order and timeline grid."""

from __future__ import annotations

import numpy as np

from polymodal.core.types import TimeGrid
from polymodal.tasks.base import Task


def reorder_classes(distribution: np.ndarray, task: Task, reference: Task) -> np.ndarray:
    """`distribution [rows, k]` of `task` with its columns in the order of the classes of `reference`, `[rows, k']`.

    A class that `task` does not know (it has no training row) gets probability 0. A class that `reference` does not
    know is removed. Predictions on a timeline are resampled to the cells of `reference`. Texts and images do not
    change.
    """
    if task.is_generative:
        return distribution
    if task.grid is not None and reference.grid is not None:
        return _aligned_timeline(distribution, task, task.grid, reference, reference.grid)
    if task.needs_positions and reference.needs_positions:
        return task.with_labels_of(distribution, reference)
    return _ordered(distribution, task.classes, reference.classes)


def have_same_classes(task: Task, reference: Task) -> bool:
    """Whether two tasks have the same type and the same classes (or columns), in any order."""
    if task.is_generative:
        return reference.space == task.space
    return task.options.name == reference.options.name and sorted(task.classes) == sorted(reference.classes)


def _ordered(distribution: np.ndarray, classes: list[str], wanted: list[str]) -> np.ndarray:
    """The columns `[..., k]` of `classes` in the order of `wanted`."""
    if classes == wanted:
        return distribution
    positions = {name: index for index, name in enumerate(classes)}
    found = np.zeros((*distribution.shape[:-1], len(wanted)))
    for index, name in enumerate(wanted):
        if name in positions:
            found[..., index] = distribution[..., positions[name]]
    return found


def _aligned_timeline(
    distribution: np.ndarray, task: Task, grid: TimeGrid, reference: Task, wanted: TimeGrid
) -> np.ndarray:
    """The mean prediction in each wanted cell; 0 after the end of `grid`."""
    cells = distribution.reshape(len(distribution), grid.frames, -1)
    if grid != wanted:
        edges = np.linspace(0, wanted.seconds, wanted.frames + 1) * grid.frames / grid.seconds
        inside = np.clip(edges[:, None] - np.arange(grid.frames), 0, 1)
        overlap = np.diff(inside, axis=0) / np.diff(edges)[:, None]
        cells = np.einsum("wf,rfk->rwk", overlap, cells)
    return _ordered(cells, task.classes, reference.classes).reshape(len(distribution), -1)
