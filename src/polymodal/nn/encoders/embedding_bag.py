"""A bag-of-tokens text encoder (deep averaging network)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions


@register
class EmbeddingBag(Encoder):
    """The mean or sum of the token embeddings, then an MLP. It gives one token per text and ignores word order.

        h = MLP(1 / n  sum_t E[x_t])

    A deep averaging network (Iyyer et al., "Deep Unordered Composition Rivals Syntactic Methods for Text
    Classification", 2015). It is the fastest text encoder and often sufficient for short labels and questions.
    """

    class Options(EncoderOptions):
        name: Literal["embedding_bag"] = "embedding_bag"
        embedding_dim: int = sized_field(64, 128, 256, ge=1)
        """Dimension of the token embeddings."""
        num_layers: int = Field(default=1, ge=0, le=4)
        """Number of hidden layers of the MLP; 0: one linear layer."""
        pooling: Literal["mean", "sum"] = "mean"
        """Pooling over tokens; `sum` preserves information about the length of the text."""
        token_dropout: float = Field(default=0.3, ge=0, lt=1)
        """Fraction of the tokens of a text that is dropped in training, for robustness to unknown tokens."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout rate."""

    modality: ClassVar[str] = "text"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.width, self.is_mean, self.word_dropout = width, options.pooling == "mean", options.token_dropout
        self.embedding = nn.Embedding(shape["vocabulary"], options.embedding_dim)
        # Small, so that a token that does not occur in training hardly affects the mean; with torch's default standard
        # deviation of 1 it would be noise.
        nn.init.normal_(self.embedding.weight, std=0.02)
        hidden_layers: list[nn.Module] = []
        in_features = options.embedding_dim
        for _ in range(options.num_layers):
            hidden_layers += [nn.Linear(in_features, width), nn.ReLU(), nn.Dropout(options.dropout)]
            in_features = width
        self.layers = nn.Sequential(nn.Dropout(options.dropout), *hidden_layers, nn.Linear(in_features, width))

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values [items, length]`, `length [items]` -> `[items, 1, width]`."""
        real = length_mask(data["length"], data["values"].shape[1])
        if self.training and self.word_dropout:
            real = real & (torch.rand(real.shape, device=real.device) >= self.word_dropout)
        embedded = self.embedding(data["values"])  # [items, length, embedding_dim]
        summed = (embedded * real.to(embedded.dtype).unsqueeze(-1)).sum(1)
        if self.is_mean:
            summed = summed / real.sum(1, keepdim=True).to(summed.dtype).clamp_min(1)
        features = self.layers(summed).unsqueeze(1)  # [items, 1, width]
        return features, torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
