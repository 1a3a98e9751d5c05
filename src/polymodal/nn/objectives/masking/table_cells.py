"""Mask units of tables: cells."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from polymodal.modalities.category import MISSING
from polymodal.nn.objectives.masking.mask_units import CategoricalUnits, Data, NumericUnits


class NumberCells(NumericUnits):
    """Numbers, standardized by column. Masked cells are missing values to the encoder."""

    default_mask_ratio = 0.3

    def __init__(self, shape: dict[str, Any]) -> None:
        super().__init__(shape["columns"], 1)

    def valid_units(self, data: Data) -> Tensor:
        return data["known"]

    def apply_mask(self, data: Data, mask: Tensor) -> Data:
        return {**data, "values": data["values"].masked_fill(mask, 0.0), "known": data["known"] & ~mask}

    def targets(self, data: Data) -> tuple[Tensor, Tensor]:
        return data["values"].float().unsqueeze(2), data["known"].float().unsqueeze(2)


class DatetimeCells(NumericUnits):
    """Dates and times: all features of a column, or the elapsed time of a pair of columns. A masked column is a missing
    value to the encoder."""

    default_mask_ratio = 0.3
    position: Tensor
    is_feature: Tensor
    group: Tensor

    def __init__(self, shape: dict[str, Any]) -> None:
        sizes = torch.tensor(shape["groups"])
        largest = int(sizes.max())
        super().__init__(len(sizes), largest)
        place = torch.arange(largest)
        starts = (sizes.cumsum(0) - sizes).unsqueeze(1)
        is_feature = place < sizes.unsqueeze(1)
        self.register_buffer("is_feature", is_feature, persistent=False)
        self.register_buffer("position", torch.where(is_feature, starts + place, starts), persistent=False)
        self.register_buffer("group", torch.arange(len(sizes)).repeat_interleave(sizes), persistent=False)

    def valid_units(self, data: Data) -> Tensor:
        return data["known"][:, self.position].any(dim=2)

    def apply_mask(self, data: Data, mask: Tensor) -> Data:
        features = mask[:, self.group]
        return {**data, "values": data["values"].masked_fill(features, 0.0), "known": data["known"] & ~features}

    def targets(self, data: Data) -> tuple[Tensor, Tensor]:
        known = data["known"][:, self.position] & self.is_feature
        return data["values"].float()[:, self.position], known.float()


class CategoryCells(CategoricalUnits):
    """Labels, each column with its own classes. Masked cells are missing values to the encoder."""

    default_mask_ratio = 0.3
    starts: Tensor
    ends: Tensor

    def __init__(self, shape: dict[str, Any]) -> None:
        sizes = shape["sizes"]
        super().__init__(len(sizes), sum(sizes), per_position=True)
        ends = torch.tensor(list(accumulate(sizes)))
        self.register_buffer("ends", ends, persistent=False)
        self.register_buffer("starts", ends - torch.tensor(sizes), persistent=False)

    def valid_units(self, data: Data) -> Tensor:
        return data["ids"] != MISSING

    def apply_mask(self, data: Data, mask: Tensor) -> Data:
        return {**data, "ids": data["ids"].masked_fill(mask, MISSING)}

    def labels(self, data: Data) -> Tensor:
        return data["ids"].long() + self.starts

    def logits(self, predicted: Tensor, position: Tensor) -> Tensor:
        label = torch.arange(self.unit_size, device=position.device)
        in_column = (label >= self.starts[position].unsqueeze(1)) & (label < self.ends[position].unsqueeze(1))
        return predicted.float().masked_fill(~in_column, float("-inf"))
