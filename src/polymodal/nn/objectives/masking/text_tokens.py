"""TextTokens of texts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from polymodal.core.errors import RecipeError
from polymodal.core.types import length_mask
from polymodal.nn.objectives.masking.mask_units import Data, CategoricalUnits

#: What becomes of symbols that are to be predicted: hidden, another symbol, and left as they are.
HIDDEN, OTHER = 0.8, 0.1


class TextTokens(CategoricalUnits):
    """TextTokens of a text (Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language
    Understanding", 2019): of those to be predicted 80 % are replaced by the mask symbol, 10 % by any symbol, 10 % stay;
    of a text that is hidden as a whole, every one is replaced by the mask symbol. That of learned tokenizers is the one
    that pads, which no text has.

    Raises:
        RecipeError: the checkpoint that reads the texts has no mask token.
    """

    share = 0.15
    special: Tensor

    def __init__(self, shape: dict[str, Any]) -> None:
        super().__init__(shape["length"], shape["vocabulary"], apart=False)
        if shape.get("mask") is None and "checkpoint" in shape:
            model = shape["checkpoint"]["model"]
            raise RecipeError("inputs", f"the tokenizer of {model} has no mask token; hide no part of this input")
        self.mask: int = shape.get("mask", 0)
        self.register_buffer("special", torch.tensor(shape.get("special", [0])), persistent=False)

    def real(self, data: Data) -> Tensor:
        return length_mask(data["length"], data["values"].shape[1]) & ~torch.isin(data["values"], self.special)

    def hide(self, data: Data, hidden: Tensor) -> Data:
        values = data["values"]
        chance = torch.rand(values.shape).to(values.device)
        whole = (hidden == self.real(data)).all(1, keepdim=True)
        masked = hidden & ((chance < HIDDEN) | whole)
        other = hidden & ~masked & (chance < HIDDEN + OTHER)
        drawn = torch.randint(self.size, values.shape, dtype=values.dtype).to(values.device)
        return {**data, "values": torch.where(masked, self.mask, torch.where(other, drawn, values))}

    def labels(self, data: Data) -> Tensor:
        return data["values"].long()
