"""Selection of the members of a model on out-of-fold predictions, and calibration of the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import norm

from polymodal.core.types import Space
from polymodal.estimators.base import EstimatorTarget
from polymodal.inference.combination import OutputCombination, from_probabilities, to_probabilities
from polymodal.recipe.ensemble import EnsembleOptions

#: Bounds of the factor of raw predictions: 1 / temperature.
MIN_SCALE, MAX_SCALE = 0.05, 10.0
#: With fewer rows a temperature is not fitted.
MIN_CALIBRATION_ROWS = 30


@dataclass(frozen=True)
class Selection:
    """The combination of an output.

    combination: weights and scales
    losses: by member, the mean loss of its calibrated predictions; of all candidates, also those without a weight
    loss: the mean loss of the combination
    best: the best single member
    """

    combination: OutputCombination
    losses: dict[str, float]
    loss: float
    best: str

    @property
    def is_combined(self) -> bool:
        """Whether several members are combined."""
        return len(self.combination.weights) > 1


def select_members(values: Mapping[str, np.ndarray], target: EstimatorTarget, options: EnsembleOptions) -> Selection:
    """Select and weight the members for one output.

    Each candidate is calibrated: classes and labels by a temperature (Guo et al., 2017), numbers by shrinkage. The
    greedy selection with replacement (Caruana et al., "Ensemble Selection from Libraries of Models", 2004) starts with
    the best member, and adds the member that gives the lowest loss of the average. The combination is kept only if a
    paired test over the rows finds it better than the best member with `options.confidence`; the best member alone is
    returned otherwise. The loss is the cross-entropy of classes or labels, or the squared error of numbers.

    values: by member, raw out-of-fold predictions `[rows, k]` of the rows of `target`
    """
    space = target.space
    scales = {name: fit_scale(one, target) for name, one in values.items()}
    candidates = {name: scales[name] * one for name, one in values.items()}
    losses = {name: row_losses(one, target) for name, one in candidates.items()}
    means = {name: float(np.average(one, weights=target.weight)) for name, one in losses.items()}
    best = min(means, key=lambda name: means[name])
    alone = OutputCombination({best: 1.0}, {best: scales[best]})
    picks = _greedy(candidates, target, best, options)
    if len(picks) < 2:
        return Selection(alone, means, means[best], best)
    total = sum(picks.values())
    weights = {name: count / total for name, count in picks.items()}
    averaged = _average_of(candidates, weights, space)
    scale = fit_scale(averaged, target)
    found = row_losses(scale * averaged, target)
    if _lower_bound(losses[best] - found, target.weight, options.confidence) <= 0:
        return Selection(alone, means, means[best], best)
    combination = OutputCombination(weights, {name: scales[name] for name in weights}, scale)
    return Selection(combination, means, float(np.average(found, weights=target.weight)), best)


def fit_scale(values: np.ndarray, target: EstimatorTarget) -> float:
    """The factor of raw predictions with the lowest loss: 1 / temperature, or the shrinkage of numbers, from 0 to 1;
    1 for few rows."""
    if len(target) < MIN_CALIBRATION_ROWS:
        return 1.0
    if target.space == "real":
        square = float(target.weight @ np.square(values.astype(np.float64)).sum(1))
        product = float(target.weight @ (values * target.values).sum(1))
        return min(1.0, max(0.0, product / square)) if square else 1.0

    def loss(log: float) -> float:
        return float(np.average(row_losses(values * np.exp(log), target), weights=target.weight))

    found = minimize_scalar(loss, bounds=(np.log(MIN_SCALE), np.log(MAX_SCALE)), method="bounded")
    return float(np.exp(found.x))


def row_losses(values: np.ndarray, target: EstimatorTarget) -> np.ndarray:
    """The loss of each row `[rows]`: cross-entropy in nats, mean over labels; or squared error, mean over numbers."""
    values = values.astype(np.float64)
    if target.space == "categorical":
        return -log_softmax(values, axis=-1)[np.arange(len(values)), target.values]
    if target.space == "binary":
        return np.asarray((np.logaddexp(0, values) - values * target.values).mean(1))
    return np.asarray(np.square(values - target.values).mean(1))


def _greedy(
    candidates: Mapping[str, np.ndarray], target: EstimatorTarget, best: str, options: EnsembleOptions
) -> dict[str, int]:
    """How often each member is picked; the counts with the lowest loss of all steps."""
    space = target.space
    probabilities = {name: to_probabilities(one, space) for name, one in candidates.items()}
    picks, total = {best: 1}, probabilities[best].copy()
    lowest, kept = _mean_loss(total, target), dict(picks)
    for count in range(2, options.max_picks + 1):
        trials = {}
        for name, one in probabilities.items():
            if name in picks or len(picks) < options.max_members:
                trials[name] = _mean_loss((total + one) / count, target)
        chosen = min(trials, key=lambda name: trials[name])
        picks[chosen] = picks.get(chosen, 0) + 1
        total += probabilities[chosen]
        if trials[chosen] < lowest:
            lowest, kept = trials[chosen], dict(picks)
    return kept


def _mean_loss(probabilities: np.ndarray, target: EstimatorTarget) -> float:
    values = from_probabilities(probabilities, target.space)
    return float(np.average(row_losses(values, target), weights=target.weight))


def _average_of(candidates: Mapping[str, np.ndarray], weights: Mapping[str, float], space: Space) -> np.ndarray:
    parts = [weight * to_probabilities(candidates[name], space) for name, weight in weights.items()]
    return from_probabilities(np.sum(parts, axis=0), space)


def _lower_bound(difference: np.ndarray, weight: np.ndarray, confidence: float) -> float:
    """The lower confidence bound of the weighted mean of paired differences of losses, by the normal approximation."""
    share = weight / weight.sum()
    mean = float(share @ difference)
    variance = float(np.square(share) @ np.square(difference - mean))
    return mean - float(norm.ppf(confidence)) * variance**0.5
