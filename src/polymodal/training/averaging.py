"""The best epochs of a run, and the average of their weights."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from polymodal.distributed.divided import divided_like


def trainable_state(network: nn.Module) -> dict[str, Tensor]:
    """The part of `state_dict` that training can change: all buffers and every parameter that is not frozen.

    With a pretrained encoder, most parameters may be frozen.
    """
    held = network.named_parameters(remove_duplicate=False)  # shared parameters have several names
    frozen = {name for name, parameter in held if not parameter.requires_grad}
    return {name: tensor for name, tensor in network.state_dict().items() if name not in frozen}


def restore_state(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Load the result of `trainable_state`. Frozen parameters stay unchanged.

    Raises:
        RuntimeError: the state belongs to another network.
    """
    own = trainable_state(network)
    missing = own.keys() - state.keys()
    divided = {name: divided_like(one, own.get(name, one)) for name, one in state.items()}
    unexpected = network.load_state_dict(divided, strict=False).unexpected_keys
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
        """The stored weights by rank and name. Scores and epochs are not tensors and are stored separately."""
        return {
            f"{rank}.{name}": tensor for rank, weights in enumerate(self.weights) for name, tensor in weights.items()
        }

    def load_state_dict(self, tensors: dict[str, Tensor], scores: list[float], epochs: list[int]) -> None:
        """Restore the stored weights, scores and epochs."""
        self.scores, self.epochs = scores, epochs
        self.weights = [{} for _ in scores]
        for key, tensor in tensors.items():
            rank, name = key.split(".", 1)
            self.weights[int(rank)][name] = tensor

    def offer(self, score: float, epoch: int, network: nn.Module) -> bool:
        """Store the network after `epoch` if it is among the best; True if it is the best. Ties go to the earlier
        epoch."""
        rank = sum(score <= other for other in self.scores)
        if rank >= self.count:
            return False
        copied = {name: tensor.detach().clone() for name, tensor in trainable_state(network).items()}
        self.scores.insert(rank, score)
        self.epochs.insert(rank, epoch)
        self.weights.insert(rank, copied)
        del self.scores[self.count :], self.epochs[self.count :], self.weights[self.count :]
        return rank == 0

    def best(self) -> dict[str, Tensor]:
        """The weights of the best epoch."""
        return self.weights[0]

    def average(self) -> dict[str, Tensor]:
        """The mean of the stored weights (Izmailov et al., "Averaging Weights Leads to Wider Optima", 2018).

        Integer buffers (counters) are taken from the best epoch.
        """
        mean = {}
        for name, first in self.weights[0].items():
            if first.is_floating_point():
                mean[name] = torch.stack([weights[name].float() for weights in self.weights]).mean(0).to(first.dtype)
            else:
                mean[name] = first.clone()
        return mean
