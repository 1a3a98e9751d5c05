"""A decoder of several members that share their weights."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import FusionOutput, OutputShape
from polymodal.nn.decoders.base import Decoder, DecoderOptions
from polymodal.nn.fusion.decision_rules import average


class EnsembleDecoder(Decoder):
    """Base of the decoders with several members. Each member has its own loss; the prediction is their mean.

    A subclass implements `members`.
    """

    def __init__(self, options: DecoderOptions, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        self.space = shape.space

    def members(self, fused: FusionOutput) -> Tensor:
        """The values of every member, `[members, batch, shape.values]`."""
        raise NotImplementedError(type(self).__name__)

    def combine(self, members: Tensor) -> Tensor:
        """The mean prediction of the members, `[batch, shape.values]`: of their probabilities, or of their numbers."""
        expert = members.transpose(0, 1)  # [batch, members, k]
        return average(expert, torch.ones_like(expert[..., 0], dtype=torch.bool), self.space)

    def forward(self, fused: FusionOutput) -> Tensor:
        return self.combine(self.members(fused).float())


@register
class TabM(EnsembleDecoder):
    """An MLP with k members on the pooled fusion output, as in TabM (Gorishniy, Kotelnikov and Babenko, "TabM:
    Advancing Tabular Deep Learning with Parameter-Efficient Ensembling", 2025, section 3):

        l_i(z) = s_i * W (r_i * z) + b_i ,  then ReLU and dropout, `num_layers` times, then a linear layer per member

    The members share W. Each has its own vectors r_i, s_i, b_i (rank-1 adapters, BatchEnsemble) and its own last layer,
    starts from another point (r_i of the first layer is +1 or -1 at random), and is trained with its own loss. The
    prediction is the mean of the members' probabilities or numbers. It costs k times the computation of one MLP. The
    layers before the decoder have no members: with `fusion.num_layers: 0` and an encoder without hidden layers, the
    network is that of the paper.

    Example:
        >>> import torch
        >>> from polymodal.core.types import Tokens
        >>> decoder = TabM(TabM.Options(num_members=4), width=8, shape=OutputShape(3, "categorical"))
        >>> vector, present = torch.randn(2, 8), torch.ones(2, dtype=torch.bool)
        >>> fused = FusionOutput("joint", Tokens(vector.unsqueeze(1), present.unsqueeze(1), present), vector, present)
        >>> tuple(decoder.members(fused).shape), tuple(decoder(fused).shape)
        ((4, 2, 3), (2, 3))
    """

    class Options(DecoderOptions):
        name: Literal["tabm"] = "tabm"
        num_members: int = Field(default=16, ge=2, le=64)
        """Number of members (k)."""
        hidden_size: int = sized_field(128, 256, 768, ge=1)
        """Width of each hidden layer."""
        num_layers: int = Field(default=2, ge=1, le=8)
        """Number of hidden layers."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout probability of the hidden units."""

    def __init__(self, options: Options, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        self.num_members = options.num_members
        sizes = [width, *[options.hidden_size] * options.num_layers]
        layers = [MemberLinear(wide, narrow, options.num_members) for wide, narrow in pairwise(sizes)]
        with torch.no_grad():
            layers[0].scale_in.copy_(torch.randint(0, 2, layers[0].scale_in.shape) * 2 - 1)
        self.layers = nn.ModuleList(layers)
        self.dropout = nn.Dropout(options.dropout)
        bound = sizes[-1] ** -0.5
        self.weight = nn.Parameter(torch.empty(options.num_members, sizes[-1], shape.values).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(options.num_members, 1, shape.values).uniform_(-bound, bound))

    def members(self, fused: FusionOutput) -> Tensor:
        hidden = fused.pooled.expand(self.num_members, -1, -1)  # [members, batch, width]
        for layer in self.layers:
            hidden = self.dropout(torch.relu(layer(hidden)))
        return torch.baddbmm(self.bias, hidden, self.weight)  # [members, batch, shape.values]


class MemberLinear(nn.Module):
    """A linear layer whose matrix all members share: `[members, batch, size]` -> `[members, batch, units]`."""

    def __init__(self, size: int, units: int, members: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, units, bias=False)
        bound = size**-0.5
        self.scale_in = nn.Parameter(torch.ones(members, 1, size))
        self.scale_out = nn.Parameter(torch.ones(members, 1, units))
        self.bias = nn.Parameter(torch.empty(members, 1, units).uniform_(-bound, bound))

    def forward(self, hidden: Tensor) -> Tensor:
        return self.linear(hidden * self.scale_in) * self.scale_out + self.bias
