"""The penalty of a linear model with the smallest loss on held-out rows, along a path of penalties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from polymodal.estimators.base import EstimatorTarget
from polymodal.estimators.design_matrix import Coefficients, DesignMatrix, raw_predictions
from polymodal.estimators.penalized_models import linear_path, row_losses

#: A path has at least this number of penalties.
MIN_STEPS = 3


class LinearFold(NamedTuple):
    """The columns and targets of the rows that are fitted, and of the rows that are held out."""

    train: DesignMatrix
    train_target: EstimatorTarget
    held_out: DesignMatrix
    held_out_target: EstimatorTarget


@dataclass(frozen=True)
class PenaltyChoice:
    """The chosen penalties, and what they give.

    penalties: for each value of a prediction, `[size]`; infinite for the constant prediction
    loss: the held-out loss of each value, `[size]`
    raw: by fold, the raw predictions of the held-out rows
    coefficients: by fold
    """

    penalties: np.ndarray
    loss: np.ndarray
    raw: list[np.ndarray]
    coefficients: list[Coefficients]


def choose_penalties(folds: Sequence[LinearFold], penalties: Sequence[float], patience: int) -> PenaltyChoice:
    """The best of `penalties` and of an infinite penalty: one for all classes or labels, one for each number.

    The path ends after `patience` penalties without a smaller loss.
    """
    held = [fold.held_out_target for fold in folds]
    size = held[0].size
    best = PenaltyChoice(np.full(size, np.inf), np.full(size, np.inf), [], [])
    for fold in folds:
        constant = np.zeros((fold.train.shape[1] + 1, size), np.float32)
        constant[-1] = fold.train_target.constant()
        best.coefficients.append(constant)
        best.raw.append(raw_predictions(fold.held_out, constant))
    best = PenaltyChoice(best.penalties, _held_out_loss(best.raw, held), best.raw, best.coefficients)
    paths = [linear_path(fold.train, fold.train_target, penalties) for fold in folds]
    waited = np.zeros(size, int)
    for step, penalty in enumerate(penalties):
        coefficients = [next(path) for path in paths]
        raw = [raw_predictions(fold.held_out, one) for fold, one in zip(folds, coefficients, strict=True)]
        loss = _held_out_loss(raw, held)
        better = loss < best.loss
        if better.any():
            best = PenaltyChoice(
                np.where(better, penalty, best.penalties),
                np.where(better, loss, best.loss),
                [np.where(better, new, old) for new, old in zip(raw, best.raw, strict=True)],
                [np.where(better, new, old) for new, old in zip(coefficients, best.coefficients, strict=True)],
            )
        waited = np.where(better, 0, waited + 1)
        if step >= MIN_STEPS and (waited >= patience).all():
            break
    return best


def fit_with_penalties(x: DesignMatrix, target: EstimatorTarget, chosen: np.ndarray) -> Coefficients:
    """The coefficients for the chosen penalty of each value of the target `[size]`."""
    coefficients = np.zeros((x.shape[1] + 1, target.size), np.float32)
    coefficients[-1] = target.constant()
    penalties = sorted({penalty for penalty in chosen.tolist() if np.isfinite(penalty)}, reverse=True)
    for penalty, fitted in zip(penalties, linear_path(x, target, penalties), strict=True):
        coefficients[:, chosen == penalty] = fitted[:, chosen == penalty]
    return coefficients


def _held_out_loss(raw: Sequence[np.ndarray], held: Sequence[EstimatorTarget]) -> np.ndarray:
    """The weighted mean loss over the rows of all folds, `[size]`: the same for all classes or labels."""
    losses = [rows.weight @ row_losses(one, rows) for one, rows in zip(raw, held, strict=True)]
    total = np.sum(losses, axis=0) / sum(rows.weight.sum() for rows in held)
    return total if held[0].space == "real" else np.full(held[0].size, total.mean())
