"""On-the-fly gradient modulation: slows down the tower of a dominant input, so that the other inputs keep learning."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from polymodal.core.types import Batch
from polymodal.nn.network import Network
from polymodal.nn.towers import EncodedInputs
from polymodal.tasks.base import Task


def unimodal_scores(
    network: Network, encoded: EncodedInputs, batch: Batch, tasks: Mapping[str, Task]
) -> dict[str, float]:
    """The score of each input with all other inputs hidden: the mean of exp(-loss) over rows that have the input and a
    target (for classes, the probability of the true class), averaged over outputs.

    An input without such a row is omitted.
    """
    found = {}
    with torch.no_grad():
        for name in network.inputs:
            hidden = {other: torch.ones_like(batch.rows, dtype=torch.bool) for other in network.inputs if other != name}
            predicted = network.decode(network.fuse(encoded, len(batch), hidden), batch)
            scores = []
            for output, task in tasks.items():
                target = batch.targets[output]
                known = target.present & encoded.tokens[name].present
                if bool(known.any()):
                    values = predicted[output].values[known].float()
                    loss = task.loss(values, target.value[known])
                    counts = task.row_loss_weights(values)
                    scores.append(torch.exp(-(loss if counts is None else loss / counts.clamp_min(1))).mean())
            if scores:
                found[name] = float(torch.stack(scores).mean())
    return found


def modulate_gradients(network: Network, scores: Mapping[str, float], alpha: float, noise: bool) -> dict[str, float]:
    """Scale down the gradient of each dominant tower (Peng et al., "Balanced Multimodal Learning via On-the-fly
    Gradient Modulation", 2022, equations 8 to 11), after `backward` and before the optimizer step.

        rho_m = s_m / mean_{n != m} s_n ;  k_m = 1 - tanh(alpha * rho_m) where rho_m > 1, else 1
        g_m <- k_m g_m + N(0, std(g_m)^2)       noise is added only with `noise`, and only to matrices

    scores: s_m by input, from `unimodal_scores`

    Returns k by input.
    """
    factors = {}
    for name, own in scores.items():
        others = [value for other, value in scores.items() if other != name]
        if not others:
            continue
        ratio = own / max(sum(others) / len(others), 1e-8)
        factor = 1 - float(torch.tanh(torch.tensor(alpha * ratio))) if ratio > 1 else 1.0
        factors[name] = factor
        for parameter in network.towers[name].parameters():
            if parameter.grad is None:
                continue
            spread: Tensor = parameter.grad.std() if noise and parameter.ndim > 1 else parameter.grad.new_zeros(())
            parameter.grad.mul_(factor)
            if float(spread) > 0:
                parameter.grad.add_(torch.randn_like(parameter.grad) * spread)
    return factors
