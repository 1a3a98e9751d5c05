"""Selection of the members of a model on out-of-fold predictions, and calibration of the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from polymodal.estimators.base import EstimatorTarget
from polymodal.evaluation.greedy_selection import greedy_selection
from polymodal.experiments.fit_calibration import fit_calibration, lower_bound, row_losses
from polymodal.inference.combination import OutputCombination, average, from_probabilities, to_probabilities
from polymodal.recipe.ensemble import EnsembleOptions


@dataclass(frozen=True)
class Selection:
    """The combination of an output.

    combination: weights and calibrations
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

    Each candidate is calibrated (`fit_calibration`), and so is the combination. The greedy selection
    (`evaluation.greedy_selection`) starts with the best member. The combination is kept only if a paired test over the
    rows finds it better than the best member with `options.confidence`; the best member alone is returned otherwise.
    The loss is the cross-entropy of classes or labels, or the squared error of numbers.

    values: by member, raw out-of-fold predictions `[rows, k]` of the rows of `target`
    """
    calibrations = {name: fit_calibration(one, target, options.confidence) for name, one in values.items()}
    candidates = {name: calibrations[name].apply(one) for name, one in values.items()}
    losses = {name: row_losses(one, target) for name, one in candidates.items()}
    means = {name: float(np.average(one, weights=target.weight)) for name, one in losses.items()}
    best = min(means, key=lambda name: means[name])
    alone = OutputCombination({best: 1.0}, {best: calibrations[best]})
    picks = _greedy(candidates, target, means, options)
    if len(picks) < 2:
        return Selection(alone, means, means[best], best)
    total = sum(picks.values())
    weights = {name: count / total for name, count in picks.items()}
    averaged = average([candidates[name] for name in weights], list(weights.values()), target.space)
    calibration = fit_calibration(averaged, target, options.confidence)
    found = row_losses(calibration.apply(averaged), target)
    if lower_bound(losses[best] - found, target.weight, options.confidence) <= 0:
        return Selection(alone, means, means[best], best)
    combination = OutputCombination(weights, {name: calibrations[name] for name in weights}, calibration)
    return Selection(combination, means, float(np.average(found, weights=target.weight)), best)


def _greedy(
    candidates: Mapping[str, np.ndarray], target: EstimatorTarget, losses: Mapping[str, float], options: EnsembleOptions
) -> dict[str, int]:
    """How often each member is picked."""
    names = sorted(candidates, key=lambda name: losses[name])
    picks = greedy_selection(
        [to_probabilities(candidates[name], target.space) for name in names],
        lambda total, one, share: (1 - share) * total + share * one,
        lambda averaged: -_mean_loss(averaged, target),
        max_members=options.max_members,
        max_picks=options.max_picks,
    )
    return {names[index]: count for index, count in picks.items()}


def _mean_loss(probabilities: np.ndarray, target: EstimatorTarget) -> float:
    values = from_probabilities(probabilities, target.space)
    return float(np.average(row_losses(values, target), weights=target.weight))
