"""Conformal sets of classes and labels, and conformal intervals of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from polymodal.core.errors import RecipeError
from polymodal.tasks.base import Task
from polymodal.uncertainty.calibration_rows import CalibrationRows
from polymodal.uncertainty.nonconformity import aps_scores, conformal_quantile, fewest_rows, lac_scores

Score = Literal["lac", "aps"]
Within = Literal["inputs", "classes", "all"]

#: A group has its own threshold if at least this many of its calibration rows are expected outside of their sets.
MIN_MISSES = 10


@dataclass(frozen=True)
class Conformal:
    """Which sets are wanted.

    coverage: the fraction of rows whose set holds the truth
    score: `lac`, the smallest sets; `aps`, larger sets for harder rows; classes only
    within: where the coverage holds: `inputs`, among the rows with the same inputs present; `classes`, among the rows
        of each true class; `all`, among all rows
    """

    coverage: float
    score: Score = "lac"
    within: Within = "inputs"

    def __post_init__(self) -> None:
        if not 0 < self.coverage < 1:
            raise RecipeError("coverage", f"must be between 0 and 1, not {self.coverage}")

    def check(self, name: str, task: Task, rows: CalibrationRows) -> None:
        """Check that these sets exist for the output `name`.

        Raises:
            RecipeError: the option does not fit the output, or there are too few calibration rows.
        """
        if task.space != "categorical" and self.score != "lac":
            raise RecipeError("score", f"{self.score} needs classes, and the output {name!r} has none; leave it out")
        if task.space != "categorical" and self.within == "classes":
            raise RecipeError("within", f"classes needs classes, and the output {name!r} has none; leave it out")
        if len(rows) < (needed := fewest_rows(self.coverage)):
            raise RecipeError(
                "coverage",
                f"{self.coverage} needs {needed} calibration rows, and the output {name!r} has {len(rows)}; "
                "add rows with Model.calibrate, or ask for less",
            )


@dataclass(frozen=True)
class ConformalAnswers:
    """The set or interval of each row.

    values: classes or labels, the most probable first; or the interval `(low, high)`, a list of them for several
        columns; None in a row without a prediction
    pooled: `[rows]` bool: rows with inputs present that too few calibration rows have, so that the threshold is that
        of all calibration rows
    """

    values: list[Any]
    pooled: np.ndarray


def conformal_answers(
    task: Task, values: Tensor, present: np.ndarray, rows: CalibrationRows, wanted: Conformal
) -> ConformalAnswers:
    """The sets or intervals of raw predictions `[rows, k]`, from calibration rows.

    A set of classes always holds the predicted class, and is therefore right more often than asked if the model is. A
    set of labels holds all labels of a row in the wanted fraction of rows.

    present: `[rows, inputs]` bool
    """
    if task.space == "real":
        thresholds, pooled = group_thresholds(rows.scores, rows.present, present, wanted)
        return ConformalAnswers(_intervals(task, values, thresholds), pooled)
    probabilities = task.distribution(values)
    scores = aps_scores(probabilities) if wanted.score == "aps" else lac_scores(probabilities)
    own = rows.scores[:, 1 if wanted.score == "aps" else 0]
    if wanted.within == "classes":
        thresholds = class_thresholds(own, rows.label, scores.shape[1], wanted.coverage)[None]
        pooled = np.zeros(len(values), dtype=bool)
    else:
        thresholds, pooled = group_thresholds(own[:, None], rows.present, present, wanted)
    inside = scores <= thresholds
    if task.space == "categorical":
        inside[np.arange(len(inside)), probabilities.argmax(1)] = True
    return ConformalAnswers(_sets(task.class_labels, probabilities, inside), pooled)


def group_thresholds(
    scores: np.ndarray, known: np.ndarray, present: np.ndarray, wanted: Conformal
) -> tuple[np.ndarray, np.ndarray]:
    """The threshold of each row and score, `[rows, m]`, and which rows have that of all calibration rows, `[rows]`
    bool, although their own was wanted.

    With `within="inputs"`, a row has the threshold of the calibration rows with the same inputs present (Mondrian
    conformal prediction: Vovk, Gammerman & Shafer, "Algorithmic Learning in a Random World", 2005), if 10 of them are
    expected above it.

    scores: `[calibration rows, m]`; known: `[calibration rows, inputs]`; present: `[rows, inputs]`
    """
    found = np.tile(_quantiles(scores, wanted.coverage), (len(present), 1))
    pooled = np.zeros(len(present), dtype=bool)
    if wanted.within != "inputs":
        return found, pooled
    patterns, group = np.unique(present, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        same, own = (known == pattern).all(axis=1), group.reshape(-1) == number
        if same.all():
            continue
        if same.sum() * (1 - wanted.coverage) >= MIN_MISSES:
            found[own] = _quantiles(scores[same], wanted.coverage)
        else:
            pooled |= own
    return found, pooled


def class_thresholds(scores: np.ndarray, label: np.ndarray, classes: int, coverage: float) -> np.ndarray:
    """The threshold of each class, `[classes]`, from the calibration rows of this class; infinity for a class with too
    few of them, which is then in every set.

    scores, label: `[calibration rows]`
    """
    return np.array([conformal_quantile(scores[label == one], coverage) for one in range(classes)])


def _quantiles(scores: np.ndarray, coverage: float) -> np.ndarray:
    return np.array([conformal_quantile(one, coverage) for one in scores.T])


def _sets(labels: Sequence[Any], probabilities: np.ndarray, inside: np.ndarray) -> list[Any]:
    order = np.argsort(-probabilities, axis=1, kind="stable")
    known = np.isfinite(probabilities).all(axis=1)
    return [
        [labels[at] for at in one if chosen[at]] if is_known else None
        for one, chosen, is_known in zip(order, inside, known, strict=True)
    ]


def _intervals(task: Task, values: Tensor, widths: np.ndarray) -> list[Any]:
    center = values.detach().double().cpu()
    low, high = (task.distribution(center + sign * torch.from_numpy(widths)) for sign in (-1, 1))
    pairs = np.stack([low, high], axis=2).tolist()
    found = [[tuple(pair) for pair in row] for row in pairs]
    known = torch.isfinite(center).all(dim=1).tolist()
    single = len(task.columns) == 1
    return [(row[0] if single else row) if is_known else None for row, is_known in zip(found, known, strict=True)]
