"""Cells of tables."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from polymodal.modalities.category import MISSING
from polymodal.nn.objectives.masking.mask_units import Data, CategoricalUnits, NumericUnits


class NumberCells(NumericUnits):
    """Numbers, standardize by column; a hidden one is missing to the encoder."""

    share = 0.3

    def __init__(self, shape: dict[str, Any]) -> None:
        super().__init__(shape["columns"], 1)

    def real(self, data: Data) -> Tensor:
        return data["known"]

    def hide(self, data: Data, hidden: Tensor) -> Data:
        return {**data, "values": data["values"].masked_fill(hidden, 0.0), "known": data["known"] & ~hidden}

    def target(self, data: Data) -> tuple[Tensor, Tensor]:
        return data["values"].float().unsqueeze(2), data["known"].float().unsqueeze(2)


class CategoryCells(CategoricalUnits):
    """Labels, those of each column among themselves; a hidden one is missing to the encoder."""

    share = 0.3
    starts: Tensor
    ends: Tensor

    def __init__(self, shape: dict[str, Any]) -> None:
        sizes = shape["sizes"]
        super().__init__(len(sizes), sum(sizes), apart=True)
        ends = torch.tensor(list(accumulate(sizes)))
        self.register_buffer("ends", ends, persistent=False)
        self.register_buffer("starts", ends - torch.tensor(sizes), persistent=False)

    def real(self, data: Data) -> Tensor:
        return data["ids"] != MISSING

    def hide(self, data: Data, hidden: Tensor) -> Data:
        return {**data, "ids": data["ids"].masked_fill(hidden, MISSING)}

    def labels(self, data: Data) -> Tensor:
        return data["ids"].long() + self.starts

    def logits(self, decided: Tensor, place: Tensor) -> Tensor:
        number = torch.arange(self.size, device=place.device)
        own = (number >= self.starts[place].unsqueeze(1)) & (number < self.ends[place].unsqueeze(1))
        return decided.float().masked_fill(~own, float("-inf"))
