"""An encoder of numeric columns: one MLP over all columns, in the style of RealMLP."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.piecewise_linear import bins_of
from polymodal.nn.encoders.token_pooling import all_valid_mask

#: Frequencies and width of the embedding of one column, and the initial standard deviation of the frequencies.
NUM_FREQUENCIES, EMBEDDING_SIZE, FREQUENCY_STD = 16, 4, 0.1
#: Largest number of bins of the piecewise-linear embedding of one column.
NUM_BINS = 16


@register
class RealMLP(Encoder):
    """One token for all columns: periodic embeddings of each column, a scaling layer, and an MLP, as in RealMLP
    (Holzmüller, Grinsztajn and Steinwart, "Better by Default: Strong Pre-Tuned MLPs and Boosted Trees on Tabular Data",
    2024, section 3 and appendix A).

        e_c = [x_c; V_c cos(2 pi f_c x_c + p_c) + d_c]     "PBLD" embedding, f_c ~ N(0, 0.1^2), p_c ~ U(-pi, pi)
        z_0 = s * [e_1; 1 - k_1; ..; e_C; 1 - k_C]         learned scales s, initialized to 1; k_c: the number is known
        z_l = a_l(z_(l-1) W_l / sqrt(d_(l-1)) + b_l)       NTK parametrization, W_l ~ N(0, 1), b_l ~ N(0, 1)
        a_l(u) = u + g_l (act(u) - u)                      g_l per unit, initialized to 1

    The columns meet in the first layer, so that interactions of numbers are modeled before the fusion. The last linear
    layers are those of the decoder. The learning rates of this parametrization, relative to the rest of the network:
    sqrt(d) for W_l (the step of the effective weight W_l / sqrt(d) is then that of a usual layer), 6 for s, and 0.1 for
    b_l. A missing number is 0 in its embedding, and its flag 1 - k_c is an input of its own.

    Example:
        >>> import torch
        >>> encoder = RealMLP(RealMLP.Options(hidden_size=8), shape={"columns": 3}, width=4)
        >>> features, mask = encoder({"values": torch.randn(5, 3), "known": torch.ones(5, 3, dtype=torch.bool)})
        >>> tuple(features.shape), tuple(mask.shape)
        ((5, 1, 4), (5, 1))
    """

    class Options(EncoderOptions):
        name: Literal["realmlp"] = "realmlp"
        hidden_size: int = sized_field(128, 256, 512, ge=1)
        """Width of each hidden layer."""
        num_layers: int = Field(default=2, ge=1, le=8)
        """Number of hidden layers."""
        activation: Literal["selu", "mish"] = "mish"
        """Activation function of the hidden layers."""
        embedding: Literal["none", "periodic", "piecewise_linear"] = "periodic"
        """Embedding of each column beside the number itself: of cosines, or of bins between quantiles."""
        dropout: float = Field(default=0.15, ge=0, lt=1)
        """Dropout probability of the hidden units."""

    modality: ClassVar[str] = "number"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.width = width
        columns = shape["columns"]
        self.embedding: PeriodicDense | BinDense | None = None
        if options.embedding == "periodic":
            self.embedding = PeriodicDense(columns)
        elif options.embedding == "piecewise_linear":
            self.embedding = BinDense(shape["quantiles"])
        units = columns * (2 if self.embedding is None else 1 + EMBEDDING_SIZE)
        self.scale = nn.Parameter(torch.ones(units))
        sizes = [units, *[options.hidden_size] * options.num_layers]
        stack: list[nn.Module] = []
        for wide, narrow in pairwise(sizes):
            stack += [NTKLayer(wide, narrow, options.activation), nn.Dropout(options.dropout)]
        self.layers = nn.Sequential(*stack)
        self.last = nn.Linear(sizes[-1], width)

    def lr_multipliers(self) -> dict[nn.Parameter, float]:
        multipliers: dict[nn.Parameter, float] = {self.scale: 6.0}
        for layer in self.layers:
            if isinstance(layer, NTKLayer):
                multipliers |= {layer.weight: math.sqrt(len(layer.weight)), layer.bias: 0.1}
        return multipliers

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values [items, columns]`, `known [items, columns]` bool -> `[items, 1, width]`."""
        values, known = data["values"].to(self.scale.dtype).unsqueeze(-1), data["known"].unsqueeze(-1)
        parts = [values, (~known).to(values.dtype)]
        if self.embedding is not None:
            parts.append(self.embedding(values) * known)
        hidden = torch.cat(parts, dim=-1).flatten(1) * self.scale  # [items, columns * (2 + embedding)]
        tokens = self.last(self.layers(hidden)).unsqueeze(1)
        return tokens, all_valid_mask(tokens)


class PeriodicDense(nn.Module):
    """V_c cos(2 pi f_c x_c + p_c) + d_c for each column: `[items, columns, 1]` -> `[items, columns, size - 1]`."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        bound = NUM_FREQUENCIES**-0.5
        size = EMBEDDING_SIZE - 1
        self.frequencies = nn.Parameter(FREQUENCY_STD * torch.randn(columns, NUM_FREQUENCIES))
        self.phase = nn.Parameter(torch.empty(columns, NUM_FREQUENCIES).uniform_(-math.pi, math.pi))
        self.weight = nn.Parameter(torch.empty(columns, NUM_FREQUENCIES, size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(columns, size).uniform_(-bound, bound))

    def forward(self, values: Tensor) -> Tensor:
        waves = torch.cos(2 * math.pi * self.frequencies * values + self.phase)  # [items, columns, frequencies]
        return torch.einsum("icf,cfw->icw", waves, self.weight) + self.bias


class BinDense(nn.Module):
    """V_c PLE_c(x_c) for each column, see `encoders.piecewise_linear`: `[items, columns, 1]` -> `[items, columns,
    size - 1]`."""

    low: Tensor
    size: Tensor

    def __init__(self, quantiles: list[list[float]]) -> None:
        super().__init__()
        low, size = bins_of(quantiles, NUM_BINS)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("size", size, persistent=False)
        bound = NUM_BINS**-0.5
        self.weight = nn.Parameter(torch.empty(*low.shape, EMBEDDING_SIZE - 1).uniform_(-bound, bound))

    def forward(self, values: Tensor) -> Tensor:
        pieces = ((values - self.low) / self.size).clamp(0, 1)  # [items, columns, bins]
        return torch.einsum("icb,cbw->icw", pieces, self.weight)


class NTKLayer(nn.Module):
    """A linear layer in NTK parametrization with a parametric activation: `[items, d]` -> `[items, units]`."""

    def __init__(self, size: int, units: int, activation: Literal["selu", "mish"]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size, units))
        self.bias = nn.Parameter(torch.randn(units))
        self.strength = nn.Parameter(torch.ones(units))
        self.activation = functional.selu if activation == "selu" else functional.mish

    def forward(self, hidden: Tensor) -> Tensor:
        linear = hidden @ self.weight / math.sqrt(len(self.weight)) + self.bias
        return linear + self.strength * (self.activation(linear) - linear)
