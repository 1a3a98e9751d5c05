"""Calibration of raw predictions on held-out rows: temperatures of classes and labels, shrinkage of numbers."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax, ndtri

from polymodal.estimators.base import EstimatorTarget
from polymodal.inference.combination import TINY, Calibration
from polymodal.training.temperature import MAX_TEMPERATURE, MIN_TEMPERATURE, best_temperature

#: Bounds of the power of the spread of a row; above -1 a larger spread gives a larger confidence.
MIN_POWER, MAX_POWER = -0.9, 2.0
#: With fewer rows, a temperature or a power is not fitted.
MIN_ROWS, MIN_POWER_ROWS = 30, 200


def fit_calibration(values: np.ndarray, target: EstimatorTarget, confidence: float) -> Calibration:
    """The calibration of raw predictions `[rows, k]` with the lowest loss.

    One temperature for all rows (Guo et al., "On Calibration of Modern Neural Networks", 2017), or the shrinkage of
    numbers. The temperature of classes depends on the spread of the values of a row if a paired test over the rows
    finds this better with `confidence`: on texts, the values of a linear model spread more in long texts.
    """
    plain = Calibration(fit_scale(values, target))
    if target.space != "categorical" or len(target) < MIN_POWER_ROWS:
        return plain
    spread = np.log(np.maximum(values.astype(np.float64).std(axis=1), TINY))
    center = float(np.average(spread, weights=target.weight))
    if not spread.std() > 0:
        return plain

    def calibration(point: np.ndarray) -> Calibration:
        power = float(np.clip(point[1], MIN_POWER, MAX_POWER))
        scale = float(np.exp(np.clip(point[0], -np.log(MAX_TEMPERATURE), -np.log(MIN_TEMPERATURE))))
        return Calibration(scale * float(np.exp(-power * center)), power)

    def loss(point: np.ndarray) -> float:
        return float(np.average(row_losses(calibration(point).apply(values), target), weights=target.weight))

    from scipy.optimize import minimize  # slow to import

    start = np.array([np.log(plain.scale), 0.0])
    simplex = start + np.array([[0.0, 0.0], [0.1, 0.0], [0.0, -0.2]])
    found = minimize(
        loss, start, method="Nelder-Mead", options={"initial_simplex": simplex, "xatol": 1e-2, "fatol": 1e-5}
    )
    by_row = calibration(found.x)
    gain = row_losses(plain.apply(values), target) - row_losses(by_row.apply(values), target)
    return by_row if lower_bound(gain, target.weight, confidence) > 0 else plain


def fit_scale(values: np.ndarray, target: EstimatorTarget) -> float:
    """The factor of raw predictions with the lowest loss: 1 / temperature, or the shrinkage of numbers, from 0 to 1;
    1 for few rows."""
    if len(target) < MIN_ROWS:
        return 1.0
    if target.space == "real":
        square = float(target.weight @ np.square(values.astype(np.float64)).sum(1))
        product = float(target.weight @ (values * target.values).sum(1))
        return min(1.0, max(0.0, product / square)) if square else 1.0

    def loss(temperature: float) -> float:
        return float(np.average(row_losses(values / temperature, target), weights=target.weight))

    return 1 / best_temperature(loss)[0]


def row_losses(values: np.ndarray, target: EstimatorTarget) -> np.ndarray:
    """The loss of each row `[rows]`: cross-entropy in nats, mean over labels; or squared error, mean over numbers."""
    values = values.astype(np.float64)
    if target.space == "categorical":
        return -log_softmax(values, axis=-1)[np.arange(len(values)), target.values]
    if target.space == "binary":
        return np.asarray((np.logaddexp(0, values) - values * target.values).mean(1))
    return np.asarray(np.square(values - target.values).mean(1))


def lower_bound(difference: np.ndarray, weight: np.ndarray, confidence: float) -> float:
    """The lower confidence bound of the weighted mean of paired differences of losses, by the normal approximation."""
    share = weight / weight.sum()
    mean = float(share @ difference)
    variance = float(np.square(share) @ np.square(difference - mean))
    return mean - float(ndtri(confidence)) * variance**0.5
