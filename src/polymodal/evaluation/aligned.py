"""Distributions of two models side by side: classes in one order."""

from __future__ import annotations

import numpy as np

from polymodal.tasks.base import Task


def aligned(distribution: np.ndarray, task: Task, reference: Task) -> np.ndarray:
    """`distribution [rows, k]` of `task` with its columns in the order of the classes of `reference`, `[rows, k']`.

    A class of `reference` that `task` does not know (no training row of it had one) gets probability 0; a class that
    `reference` does not know is left out.
    """
    if task.classes == reference.classes:
        return distribution
    places = {name: place for place, name in enumerate(task.classes)}
    found = np.zeros((len(distribution), reference.outputs))
    for place, name in enumerate(reference.classes):
        if name in places:
            found[:, place] = distribution[:, places[name]]
    return found


def same_classes(task: Task, reference: Task) -> bool:
    """Whether two tasks are of one kind and know the same classes (or columns), in any order."""
    return task.options.name == reference.options.name and sorted(task.classes) == sorted(reference.classes)
