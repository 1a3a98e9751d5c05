"""An encoder of categorical columns: one token from the joined embeddings of all columns."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.registry import register
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.token_pooling import all_valid_mask


@register
class EntityEmbedding(Encoder):
    """One token for all columns: small embeddings, joined and projected (Guo and Berkhahn, "Entity Embeddings of
    Categorical Variables", 2016):

        h = dropout([E_1[id_1]; ..; E_C[id_C]]) W + b

    The size of E_c is round(1.6 n^0.56) for n labels, at most `max_embedding_dim`: 4 for 5 labels, 21 for 100 (the
    rule of Howard and Gugger, "fastai: A Layered API for Deep Learning", 2020). A column of few labels so has few
    parameters. `embedding` gives a token of the full width for each column, for fusions with attention. The vectors
    of "missing" and "rare" are initialized to zero: they stay neutral if they never occur in the training rows.

    Example:
        >>> import torch
        >>> encoder = EntityEmbedding(EntityEmbedding.Options(), shape={"sizes": [4, 100]}, width=8)
        >>> [table.embedding_dim for table in encoder.tables]
        [3, 21]
        >>> encoder({"ids": torch.tensor([[2, 57]])})[0].shape
        torch.Size([1, 1, 8])
    """

    class Options(EncoderOptions):
        name: Literal["entity_embedding"] = "entity_embedding"
        max_embedding_dim: int = Field(default=50, ge=1)
        """Largest size of the embedding of one column."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout probability of the joined embeddings."""

    modality: ClassVar[str] = "category"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.width = width
        sizes = [min(options.max_embedding_dim, round(1.6 * labels**0.56)) for labels in shape["sizes"]]
        self.tables = nn.ModuleList(
            nn.Embedding(labels, size) for labels, size in zip(shape["sizes"], sizes, strict=True)
        )
        with torch.no_grad():
            for weight in self.tables.parameters():
                weight[:2] = 0
        self.dropout = nn.Dropout(options.dropout)
        self.project = nn.Linear(sum(sizes), width)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`ids [items, columns]` -> `[items, 1, width]`."""
        joined = torch.cat([table(ids) for table, ids in zip(self.tables, data["ids"].unbind(1), strict=True)], dim=1)
        tokens = self.project(self.dropout(joined)).unsqueeze(1)
        return tokens, all_valid_mask(tokens)
