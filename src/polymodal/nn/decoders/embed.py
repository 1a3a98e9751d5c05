"""Embedding decoder for metric learning."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import FusionOutput, OutputShape
from polymodal.nn.decoders.base import Decoder, DecoderOptions
from polymodal.nn.layers.embedding_head import EmbeddingHead, l2_normalize


@register
class Embed(Decoder):
    """The pooled fusion output as an embedding of unit length: z = unit(Head(pooled)), see `nn.layers.embedding_head`.

    The first n numbers of an embedding, for each n in `matryoshka_dims`, are themselves a smaller embedding: the task
    trains all of them jointly (Kusupati et al., "Matryoshka Representation Learning", 2022).
    """

    class Options(DecoderOptions):
        name: Literal["embed"] = "embed"
        embedding_dim: int = sized_field(64, 128, 256, ge=2)
        """Embedding dimension."""
        matryoshka_dims: list[int] | None = None
        """Smaller embedding dimensions that are trained jointly. Default: `embedding_dim` halved repeatedly, down to 8.
        `[]`: none."""
        hidden_size: int | None = Field(default=None, ge=1)
        """Units of a hidden layer. Default: no hidden layer, only a linear map."""
        dropout: float = Field(default=0.0, ge=0, lt=1)
        """Dropout probability of the hidden units, or of the inputs if there is no hidden layer."""

    tasks: ClassVar[tuple[str, ...]] = ("metric_learning",)

    def __init__(self, options: Options, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        self.head = EmbeddingHead(width, shape.values, options.hidden_size, options.dropout)

    @classmethod
    def required_options(cls, options: Any) -> dict[str, Any]:
        return {"embedding_dim": options.embedding_dim, "matryoshka_dims": options.matryoshka_dims}

    def forward(self, fused: FusionOutput) -> Tensor:
        return l2_normalize(self.head(fused.pooled))
