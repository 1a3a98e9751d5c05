"""The decoder of embeddings."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import OutputShape, FusionOutput
from polymodal.nn.decoders.base import Decoder, DecoderOptions
from polymodal.nn.layers.embedding_head import Head, unit


@register
class Embed(Decoder):
    """The pooled view as one vector of unit length, by which rows are compared: z = unit(Head(view)), see
    `nn.layers.embedding.Head`.

    The first numbers of a vector, as many as any of `sizes` says, are a smaller embedding by themselves: the task
    learns them all at once (Kusupati et al., "Matryoshka Representation Learning", 2022).
    """

    class Options(DecoderOptions):
        name: Literal["embed"] = "embed"
        size: int = sized_field(64, 128, 256, ge=2)
        """Numbers of a vector."""
        sizes: list[int] | None = None
        """Shorter embeddings that are learned too: the first so many numbers of the vector. Silent: the half of
        `size`, the half of that, and so on down to 8; `[]`: none."""
        hidden: int | None = Field(default=None, ge=1)
        """Units of a hidden layer; silent: one linear map."""
        dropout: float = Field(default=0.0, ge=0, lt=1)
        """Share of the hidden units (of the view's numbers, without a hidden layer) that is dropped in training."""

    tasks: ClassVar[tuple[str, ...]] = ("similar",)

    def __init__(self, options: Options, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        self.head = Head(width, shape.values, options.hidden, options.dropout)

    @classmethod
    def prescribe(cls, options: Any) -> dict[str, Any]:
        return {"size": options.size, "sizes": options.sizes}

    def forward(self, view: FusionOutput) -> Tensor:
        return unit(self.head(view.pooled))
