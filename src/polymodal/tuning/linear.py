"""Regularized linear models: logistic and ridge regression for classes and labels, ridge regression for numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import expit, logit, logsumexp

from polymodal.tuning.baseline_data import BaselineData, BaselinePrediction, skill_score

#: Inverse penalties of logistic regression and penalties of ridge regression, from strong to weak regularization.
INVERSE_PENALTIES = np.logspace(-2, 3.25, 8)
RIDGE_PENALTIES = np.logspace(2, -5, 15)
#: Factors of the ridge scores of classes before the softmax.
INVERSE_TEMPERATURES = np.array([2.0, 4.0, 8.0, 16.0, 32.0])

RegularizationPath = Callable[[np.ndarray, BaselineData, list[np.ndarray], int], np.ndarray]


def _best_of_path(
    path: RegularizationPath, columns: np.ndarray, data: BaselineData, inner_folds: list[Any], steps: int
) -> tuple[int, float]:
    """The step of a regularization path with the best score on the inner folds, and this score."""
    scores = np.zeros(steps)
    for rows, validation_rows in inner_folds:
        train, validation = data.subset(rows), data.subset(validation_rows)
        path_predictions = path(columns[rows], train, [columns[validation_rows]], steps)
        scores += [
            skill_score(predictions, validation, train.constant_prediction()) * validation.weight.sum()
            for predictions in path_predictions
        ]
    scores /= max(data.weight.sum(), 1e-12)
    best = int(scores.argmax())
    return best, float(scores[best])


def fit_logistic(
    columns: np.ndarray, new: np.ndarray, data: BaselineData, inner_folds: list[Any]
) -> BaselinePrediction:
    """Logistic regression with the penalty chosen on the inner folds."""
    best, score = _best_of_path(_logistic_path, columns, data, inner_folds, len(INVERSE_PENALTIES))
    predictions = _logistic_path(columns, data, [new], best + 1)[-1]
    return BaselinePrediction(predictions, score, (columns.shape[1] + 1) * data.outputs)


def _logistic_path(columns: np.ndarray, data: BaselineData, new: list[np.ndarray], steps: int) -> np.ndarray:
    """Probabilities `[steps, rows, k]` for decreasing penalties, with warm starts.

    Minimizes C sum_i w_i loss_i + |W|^2 / 2 by L-BFGS (Liu and Nocedal, "On the limited memory BFGS method for large
    scale optimization", 1989). The loss is the cross-entropy over classes or the sum of the binary cross-entropies of
    all labels; intercepts are not penalized. A class without rows gets probability 0; a label that all rows or no rows
    have gets its frequency.
    """
    from scipy.optimize import minimize

    constant = data.constant_prediction()
    predictions = np.tile(constant, (steps, len(new[0]), 1))
    active = np.flatnonzero(constant > 0 if data.space == "categorical" else (constant > 0) & (constant < 1))
    weight = (data.weight / data.weight.mean())[:, None]
    target = ((data.truth[:, None] == active) if data.space == "categorical" else data.truth[:, active]).astype(
        np.float64
    )
    # The last row of the weights is the intercept, initialized at the constant prediction.
    x = np.column_stack([columns, np.ones(len(columns))]).astype(np.float64)
    rows = np.column_stack([new[0], np.ones(len(new[0]))]).astype(np.float64)
    link = softmax if data.space == "categorical" else expit
    start = np.zeros((x.shape[1], len(active)))
    start[-1] = np.log(constant[active]) if data.space == "categorical" else logit(constant[active])

    def objective(flat: np.ndarray, inverse: float) -> tuple[float, np.ndarray]:
        weights = flat.reshape(start.shape)
        free = weights.copy()
        free[-1] = 0.0
        logits = x @ weights
        if data.space == "categorical":
            log_partition = logsumexp(logits, axis=1, keepdims=True)
            loss = weight[:, 0] @ (log_partition[:, 0] - (logits * target).sum(1))
            probabilities = np.exp(logits - log_partition)
        else:
            loss = float((weight * (np.logaddexp(0, logits) - logits * target)).sum())
            probabilities = expit(logits)
        slope = inverse * (x.T @ (weight * (probabilities - target))) + free
        # Scaled to the order of 1 for every penalty, so that one tolerance fits all.
        scale = 1 / (inverse * weight.sum())
        return scale * (inverse * float(loss) + 0.5 * float((free**2).sum())), scale * slope.ravel()

    for step, inverse in enumerate(INVERSE_PENALTIES[:steps]):
        options = {"maxiter": 80, "gtol": 1e-4, "ftol": 1e-6}
        scores = minimize(objective, start.ravel(), (float(inverse),), "L-BFGS-B", jac=True, options=options)
        start = scores.x.reshape(start.shape)
        predictions[step][:, active] = link(rows @ start)
    return predictions


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(logits - logsumexp(logits, axis=-1, keepdims=True)))


def fit_ridge(columns: np.ndarray, new: np.ndarray, data: BaselineData, inner_folds: list[Any]) -> BaselinePrediction:
    """Ridge regression with the penalty chosen on the inner folds."""
    best, score = _best_of_path(_ridge_path, columns, data, inner_folds, len(RIDGE_PENALTIES))
    predictions = _ridge_path(columns, data, [new], best + 1)[-1]
    return BaselinePrediction(predictions, score, (columns.shape[1] + 1) * data.outputs)


def _ridge_path(columns: np.ndarray, data: BaselineData, new: list[np.ndarray], steps: int) -> np.ndarray:
    """Numbers `[steps, rows, k]`: w = (X' W X + penalty I)^-1 X' W y, with centered columns and targets, and weights
    that sum to 1."""
    weight = data.weight / data.weight.sum()
    mean, level = weight @ columns, weight @ data.truth
    x, y = (columns - mean).astype(np.float64), data.truth - level
    value, vector = np.linalg.eigh(x.T @ (weight[:, None] * x))
    right, side = vector.T @ (x.T @ (weight[:, None] * y)), (new[0] - mean) @ vector
    shrunk = [side @ (right / (value.clip(0) + penalty)[:, None]) + level for penalty in RIDGE_PENALTIES[:steps]]
    return np.stack(shrunk)


def fit_ridge_classifier(
    columns: np.ndarray, new: np.ndarray, data: BaselineData, inner_folds: list[Any]
) -> BaselinePrediction:
    """Ridge regression on 0/1 indicators of classes or labels, often the best linear model for few rows and many
    columns. Scores s become probabilities by softmax(t s), or for labels by the logistic function of t (s - 1/2). The
    penalty and the inverse temperature t are chosen together on the inner folds."""
    steps = len(RIDGE_PENALTIES) * len(INVERSE_TEMPERATURES)
    best, score = _best_of_path(_ridge_class_path, columns, data, inner_folds, steps)
    return BaselinePrediction(
        _ridge_class_path(columns, data, [new], steps)[best], score, (columns.shape[1] + 1) * data.outputs
    )


def _ridge_class_path(columns: np.ndarray, data: BaselineData, new: list[np.ndarray], steps: int) -> np.ndarray:
    """Probabilities `[steps, rows, k]`: every inverse temperature for each penalty, strongest penalty first.

    A class without rows gets probability 0; a label that all rows or no rows have gets its frequency.
    """
    constant = data.constant_prediction()
    predictions = np.tile(constant, (steps, len(new[0]), 1))
    exclusive = data.space == "categorical"
    active = np.flatnonzero(constant > 0 if exclusive else (constant > 0) & (constant < 1))
    truth = (data.truth[:, None] == active) if exclusive else data.truth[:, active]
    numbers = replace(data, space="real", outputs=len(active), truth=truth.astype(np.float64))
    path_predictions = _ridge_path(columns, numbers, new, len(RIDGE_PENALTIES))
    for step in range(steps):
        scores, inverse_temperature = (
            path_predictions[step // len(INVERSE_TEMPERATURES)],
            INVERSE_TEMPERATURES[step % len(INVERSE_TEMPERATURES)],
        )
        predictions[step][:, active] = (
            softmax(inverse_temperature * scores) if exclusive else expit(inverse_temperature * (scores - 0.5))
        )
    return predictions
