"""On-the-fly gradient modulation: slows down the tower of a dominant input, so that the other inputs keep learning."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from polymodal.core.types import Batch
from polymodal.distributed.world import SINGLE, World
from polymodal.nn.network import Network
from polymodal.nn.towers import EncodedInputs
from polymodal.recipe.training import ModalityBalancingOptions
from polymodal.tasks.base import Task


def compares_inputs(options: ModalityBalancingOptions) -> bool:
    """Whether each step compares the inputs of the batch with one another."""
    return options.method in ("ogm", "ogm_ge")


def balance_modalities(
    network: Network,
    encoded: EncodedInputs,
    batch: Batch,
    tasks: Mapping[str, Task],
    options: ModalityBalancingOptions,
    world: World = SINGLE,
) -> None:
    """Scale down the gradients of dominant towers, if the recipe says so."""
    if not compares_inputs(options) or not tasks:
        return
    scores = unimodal_scores(network, encoded, batch, tasks, world)
    modulate_gradients(network, scores, options.alpha, options.method == "ogm_ge", world)


def unimodal_scores(
    network: Network, encoded: EncodedInputs, batch: Batch, tasks: Mapping[str, Task], world: World = SINGLE
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
                if world.total(known.sum()):
                    values, wanted = predicted[output].values[known].float(), target.value[known]
                    if task.compares_rows:
                        values, wanted = world.gather_rows(values), world.gather_rows(wanted)
                    loss = task.loss(values, wanted)
                    counts = task.row_loss_weights(values)
                    score = torch.exp(-(loss if counts is None else loss / counts.clamp_min(1)))
                    scores.append(score.mean() if task.compares_rows else world.sum(world.mean(score)))
            if scores:
                found[name] = float(torch.stack(scores).mean())
    return found


def modulate_gradients(
    network: Network, scores: Mapping[str, float], alpha: float, noise: bool, world: World = SINGLE
) -> dict[str, float]:
    """Scale down the gradient of each dominant tower (Peng et al., "Balanced Multimodal Learning via On-the-fly
    Gradient Modulation", 2022, equations 8 to 11), after `backward` and before the optimizer step.

        rho_m = s_m / mean_{n != m} s_n ;  k_m = 1 - tanh(alpha * rho_m) where rho_m > 1, else 1
        g_m <- k_m g_m + N(0, std(g_m)^2)       noise is added only with `noise`, and only to matrices

    scores: s_m by input, from `unimodal_scores`

    Returns k by input.
    """
    factors, generator = {}, world.generator() if noise else None
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
                drawn = (
                    torch.randn_like(parameter.grad)
                    if generator is None
                    else torch.randn(parameter.grad.shape, generator=generator).to(parameter.grad)
                )
                parameter.grad.add_(drawn * spread)
    return factors
