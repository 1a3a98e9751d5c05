"""Bilinear fusion in four forms."""

from __future__ import annotations

from functools import reduce
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.core.registry import register
from polymodal.nn.fusion.base import FusionOptions, VectorFusion

#: the largest number of parameters in the interaction tensors of form `full`
LARGEST = 2**25

#: rounds the signed root and the normalisation off at zero, so that their gradients stay finite
ROUNDING = 1e-4


@register
class Bilinear(VectorFusion):
    """Products of every unit of one input with every unit of the next, in full or of low rank.

        mlb:    z = P (prod_m tanh(U_m h_m)) + b
        mfb:    z = norm(root(sum_k prod_m U_m^(k) h_m))
        mutan:  z = R^(-1/2) sum_{r=1..R} prod_m M_m^(r) tanh(U_m h_m)
        full:   z_o = h_1' W_o h_2 + (U h_1 + V h_2 + b)_o

    mlb: Kim et al., "Hadamard Product for Low-rank Bilinear Pooling" (2017). mfb: Yu et al., "Multi-modal
    Factorized Bilinear Pooling with Co-Attention Learning for Visual Question Answering" (2017). mutan:
    Ben-younes et al., "MUTAN: Multimodal Tucker Fusion for Visual Question Answering" (2017). full:
    Jayakumar et al., "Multiplicative Interactions and Where to Find Them" (2020).

    Every U_m and M_m has a bias. root(y) = sign(y) sqrt|y| and norm is division by the l2 norm, times
    sqrt(width) so that units keep a size near 1. The papers fuse two inputs: here the product in the first
    three forms runs over all of them, and `full` folds from left to right, z_m = bilinear(z_{m-1}, h_m)
    with tensors of its own at each step; one input passes through `full` unchanged.

    Missing inputs are left out of the products (a factor of 1) in the first three forms; `full` reads their
    learned "missing" embeddings. Parameters with rank R and M inputs: mlb (M + 1) R width; mfb M R width^2;
    mutan M (R + 1) width^2; full (M - 1) (width^3 + 2 width^2).

    Raises:
        RecipeError: the tensors of form `full` would exceed 2^25 numbers.
    """

    class Options(FusionOptions):
        name: Literal["bilinear"] = "bilinear"
        form: Literal["mlb", "mfb", "mutan", "full"] = "mlb"
        """How the interaction tensor is factorised."""
        rank: int | None = Field(default=None, ge=1, le=4096)
        """Units of the joint space in `mlb` (default: the common width), terms summed in `mfb` and `mutan`
        (default 4); not an option of `full`."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of product units dropped in training."""

        @model_validator(mode="after")
        def _rank_has_a_use(self) -> Self:
            if self.form == "full" and self.rank is not None:
                raise ValueError("rank is not an option of form 'full'; leave it out, or choose mlb, mfb or mutan")
            return self

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.form = options.form
        self.dropout = nn.Dropout(options.dropout)
        if options.form == "full":
            self._build_full()
            return
        self.rank = options.rank or (width if options.form == "mlb" else 4)
        if options.form == "mlb":
            self.factors = nn.ModuleList(unit_linear(width, self.rank) for _ in inputs)
            self.project = nn.Linear(self.rank, width)
        else:
            self.factors = nn.ModuleList(unit_linear(width, self.rank * width) for _ in inputs)
        if options.form == "mutan":
            self.reduce = nn.ModuleList(unit_linear(width, width) for _ in inputs)

    def _build_full(self) -> None:
        folds, width = len(self.inputs) - 1, self.width
        if folds * width**3 > LARGEST:
            raise RecipeError(
                "form",
                f"'full' over {folds + 1} inputs of width {width} needs {folds * width**3} parameters (limit "
                f"{LARGEST}); choose mlb, mfb or mutan, or a smaller width",
            )
        self.tensors = nn.ParameterList(torch.randn(width, width, width) / width for _ in range(folds))
        self.linear = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(folds))

    def fuse(self, vectors: Tensor, present: Tensor) -> Tensor:
        if self.form == "full":
            return self._fold(vectors)
        parts = list(vectors.unbind(1))
        if self.form == "mutan":
            parts = [u(h).tanh() for u, h in zip(self.reduce, parts, strict=True)]
        factors = torch.stack([u(h) for u, h in zip(self.factors, parts, strict=True)], dim=1)
        if self.form == "mlb":
            factors = factors.tanh()
        joint = self.dropout(reduce(torch.mul, factors.masked_fill(~present.unsqueeze(-1), 1).unbind(1)))
        if self.form == "mlb":
            return self.project(joint)
        summed = joint.unflatten(1, (self.rank, self.width)).sum(1)
        if self.form == "mutan":
            return summed * self.rank**-0.5
        return power_normalise(summed)

    def _fold(self, vectors: Tensor) -> Tensor:
        state = vectors[:, 0]
        for tensor, linear, vector in zip(self.tensors, self.linear, vectors[:, 1:].unbind(1), strict=True):
            product = torch.einsum("bi,oij,bj->bo", state, tensor, vector)
            state = self.dropout(product) + linear(torch.cat([state, vector], dim=1))
        return state


def power_normalise(values: Tensor) -> Tensor:
    """Signed square root, then l2 normalisation to length sqrt(width) of each row of `values [batch, width]`.

    Both are rounded off at zero, y / sqrt(|y| + e) and y / sqrt(mean(y^2) + e): exact zeros stay zeros and
    their gradients are finite.
    """
    rooted = values / (values.abs() + ROUNDING).sqrt()
    return rooted / (rooted.square().mean(1, keepdim=True) + ROUNDING).sqrt()


def unit_linear(read: int, give: int) -> nn.Linear:
    """A linear map that gives units of variance 1 for inputs of variance 1, so that products do not fade."""
    linear = nn.Linear(read, give)
    nn.init.normal_(linear.weight, std=read**-0.5)
    return linear
