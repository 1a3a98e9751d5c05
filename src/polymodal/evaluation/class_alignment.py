"""Distributions of two models side by side: classes in one order, timelines in the same cells."""

from __future__ import annotations

import numpy as np

from polymodal.core.types import TimeGrid
from polymodal.tasks.base import Task


def reorder_classes(distribution: np.ndarray, task: Task, reference: Task) -> np.ndarray:
    """`distribution [rows, k]` of `task` with its columns in the order of the classes of `reference`, `[rows, k']`.

    A class of `reference` that `task` does not know (no training row of it had one) gets probability 0; a class that
    `reference` does not know is left out. Decisions on a timeline are moved to the cells of `reference`. Texts stay.
    """
    if task.is_generative:
        return distribution
    if task.grid is not None and reference.grid is not None:
        return _aligned_timeline(distribution, task, task.grid, reference, reference.grid)
    return _ordered(distribution, task.classes, reference.classes)


def have_same_classes(task: Task, reference: Task) -> bool:
    """Whether two tasks are of one kind and know the same classes (or columns), in any order."""
    if task.is_generative:
        return reference.is_generative
    return task.options.name == reference.options.name and sorted(task.classes) == sorted(reference.classes)


def _ordered(distribution: np.ndarray, classes: list[str], wanted: list[str]) -> np.ndarray:
    """The columns `[..., k]` of `classes` in the order of `wanted`."""
    if classes == wanted:
        return distribution
    places = {name: place for place, name in enumerate(classes)}
    found = np.zeros((*distribution.shape[:-1], len(wanted)))
    for place, name in enumerate(wanted):
        if name in places:
            found[..., place] = distribution[..., places[name]]
    return found


def _aligned_timeline(distribution: np.ndarray, task: Task, grid: TimeGrid, reference: Task, wanted: TimeGrid) -> np.ndarray:
    """The mean over each wanted cell of what was decided for that time; nothing happens after the end of `grid`."""
    cells = distribution.reshape(len(distribution), grid.frames, -1)
    if grid != wanted:
        edges = np.linspace(0, wanted.seconds, wanted.frames + 1) * grid.frames / grid.seconds
        inside = np.clip(edges[:, None] - np.arange(grid.frames), 0, 1)
        overlap = np.diff(inside, axis=0) / np.diff(edges)[:, None]
        cells = np.einsum("wf,rfk->rwk", overlap, cells)
    return _ordered(cells, task.classes, reference.classes).reshape(len(distribution), -1)
