"""The losses of objectives on held-out rows, which select the best epoch of a model without targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from polymodal.distributed.world import SINGLE, World
from polymodal.nn.network import Network
from polymodal.nn.objectives.base import ObjectiveBatch

#: By `objective.term`: the mean loss, and the mean loss of a constant prediction.
ObjectiveLosses = dict[str, tuple[float, float]]


def mean_losses(network: Network, steps: Iterable[ObjectiveBatch], world: World = SINGLE) -> ObjectiveLosses:
    """The loss of every objective by `objective.term`, averaged over the rows of `steps`; with several processes over
    the steps of all."""
    sums: dict[str, np.ndarray] = {}
    for step in steps:
        for name, terms in network.objective_losses(step).items():
            for term in terms:
                counted = np.array([float(term.loss), term.baseline, 1.0]) * term.num_values
                key = f"{name}.{term.name}"
                sums[key] = sums.get(key, np.zeros(3)) + counted
    every: dict[str, np.ndarray] = {}
    for own in world.gather({name: counted.tolist() for name, counted in sums.items()}):
        every |= {name: every.get(name, np.zeros(3)) + np.array(counted) for name, counted in own.items()}
    return {
        name: (float(loss / rows), float(baseline / rows)) for name, (loss, baseline, rows) in every.items() if rows
    }


def objective_score(network: Network, weights: Mapping[str, float], losses: ObjectiveLosses) -> float:
    """The score of objective losses, greater is better: the negative weighted sum of the ratios of loss to baseline."""
    by_objective: dict[str, list[float]] = {}
    names = sorted(network.objectives, key=len, reverse=True)  # `contrastive.2` before `contrastive`
    for key, (loss, baseline) in losses.items():
        name = next(name for name in names if key.startswith(f"{name}."))
        by_objective.setdefault(name, []).append(loss / max(baseline, 1e-6))
    return -sum(weights[name] * float(np.mean(own)) for name, own in by_objective.items())
