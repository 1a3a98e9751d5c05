"""The parts of an item: which there are, how some are hidden, and how far a prediction is from what they were."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from polymodal.nn.objectives.masking.baseline_losses import LossWithBaseline, MSEWithBaseline, CrossEntropyWithBaseline

#: Prepared tensors of distinct items, as an encoder reads them.
Data = dict[str, Tensor]


class MaskUnits(nn.Module):
    """Base of what a masked objective must know of a modality: what the parts of an item are, how some are hidden in
    its prepared tensors, and what of them is to be predicted.

    places: the most parts of an item; `real` of a batch of shorter items has fewer
    size: numbers that are decided for a part
    at: `[places, d]`, where each part lies: its number in a line, or its row and column in a grid
    """

    #: The share of the parts that is hidden where the recipe does not say.
    share: ClassVar[float]
    at: Tensor

    def __init__(self, places: int, size: int) -> None:
        super().__init__()
        self.places, self.size = places, size
        self.register_buffer("at", self._at(), persistent=False)

    def _at(self) -> Tensor:
        return torch.arange(self.places, dtype=torch.float32).unsqueeze(1)

    def token_coordinates(self, mask: Tensor, real: Tensor) -> Tensor | None:
        """Where the tokens that an encoder gave lie among the parts, `[items, tokens, d]`, of their `mask [items,
        tokens]` and the parts that are `real`: evenly along the line. None where nothing tells that."""
        parts = (real * torch.arange(1, real.shape[1] + 1, device=real.device)).amax(1, keepdim=True)
        tokens = mask.sum(1, keepdim=True)
        return ((torch.arange(mask.shape[1], device=mask.device) + 0.5) * parts / tokens - 0.5).unsqueeze(2)

    @abstractmethod
    def real(self, data: Data) -> Tensor:
        """The parts that can be hidden and predicted, `[items, up to places]` bool: not padding, not missing."""

    @abstractmethod
    def hide(self, data: Data, hidden: Tensor) -> Data:
        """The items without the content of the parts `hidden [items, up to places]` bool; `data` stays as it is."""

    @abstractmethod
    def compare(self, decided: Tensor, data: Data, item: Tensor, place: Tensor) -> LossWithBaseline:
        """`decided [n, size]` for the parts `place [n]` of the items `item [n]` of `data`."""


class NumericUnits(MaskUnits):
    """Parts of numbers, by the mean squared error.

    L = mean (x - y)^2 over the known numbers y of the hidden parts
    """

    def __init__(self, places: int, size: int) -> None:
        super().__init__(places, size)
        self.means = MSEWithBaseline(places, size)

    @abstractmethod
    def target(self, data: Data) -> tuple[Tensor, Tensor]:
        """The numbers of every part, `[items, up to places, size]` fp32, and which of them are known, 1 or 0."""

    def compare(self, decided: Tensor, data: Data, item: Tensor, place: Tensor) -> LossWithBaseline:
        values, known = (each[item, place] for each in self.target(data))
        return cast(LossWithBaseline, self.means(decided.float(), values, known, place))


class CategoricalUnits(MaskUnits):
    """Parts with one label each, by the cross-entropy. Labels are counted at each place by itself where `apart`."""

    def __init__(self, places: int, size: int, *, apart: bool) -> None:
        super().__init__(places, size)
        self.shares = CrossEntropyWithBaseline(places if apart else 1, size)

    @abstractmethod
    def labels(self, data: Data) -> Tensor:
        """The label of every part, `[items, up to places]` int64."""

    def logits(self, decided: Tensor, place: Tensor) -> Tensor:
        """What is decided, minus infinity for labels that are not of this place."""
        return decided.float()

    def compare(self, decided: Tensor, data: Data, item: Tensor, place: Tensor) -> LossWithBaseline:
        return cast(LossWithBaseline, self.shares(self.logits(decided, place), self.labels(data)[item, place], place))


def draw(real: Tensor, share: float) -> Tensor:
    """Parts to hide, `[items, places]` bool, drawn from torch's global generator: the `share` of the real ones of each
    item, at least one, and (unless all shall be hidden) not the last that is left."""
    count = real.sum(1, keepdim=True)
    wanted = (share * count).round().clamp_min(1)
    if share < 1:
        wanted = torch.minimum(wanted, (count - 1).clamp_min(1))
    rank = torch.rand(real.shape).to(real.device).masked_fill(~real, 2.0).argsort(1).argsort(1)
    return (rank < wanted) & real


def valid_segments(length: Tensor, longest: int, patch: int) -> Tensor:
    """Which valid_segments of `patch` records begin within items of these lengths, `[items, ceil(longest / patch)]` bool."""
    return torch.arange(0, longest, patch, device=length.device) < length.unsqueeze(1)
