"""A linear decoder."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from polymodal.core.registry import register
from polymodal.core.types import FusionOutput, OutputShape
from polymodal.nn.decoders.base import Decoder, DecoderOptions


@register
class Linear(Decoder):
    """A linear layer on the pooled fusion output: y = W z + b. Interactions between inputs must come from the
    fusion."""

    class Options(DecoderOptions):
        name: Literal["linear"] = "linear"

    def __init__(self, options: Options, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        self.project = nn.Linear(width, shape.values)

    def forward(self, fused: FusionOutput) -> Tensor:
        return self.project(fused.pooled)
