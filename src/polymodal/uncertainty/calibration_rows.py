"""Calibration rows: how wrong the predictions of rows were that training did not use, of one output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from polymodal.data.partition import Split
from polymodal.preparation.preparation import PreparedTable
from polymodal.tasks.base import Task
from polymodal.uncertainty.nonconformity import aps_scores, lac_scores

#: Calibration rows that are kept; of more, this many at even steps.
MAX_ROWS = 50_000
#: Names of the scores of an output with classes or labels. Numbers have one score for each column.
SCORES = {"categorical": ("lac", "aps"), "binary": ("lac",)}


@dataclass(frozen=True)
class CalibrationRows:
    """The nonconformity scores of rows whose targets are known.

    scores: `[rows, m]` float64. Classes: the scores `lac` and `aps` of the true class. Labels: the score of the least
        probable label that the row has, 0 without labels. Numbers: the absolute error of each column, on the scale of
        the task
    label: `[rows]` int64, the true class; -1 for labels and numbers
    present: `[rows, inputs]` bool, the inputs that the row has
    confidence, correct: `[rows]`, the probability of the predicted class, and whether it is right; 0 and False for
        labels and numbers
    """

    scores: np.ndarray
    label: np.ndarray
    present: np.ndarray
    confidence: np.ndarray
    correct: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def of(cls, task: Task, values: np.ndarray, target: np.ndarray, present: np.ndarray) -> CalibrationRows:
        """The scores of raw predictions `[rows, k]` for prepared targets `[rows, ...]` that are known.

        present: `[rows, inputs]`; rows without a finite prediction are left out
        """
        finite = np.flatnonzero(np.isfinite(values).all(1))
        if len(finite) > MAX_ROWS:
            finite = finite[np.linspace(0, len(finite) - 1, MAX_ROWS).astype(np.int64)]
        values, target, present = values[finite], target[finite], present[finite]
        label, none = np.full(len(values), -1), np.zeros(len(values))
        if task.space == "real":
            errors = np.abs(values.astype(np.float64) - target.reshape(len(values), -1))
            return cls(errors, label, present, none, none.astype(bool))
        probabilities = task.distribution(torch.from_numpy(values))
        if task.space == "binary":
            missed = np.where(target > 0, lac_scores(probabilities), 0.0).max(axis=1, initial=0.0)
            return cls(missed[:, None], label, present, none, none.astype(bool))
        label = target.astype(np.int64)
        rows = np.arange(len(label))
        scores = np.stack([lac_scores(probabilities)[rows, label], aps_scores(probabilities)[rows, label]], axis=1)
        return cls(scores, label, present, probabilities.max(axis=1), probabilities.argmax(axis=1) == label)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, for a file; flags are uint8."""
        named = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: array.astype(np.uint8) if array.dtype == bool else array for name, array in named.items()}

    @classmethod
    def from_arrays(cls, task: Task, inputs: int, arrays: Mapping[str, np.ndarray]) -> CalibrationRows:
        """The inverse of `arrays`.

        Raises:
            ValueError, KeyError: the arrays do not fit the task or the number of inputs.
        """
        given: dict[str, Any] = {one.name: arrays[one.name] for one in fields(cls)}
        count, width = len(given["scores"]), len(SCORES.get(task.space, task.columns))
        shapes = {"scores": (count, width), "present": (count, inputs)}
        for name, array in given.items():
            if array.shape != shapes.get(name, (count,)):
                raise ValueError(f"{name} has the shape {array.shape}, not {shapes.get(name, (count,))}")
        flags = {name: given[name].astype(bool) for name in ("present", "correct")}
        return cls(**given | flags)


def is_calibrated(task: Task) -> bool:
    """Whether an output has calibration rows: classes, labels or numbers, and not texts, events, boxes or images."""
    return task.space in ("categorical", "binary", "real") and not task.is_network_only() and task.grid is None


def known_targets(task: Task, value: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The rows with a target that the task knows, `[rows]` bool: not of a class that training did not see."""
    return present & (value >= 0) if task.space == "categorical" else present


def present_inputs(split: Split[PreparedTable]) -> np.ndarray:
    """Which inputs each row has, `[rows, inputs]` bool."""
    columns = [one.index[split.rows] >= 0 for one in split.table.inputs.values()]
    return np.stack(columns, axis=1) if columns else np.zeros((len(split), 0), dtype=bool)
