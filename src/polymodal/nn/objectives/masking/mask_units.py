"""Mask units: the parts of an item that can be masked and predicted, by modality."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from polymodal.distributed.world import World
from polymodal.nn.objectives.masking.baseline_losses import CrossEntropyWithBaseline, LossWithBaseline, MSEWithBaseline

#: Prepared tensors of distinct items, as an encoder reads them.
Data = dict[str, Tensor]


class MaskUnits(nn.Module):
    """Base class of mask units. Defines for a modality which parts an item has, how they are masked in its prepared
    tensors, and what is predicted for them.

    num_positions: maximum number of parts of an item; `valid_units` of a batch of shorter items has fewer columns
    unit_size: number of values predicted for a part
    coordinates: `[num_positions, d]`, coordinates of the parts: index in a sequence, or row and column in a grid
    """

    #: Default fraction of masked parts.
    default_mask_ratio: ClassVar[float]
    coordinates: Tensor

    def __init__(self, num_positions: int, unit_size: int) -> None:
        super().__init__()
        self.num_positions, self.unit_size = num_positions, unit_size
        self.register_buffer("coordinates", self._coordinates(), persistent=False)

    def _coordinates(self) -> Tensor:
        return torch.arange(self.num_positions, dtype=torch.float32).unsqueeze(1)

    def token_coordinates(self, mask: Tensor, valid: Tensor) -> Tensor | None:
        """Coordinates of the encoder's tokens in the units of the parts, `[items, tokens, d]`, from the token `mask
        [items, tokens]` and the `valid` parts. Default: evenly spaced along the sequence. None if they are unknown."""
        parts = (valid * torch.arange(1, valid.shape[1] + 1, device=valid.device)).amax(1, keepdim=True)
        tokens = mask.sum(1, keepdim=True)
        return ((torch.arange(mask.shape[1], device=mask.device) + 0.5) * parts / tokens - 0.5).unsqueeze(2)

    @abstractmethod
    def valid_units(self, data: Data) -> Tensor:
        """Which parts can be masked and predicted, `[items, <= num_positions]` bool; padding and missing values are
        False."""

    @abstractmethod
    def apply_mask(self, data: Data, mask: Tensor) -> Data:
        """The data with the parts `mask [items, <= num_positions]` bool masked. `data` is not changed."""

    @abstractmethod
    def loss(self, predicted: Tensor, data: Data, item: Tensor, position: Tensor, world: World) -> LossWithBaseline:
        """Loss of `predicted [n, unit_size]` for the parts `position [n]` of the items `item [n]` of `data`."""


class NumericUnits(MaskUnits):
    """Mask units of numbers, with the mean squared error.

    L = mean (x - y)^2 over the known values y of the masked parts
    """

    def __init__(self, num_positions: int, unit_size: int) -> None:
        super().__init__(num_positions, unit_size)
        self.mse = MSEWithBaseline(num_positions, unit_size)

    @abstractmethod
    def targets(self, data: Data) -> tuple[Tensor, Tensor]:
        """Values of every part, `[items, <= num_positions, unit_size]` fp32, and 1 where they are known, else 0."""

    def loss(self, predicted: Tensor, data: Data, item: Tensor, position: Tensor, world: World) -> LossWithBaseline:
        if not len(item):  # with several processes, another has parts
            values = known = predicted.new_zeros(0, self.unit_size, dtype=torch.float32)
        else:
            values, known = (each[item, position] for each in self.targets(data))
        return cast(LossWithBaseline, self.mse(predicted.float(), values, known, position, world))


class CategoricalUnits(MaskUnits):
    """Mask units with one label each, with the cross-entropy. `per_position`: the baseline counts labels for each
    position."""

    def __init__(self, num_positions: int, unit_size: int, *, per_position: bool) -> None:
        super().__init__(num_positions, unit_size)
        self.cross_entropy = CrossEntropyWithBaseline(num_positions if per_position else 1, unit_size)

    @abstractmethod
    def labels(self, data: Data) -> Tensor:
        """Label of every part, `[items, <= num_positions]` int64."""

    def logits(self, predicted: Tensor, position: Tensor) -> Tensor:
        """Logits, with minus infinity for labels that cannot occur at the position."""
        return predicted.float()

    def loss(self, predicted: Tensor, data: Data, item: Tensor, position: Tensor, world: World) -> LossWithBaseline:
        labels = self.labels(data)[item, position] if len(item) else item
        return cast(LossWithBaseline, self.cross_entropy(self.logits(predicted, position), labels, position, world))


def sample_mask(valid: Tensor, ratio: float) -> Tensor:
    """Sample a mask, `[items, positions]` bool, from the global generator of torch: the fraction `ratio` of the valid
    parts of each item, at least one. Unless the ratio is 1, at least one part stays unmasked."""
    count = valid.sum(1, keepdim=True)
    number = (ratio * count).round().clamp_min(1)
    if ratio < 1:
        number = torch.minimum(number, (count - 1).clamp_min(1))
    rank = torch.rand(valid.shape).to(valid.device).masked_fill(~valid, 2.0).argsort(1).argsort(1)
    return (rank < number) & valid


def valid_segments(length: Tensor, longest: int, patch: int) -> Tensor:
    """Which segments of `patch` steps start within items of these lengths, `[items, ceil(longest / patch)]` bool."""
    return torch.arange(0, longest, patch, device=length.device) < length.unsqueeze(1)
