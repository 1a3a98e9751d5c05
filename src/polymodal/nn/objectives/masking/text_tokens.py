"""Mask units of text: tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from polymodal.core.errors import RecipeError
from polymodal.core.types import length_mask
from polymodal.nn.objectives.masking.mask_units import CategoricalUnits, Data

#: Fractions of the selected tokens that are replaced by the mask token, and by a random token; the rest stays.
MASK_RATE, RANDOM_RATE = 0.8, 0.1


class TextTokens(CategoricalUnits):
    """Tokens of a text (Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language
    Understanding", 2019): 80 % of the selected tokens are replaced by the mask token, 10 % by a random token, 10 %
    stay. If a whole text is masked, every token is replaced by the mask token. Tokenizers learned from the data have no
    mask token; the padding token is used, which occurs in no text.

    Raises:
        RecipeError: the tokenizer of the checkpoint has no mask token, or the encoder reads n-grams, which would show
            the masked tokens.
    """

    default_mask_ratio = 0.15
    special: Tensor

    def __init__(self, shape: dict[str, Any]) -> None:
        super().__init__(shape["length"], shape["vocabulary"], per_position=False)
        if shape.get("mask") is None and "checkpoint" in shape:
            model = shape["checkpoint"]["name"]
            raise RecipeError("inputs", f"the tokenizer of {model} has no mask token, so this input cannot be masked")
        if "ngrams" in shape:
            raise RecipeError("inputs", "the n-grams of a text cannot be masked; choose another encoder for this input")
        self.mask_id: int = shape.get("mask", 0)
        self.register_buffer("special", torch.tensor(shape.get("special", [0])), persistent=False)

    def valid_units(self, data: Data) -> Tensor:
        return length_mask(data["length"], data["values"].shape[1]) & ~torch.isin(data["values"], self.special)

    def apply_mask(self, data: Data, mask: Tensor) -> Data:
        values = data["values"]
        draw = torch.rand(values.shape).to(values.device)
        whole = (mask == self.valid_units(data)).all(1, keepdim=True)
        replaced = mask & ((draw < MASK_RATE) | whole)
        randomized = mask & ~replaced & (draw < MASK_RATE + RANDOM_RATE)
        random_ids = torch.randint(self.unit_size, values.shape, dtype=values.dtype).to(values.device)
        return {**data, "values": torch.where(replaced, self.mask_id, torch.where(randomized, random_ids, values))}

    def labels(self, data: Data) -> Tensor:
        return data["values"].long()
