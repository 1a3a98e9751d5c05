"""Penalised linear models: logistic and ridge regression of classes and labels, ridge regression of numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import expit, logit, logsumexp

from polymodal.tuning.baseline_data import BaselinePrediction, BaselineData, skill_score

#: Inverse penalties of logistic regression and penalties of ridge regression, from strong to weak.
INVERSE_PENALTIES = np.logspace(-2, 3.25, 8)
RIDGE_PENALTIES = np.logspace(2, -5, 15)
#: What the ridge scores of classes are multiplied by before the softmax.
INVERSE_TEMPERATURES = np.array([2.0, 4.0, 8.0, 16.0, 32.0])

RegularizationPath = Callable[[np.ndarray, BaselineData, list[np.ndarray], int], np.ndarray]


def _best_of_path(path: RegularizationPath, known: np.ndarray, lesson: BaselineData, inner: list[Any], steps: int) -> tuple[int, float]:
    """The step along a path of penalties that is best on the inner folds, and how good it is."""
    found = np.zeros(steps)
    for rows, held in inner:
        part, rest = lesson.take(rows), lesson.take(held)
        along = path(known[rows], part, [known[held]], steps)
        found += [skill_score(decided, rest, part.constant()) * rest.weight.sum() for decided in along]
    found /= max(lesson.weight.sum(), 1e-12)
    best = int(found.argmax())
    return best, float(found[best])


def fit_logistic(known: np.ndarray, new: np.ndarray, lesson: BaselineData, inner: list[Any]) -> BaselinePrediction:
    best, score = _best_of_path(_logistic_path, known, lesson, inner, len(INVERSE_PENALTIES))
    decided = _logistic_path(known, lesson, [new], best + 1)[-1]
    return BaselinePrediction(decided, score, (known.shape[1] + 1) * lesson.outputs)


def _logistic_path(known: np.ndarray, lesson: BaselineData, new: list[np.ndarray], steps: int) -> np.ndarray:
    """Probabilities `[steps, rows, k]` under ever weaker penalties, each fit begun where the last one ended.

    Least C sum_i w_i loss_i + |W|^2 / 2 by L-BFGS (Liu and Nocedal, "On the limited memory BFGS method for large scale
    optimization", 1989), the loss a cross-entropy over classes or the sum of those of all labels; intercepts are free.
    A class that no row has gets probability 0, a label that all rows or none have its share.
    """
    from scipy.optimize import minimize

    constant = lesson.constant()
    decided = np.tile(constant, (steps, len(new[0]), 1))
    learned = np.flatnonzero(constant > 0 if lesson.space == "categorical" else (constant > 0) & (constant < 1))
    weight = (lesson.weight / lesson.weight.mean())[:, None]
    target = ((lesson.truth[:, None] == learned) if lesson.space == "categorical" else lesson.truth[:, learned]).astype(
        np.float64
    )
    # The last row of the weights is the intercept, which begins at the constant answer.
    x = np.column_stack([known, np.ones(len(known))]).astype(np.float64)
    rows = np.column_stack([new[0], np.ones(len(new[0]))]).astype(np.float64)
    read = softmax if lesson.space == "categorical" else expit
    start = np.zeros((x.shape[1], len(learned)))
    start[-1] = np.log(constant[learned]) if lesson.space == "categorical" else logit(constant[learned])

    def objective(flat: np.ndarray, inverse: float) -> tuple[float, np.ndarray]:
        weights = flat.reshape(start.shape)
        free = weights.copy()
        free[-1] = 0.0
        logits = x @ weights
        if lesson.space == "categorical":
            whole = logsumexp(logits, axis=1, keepdims=True)
            loss = weight[:, 0] @ (whole[:, 0] - (logits * target).sum(1))
            given = np.exp(logits - whole)
        else:
            loss = float((weight * (np.logaddexp(0, logits) - logits * target)).sum())
            given = expit(logits)
        slope = inverse * (x.T @ (weight * (given - target))) + free
        # Of the order of 1 whatever the penalty is, so that one tolerance fits all.
        scale = 1 / (inverse * weight.sum())
        return scale * (inverse * float(loss) + 0.5 * float((free**2).sum())), scale * slope.ravel()

    for step, inverse in enumerate(INVERSE_PENALTIES[:steps]):
        options = {"maxiter": 80, "gtol": 1e-4, "ftol": 1e-6}
        found = minimize(objective, start.ravel(), (float(inverse),), "L-BFGS-B", jac=True, options=options)
        start = found.x.reshape(start.shape)
        decided[step][:, learned] = read(rows @ start)
    return decided


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(logits - logsumexp(logits, axis=-1, keepdims=True)))


def fit_ridge(known: np.ndarray, new: np.ndarray, lesson: BaselineData, inner: list[Any]) -> BaselinePrediction:
    best, score = _best_of_path(_ridge_path, known, lesson, inner, len(RIDGE_PENALTIES))
    decided = _ridge_path(known, lesson, [new], best + 1)[-1]
    return BaselinePrediction(decided, score, (known.shape[1] + 1) * lesson.outputs)


def _ridge_path(known: np.ndarray, lesson: BaselineData, new: list[np.ndarray], steps: int) -> np.ndarray:
    """Numbers `[steps, rows, k]`: w = (X' W X + penalty I)^-1 X' W y, columns and targets centred, weights of sum 1."""
    weight = lesson.weight / lesson.weight.sum()
    mean, level = weight @ known, weight @ lesson.truth
    x, y = (known - mean).astype(np.float64), lesson.truth - level
    value, vector = np.linalg.eigh(x.T @ (weight[:, None] * x))
    right, side = vector.T @ (x.T @ (weight[:, None] * y)), (new[0] - mean) @ vector
    shrunk = [side @ (right / (value.clip(0) + penalty)[:, None]) + level for penalty in RIDGE_PENALTIES[:steps]]
    return np.stack(shrunk)


def fit_ridge_classifier(known: np.ndarray, new: np.ndarray, lesson: BaselineData, inner: list[Any]) -> BaselinePrediction:
    """Ridge regression on a column of 0 and 1 for each class or label; with few rows and many columns often the best
    linear model. Numbers become probabilities by softmax(t s), or for labels by the logistic function of t (s - 1/2):
    penalty and sharpness t are chosen together on the inner folds."""
    steps = len(RIDGE_PENALTIES) * len(INVERSE_TEMPERATURES)
    best, score = _best_of_path(_ridge_class_path, known, lesson, inner, steps)
    return BaselinePrediction(_ridge_class_path(known, lesson, [new], steps)[best], score, (known.shape[1] + 1) * lesson.outputs)


def _ridge_class_path(known: np.ndarray, lesson: BaselineData, new: list[np.ndarray], steps: int) -> np.ndarray:
    """Probabilities `[steps, rows, k]`: every sharpness under each penalty, the strongest penalty first.

    A class that no row has gets probability 0, a label that all rows or none have its share.
    """
    constant = lesson.constant()
    decided = np.tile(constant, (steps, len(new[0]), 1))
    exclusive = lesson.space == "categorical"
    learned = np.flatnonzero(constant > 0 if exclusive else (constant > 0) & (constant < 1))
    truth = (lesson.truth[:, None] == learned) if exclusive else lesson.truth[:, learned]
    numbers = replace(lesson, space="real", outputs=len(learned), truth=truth.astype(np.float64))
    along = _ridge_path(known, numbers, new, len(RIDGE_PENALTIES))
    for step in range(steps):
        scores, sharpness = along[step // len(INVERSE_TEMPERATURES)], INVERSE_TEMPERATURES[step % len(INVERSE_TEMPERATURES)]
        decided[step][:, learned] = softmax(sharpness * scores) if exclusive else expit(sharpness * (scores - 0.5))
    return decided
