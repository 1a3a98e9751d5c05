"""Penalised linear models: logistic regression for classes and labels, ridge regression for numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from polymodal.tuning.lesson import Answer, Lesson, quality

#: Inverse penalties of logistic regression and penalties of ridge regression, from strong to weak.
INVERSE = np.logspace(-2, 3.5, 12)
RIDGE = np.logspace(2, -5, 15)

Path = Callable[[np.ndarray, Lesson, list[np.ndarray], int], np.ndarray]


def _best_of_path(path: Path, known: np.ndarray, lesson: Lesson, inner: list[Any], steps: int) -> tuple[int, float]:
    """The step along a path of penalties that is best on the inner folds, and how good it is."""
    found = np.zeros(steps)
    for rows, held in inner:
        part, rest = lesson.take(rows), lesson.take(held)
        along = path(known[rows], part, [known[held]], steps)
        found += [quality(decided, rest, part.constant()) * rest.weight.sum() for decided in along]
    found /= max(lesson.weight.sum(), 1e-12)
    best = int(found.argmax())
    return best, float(found[best])


def logistic(known: np.ndarray, new: np.ndarray, lesson: Lesson, inner: list[Any]) -> Answer:
    best, score = _best_of_path(_logistic_path, known, lesson, inner, len(INVERSE))
    decided = _logistic_path(known, lesson, [new], best + 1)[-1]
    return Answer(decided, score, (known.shape[1] + 1) * lesson.outputs)


def _logistic_path(known: np.ndarray, lesson: Lesson, new: list[np.ndarray], steps: int) -> np.ndarray:
    """Probabilities `[steps, rows, k]` under ever weaker penalties, each fit begun where the last one ended."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    constant, used = lesson.constant(), lesson.weight > 0
    known, weight = known[used], lesson.weight[used] / lesson.weight[used].mean()
    targets = [lesson.truth[used]] if lesson.space == "categorical" else list(lesson.truth[used].T)
    decided = np.tile(constant, (steps, len(new[0]), 1))
    for place, target in enumerate(targets):
        if len(np.unique(target)) < 2:
            continue
        model = LogisticRegression(warm_start=True, max_iter=300, tol=1e-3)
        for step, inverse in enumerate(INVERSE[:steps]):
            model.C = inverse
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(known, target, sample_weight=weight)
            given = model.predict_proba(new[0])
            if lesson.space == "categorical":
                decided[step] = 0.0
                decided[step][:, model.classes_] = given
            else:
                decided[step, :, place] = given[:, 1]
    return decided


def ridge(known: np.ndarray, new: np.ndarray, lesson: Lesson, inner: list[Any]) -> Answer:
    best, score = _best_of_path(_ridge_path, known, lesson, inner, len(RIDGE))
    decided = _ridge_path(known, lesson, [new], best + 1)[-1]
    return Answer(decided, score, (known.shape[1] + 1) * lesson.outputs)


def _ridge_path(known: np.ndarray, lesson: Lesson, new: list[np.ndarray], steps: int) -> np.ndarray:
    """Numbers `[steps, rows, k]`: w = (X' W X + penalty I)^-1 X' W y, columns and targets centred, weights of sum 1."""
    weight = lesson.weight / lesson.weight.sum()
    mean, level = weight @ known, weight @ lesson.truth
    x, y = (known - mean).astype(np.float64), lesson.truth - level
    value, vector = np.linalg.eigh(x.T @ (weight[:, None] * x))
    right, side = vector.T @ (x.T @ (weight[:, None] * y)), (new[0] - mean) @ vector
    shrunk = [side @ (right / (value.clip(0) + penalty)[:, None]) + level for penalty in RIDGE[:steps]]
    return np.stack(shrunk)
