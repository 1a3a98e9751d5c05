"""The default decoder: an MLP with one or more hidden layers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import FusionOutput, OutputShape
from polymodal.nn.decoders.base import Decoder, DecoderOptions


@register
class MLP(Decoder):
    """Linear -> ReLU -> dropout, `num_layers` times, then a linear layer, on the pooled fusion output.

    With a hidden layer, even additive fusions (mean, sum, linear concat) can model interactions between inputs. For
    this reason it is the default rather than `linear`.
    """

    class Options(DecoderOptions):
        name: Literal["mlp"] = "mlp"
        hidden_size: int = sized_field(128, 256, 768, ge=1)
        """Width of each hidden layer."""
        num_layers: int = Field(default=1, ge=1, le=8)
        """Number of hidden layers."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout probability of the hidden units."""

    def __init__(self, options: Options, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        stack: list[nn.Module] = []
        for _ in range(options.num_layers):
            stack += [nn.Linear(width, options.hidden_size), nn.ReLU(), nn.Dropout(options.dropout)]
            width = options.hidden_size
        self.layers = nn.Sequential(*stack, nn.Linear(width, shape.values))

    def forward(self, fused: FusionOutput) -> Tensor:
        return self.layers(fused.pooled)
