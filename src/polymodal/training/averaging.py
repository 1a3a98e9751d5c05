"""The best epochs of a run, and the average of their weights."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


def trainable_state(network: nn.Module) -> dict[str, Tensor]:
    """The part of `state_dict` that training can change: everything but parameters that do not learn, which may be
    most of a model with a pretrained encoder."""
    still = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    return {name: tensor for name, tensor in network.state_dict().items() if name not in still}


def restore_state(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Put back what `changing_state` gave; what does not learn stays as it is.

    Raises:
        RuntimeError: the state is of another network.
    """
    missing = trainable_state(network).keys() - state.keys()
    unexpected = network.load_state_dict(state, strict=False).unexpected_keys
    if missing or unexpected:
        raise RuntimeError(f"missing {sorted(missing)}, unexpected {sorted(unexpected)}")


@dataclass
class BestEpochs:
    """Keeps the weights of the `count` best epochs by validation score (greater is better)."""

    count: int
    scores: list[float] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    weights: list[dict[str, Tensor]] = field(default_factory=list)

    def state_dict(self) -> dict[str, Tensor]:
        """The kept weights by rank and name; scores and epochs are no tensors."""
        return {f"{rank}.{name}": one for rank, weights in enumerate(self.weights) for name, one in weights.items()}

    def load_state_dict(self, tensors: dict[str, Tensor], scores: list[float], epochs: list[int]) -> None:
        """Take back what was kept."""
        self.scores, self.epochs = scores, epochs
        self.weights = [{} for _ in scores]
        for key, tensor in tensors.items():
            rank, name = key.split(".", 1)
            self.weights[int(rank)][name] = tensor

    def offer(self, score: float, epoch: int, network: nn.Module) -> bool:
        """Consider the network after `epoch`; True if it is the best so far. The earlier of two equals is better."""
        place = sum(score <= other for other in self.scores)
        if place >= self.count:
            return False
        copied = {name: tensor.detach().clone() for name, tensor in trainable_state(network).items()}
        self.scores.insert(place, score)
        self.epochs.insert(place, epoch)
        self.weights.insert(place, copied)
        del self.scores[self.count :], self.epochs[self.count :], self.weights[self.count :]
        return place == 0

    def best(self) -> dict[str, Tensor]:
        return self.weights[0]

    def average(self) -> dict[str, Tensor]:
        """The mean of the kept weights (Izmailov et al., "Averaging Weights Leads to Wider Optima", 2018).

        Integer buffers (counters) are those of the best epoch.
        """
        mean = {}
        for name, first in self.weights[0].items():
            if first.is_floating_point():
                mean[name] = torch.stack([weights[name].float() for weights in self.weights]).mean(0).to(first.dtype)
            else:
                mean[name] = first.clone()
        return mean
