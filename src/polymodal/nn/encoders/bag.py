"""A bag of symbols."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions


@register
class Bag(Encoder):
    """The mean or sum of the symbols' embeddings, then a perceptron: one token per text, blind to word order.

        h = MLP(1 / n  sum_t E[x_t])

    A deep averaging network (Iyyer et al., "Deep Unordered Composition Rivals Syntactic Methods for Text
    Classification", 2015). The cheapest text encoder, and on short labels and questions often good enough.
    """

    class Options(EncoderOptions):
        name: Literal["bag"] = "bag"
        embedding: int = sized(64, 128, 256, ge=1)
        """Width of a symbol's embedding."""
        layers: int = Field(default=1, ge=0, le=4)
        """Hidden layers of the perceptron; 0 for one linear map."""
        pool: Literal["mean", "sum"] = "mean"
        """`sum` keeps the length of the text in view."""
        word_dropout: float = Field(default=0.3, ge=0, lt=1)
        """Share of a text's symbols left out in training, so that no single one decides and unknown ones are borne."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of units dropped in training."""

    modality: ClassVar[str] = "text"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.width, self.mean, self.word_dropout = width, options.pool == "mean", options.word_dropout
        self.embedding = nn.Embedding(shape["vocabulary"], options.embedding)
        # Small, so that a symbol never seen in training hardly moves the mean; with the usual spread of 1 it is noise.
        nn.init.normal_(self.embedding.weight, std=0.02)
        stack: list[nn.Module] = []
        size = options.embedding
        for _ in range(options.layers):
            stack += [nn.Linear(size, width), nn.ReLU(), nn.Dropout(options.dropout)]
            size = width
        self.layers = nn.Sequential(nn.Dropout(options.dropout), *stack, nn.Linear(size, width))

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values [items, length]`, `length [items]` -> `[items, 1, width]`."""
        real = length_mask(data["length"], data["values"].shape[1])
        if self.training and self.word_dropout:
            real = real & (torch.rand(real.shape, device=real.device) >= self.word_dropout)
        embedded = self.embedding(data["values"])
        summed = (embedded * real.to(embedded.dtype).unsqueeze(-1)).sum(1)
        if self.mean:
            summed = summed / real.sum(1, keepdim=True).to(summed.dtype).clamp_min(1)
        features = self.layers(summed).unsqueeze(1)
        return features, torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
