"""Bilinear fusion in four variants."""

from __future__ import annotations

from functools import reduce
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.core.registry import register
from polymodal.nn.fusion.base import FusionOptions, VectorFusion

#: Upper limit on the number of parameters in the interaction tensors of variant `full`.
MAX_PARAMETERS = 2**25

#: Smooths the signed root and the normalization near zero, so that their gradients stay finite.
EPSILON = 1e-4


@register
class Bilinear(VectorFusion):
    """Products of every unit of one input with every unit of the next, in full or of low rank.

        mlb:    z = P (prod_m tanh(U_m h_m)) + b
        mfb:    z = norm(root(sum_k prod_m U_m^(k) h_m))
        mutan:  z = R^(-1/2) sum_{r=1..R} prod_m M_m^(r) tanh(U_m h_m)
        full:   z_o = h_1' W_o h_2 + (U h_1 + V h_2 + b)_o

    mlb: Kim et al., "Hadamard Product for Low-rank Bilinear Pooling" (2017). mfb: Yu et al., "Multi-modal Factorized
        Bilinear Pooling with Co-Attention Learning for Visual Question Answering" (2017). mutan: Ben-younes et al.,
        "MUTAN: Multimodal Tucker Fusion for Visual Question Answering" (2017). full: Jayakumar et al., "Multiplicative
        Interactions and Where to Find Them" (2020).

    Every U_m and M_m has a bias. root(y) = sign(y) sqrt|y|. norm is division by the l2 norm, times sqrt(width) so that
    units keep a magnitude near 1. The papers fuse two inputs. Here the product of the first three variants runs over
    all inputs. `full` folds from left to right, z_m = bilinear(z_{m-1}, h_m), with separate tensors at each step; a
    single input passes through `full` unchanged.

    Missing inputs are left out of the products (a factor of 1) in the first three variants; `full` reads their learned
    "missing" embeddings. Parameters with rank R and M inputs: mlb (M + 1) R width; mfb M R width^2; mutan M (R + 1)
    width^2; full (M - 1) (width^3 + 2 width^2).

    Raises:
        RecipeError: the tensors of variant `full` would have more than 2^25 parameters.
    """

    class Options(FusionOptions):
        name: Literal["bilinear"] = "bilinear"
        variant: Literal["mlb", "mfb", "mutan", "full"] = "mlb"
        """Factorization of the interaction tensor."""
        rank: int | None = Field(default=None, ge=1, le=4096)
        """Units of the joint space in `mlb` (default: the common width); number of summed terms in `mfb` and `mutan`
        (default: 4). Not available in `full`."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout probability of the product units."""

        @model_validator(mode="after")
        def _rank_has_a_use(self) -> Self:
            if self.variant == "full" and self.rank is not None:
                raise ValueError(
                    "rank has no effect with variant 'full'; remove it, or set variant to mlb, mfb or mutan"
                )
            return self

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.variant = options.variant
        self.dropout = nn.Dropout(options.dropout)
        if options.variant == "full":
            self._build_full()
            return
        self.rank = options.rank or (width if options.variant == "mlb" else 4)
        if options.variant == "mlb":
            self.factors = nn.ModuleList(unit_variance_linear(width, self.rank) for _ in inputs)
            self.project = nn.Linear(self.rank, width)
        else:
            self.factors = nn.ModuleList(unit_variance_linear(width, self.rank * width) for _ in inputs)
        if options.variant == "mutan":
            self.reduce = nn.ModuleList(unit_variance_linear(width, width) for _ in inputs)

    def _build_full(self) -> None:
        folds, width = len(self.inputs) - 1, self.width
        if folds * width**3 > MAX_PARAMETERS:
            raise RecipeError(
                "variant",
                f"'full' with {folds + 1} inputs of width {width} needs {folds * width**3} parameters (limit "
                f"{MAX_PARAMETERS}); use mlb, mfb or mutan, or a smaller hidden_size",
            )
        self.tensors = nn.ParameterList(torch.randn(width, width, width) / width for _ in range(folds))
        self.linear = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(folds))

    def fuse(self, vectors: Tensor, present: Tensor) -> Tensor:
        if self.variant == "full":
            return self._fold(vectors)
        parts = list(vectors.unbind(1))
        if self.variant == "mutan":
            parts = [u(h).tanh() for u, h in zip(self.reduce, parts, strict=True)]
        factors = torch.stack(
            [u(h) for u, h in zip(self.factors, parts, strict=True)], dim=1
        )  # [batch, inputs, rank ..]
        if self.variant == "mlb":
            factors = factors.tanh()
        joint = self.dropout(reduce(torch.mul, factors.masked_fill(~present.unsqueeze(-1), 1).unbind(1)))
        if self.variant == "mlb":
            return self.project(joint)
        summed = joint.unflatten(1, (self.rank, self.width)).sum(1)
        if self.variant == "mutan":
            return summed * self.rank**-0.5
        return power_normalize(summed)

    def _fold(self, vectors: Tensor) -> Tensor:
        state = vectors[:, 0]
        for tensor, linear, vector in zip(self.tensors, self.linear, vectors[:, 1:].unbind(1), strict=True):
            product = torch.einsum("bi,oij,bj->bo", state, tensor, vector)
            state = self.dropout(product) + linear(torch.cat([state, vector], dim=1))
        return state


def power_normalize(values: Tensor) -> Tensor:
    """Signed square root, then l2 normalization of each row of `values [batch, width]` to length sqrt(width).

    Both are smoothed near zero, y / sqrt(|y| + e) and y / sqrt(mean(y^2) + e): exact zeros stay zero, and their
    gradients are finite.
    """
    rooted = values / (values.abs() + EPSILON).sqrt()
    return rooted / (rooted.square().mean(1, keepdim=True) + EPSILON).sqrt()


def unit_variance_linear(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer whose outputs have variance 1 for inputs of variance 1, so that products do not vanish."""
    linear = nn.Linear(in_features, out_features)
    nn.init.normal_(linear.weight, std=in_features**-0.5)
    return linear
