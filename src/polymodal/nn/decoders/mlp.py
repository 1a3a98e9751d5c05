"""The default decoder: a perceptron with one or more hidden layers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import OutputShape, FusionOutput
from polymodal.nn.decoders.base import Decoder, DecoderOptions


@register
class MLP(Decoder):
    """Linear -> ReLU -> dropout, `layers` times, then linear, on the pooled view.

    With a hidden layer even additive fusions (mean, sum, linear concat) can express interactions between inputs, which
    is why this is the default and `linear` is not.
    """

    class Options(DecoderOptions):
        name: Literal["mlp"] = "mlp"
        hidden: int = sized_field(128, 256, 768, ge=1)
        """Width of each hidden layer."""
        layers: int = Field(default=1, ge=1, le=8)
        """Number of hidden layers."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of hidden units dropped in training."""

    def __init__(self, options: Options, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        stack: list[nn.Module] = []
        for _ in range(options.layers):
            stack += [nn.Linear(width, options.hidden), nn.ReLU(), nn.Dropout(options.dropout)]
            width = options.hidden
        self.layers = nn.Sequential(*stack, nn.Linear(width, shape.values))

    def forward(self, view: FusionOutput) -> Tensor:
        return self.layers(view.pooled)
