"""Concatenation fusion."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.registry import register
from polymodal.nn.fusion.base import FusionOptions, VectorFusion


@register
class Concat(VectorFusion):
    """Concatenation of all inputs, then a linear layer or an MLP.

        z = f([h_1; ..; h_M; a_1; ..; a_M])
        num_layers = 0: f is linear;   num_layers > 0: this many hidden layers of 2 width units with ReLU, then linear

    The "late fusion" baseline of Liang et al., "MultiBench" (2021). A missing input is read as its learned "missing"
    embedding, and the flags a_m mark the present inputs. Cost: about 2 (M + 1) width^2 parameters with one hidden
    layer. With `num_layers: 0` the method is additive.
    """

    class Options(FusionOptions):
        name: Literal["concat"] = "concat"
        num_layers: int = Field(default=1, ge=0, le=8)
        """Number of hidden layers; 0 is a linear layer."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout probability of the hidden units, or of the inputs of the linear layer if there are none."""

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.hidden_layers = options.num_layers
        units = len(inputs) * (width + 1)
        stack: list[nn.Module] = [] if options.num_layers else [nn.Dropout(options.dropout)]
        for _ in range(options.num_layers):
            stack += [nn.Linear(units, 2 * width), nn.ReLU(), nn.Dropout(options.dropout)]
            units = 2 * width
        self.layers = nn.Sequential(*stack, nn.Linear(units, width))

    @property
    def models_interactions(self) -> bool:
        return self.hidden_layers > 0

    def fuse(self, vectors: Tensor, present: Tensor) -> Tensor:
        return self.layers(torch.cat([vectors.flatten(1), present.to(vectors.dtype)], dim=1))
