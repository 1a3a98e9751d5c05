"""The losses of objectives on rows that are not trained on, by which epochs are compared where there is no target."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch

from polymodal.data.sampler import BatchSampler
from polymodal.inference.inference import grouping
from polymodal.nn.network import Network
from polymodal.nn.objectives.base import Step
from polymodal.nn.towers import InputTokens
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.runtime.compute import Machine

#: By objective and term: the mean loss, and the mean loss of knowing nothing.
Pretext = dict[str, tuple[float, float]]


def objective_losses(
    network: Network,
    preparation: Preparation,
    prepared: PreparedTable,
    rows: np.ndarray,
    *,
    machine: Machine,
    batch: int,
    group_rows: bool = True,
) -> Pretext:
    """The loss of every objective on `rows` by `objective.term`, in evaluation mode, with the same batches and the same
    draws at every call; empty where the network has no objective or no row has what they learn from.

    batch: rows in a batch, as in training: a contrastive loss grows with the number of candidates
    """
    if not network.objectives:
        return {}
    training = network.training
    network.eval()
    shared, lengths = grouping(prepared, rows)
    batches = BatchSampler(
        rows, batch, 0, group=shared if group_rows and not network.contrasts else None, lengths=lengths
    ).epoch(0)
    sums: dict[str, np.ndarray] = {}
    with torch.inference_mode(), machine.active(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for places in batches:
            one = preparation.batch(prepared, places)
            again = partial(preparation.batch, prepared, places, augment=True)
            for name, terms in network.terms(Step(network, one, InputTokens(network.towers, one), again)).items():
                for term in terms:
                    counted = np.array([float(term.loss), term.chance, 1.0]) * term.rows
                    key = f"{name}.{term.name}"
                    sums[key] = sums.get(key, np.zeros(3)) + counted
    network.train(training)
    return {name: (float(loss / rows), float(chance / rows)) for name, (loss, chance, rows) in sums.items() if rows}


def pretext_score(network: Network, weights: Mapping[str, float], losses: Pretext) -> float:
    """How good these losses are, greater is better: minus their weighted sum, each in units of its loss at chance."""
    by_objective: dict[str, list[float]] = {}
    names = sorted(network.objectives, key=len, reverse=True)  # `contrastive.2` before `contrastive`
    for key, (loss, chance) in losses.items():
        name = next(name for name in names if key.startswith(f"{name}."))
        by_objective.setdefault(name, []).append(loss / max(chance, 1e-6))
    return -sum(weights[name] * float(np.mean(own)) for name, own in by_objective.items())
