"""The fusion methods that see one vector per input, and what their tests need."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from polymodal.core.types import Space, TaskOutput, Tokens
from polymodal.nn.fusion.base import Fusion, VectorFusion
from polymodal.nn.fusion.bilinear import Bilinear
from polymodal.nn.fusion.concat import Concat
from polymodal.nn.fusion.film import FiLM
from polymodal.nn.fusion.gated import Gated
from polymodal.nn.fusion.lowrank import LowRank
from polymodal.nn.fusion.max import Maximum
from polymodal.nn.fusion.mean import Mean
from polymodal.nn.fusion.mixture import MixtureOfExperts
from polymodal.nn.fusion.product import Product
from polymodal.nn.fusion.quality import Quality
from polymodal.nn.fusion.sequential import Sequential
from polymodal.nn.fusion.sum import Sum
from polymodal.nn.fusion.tensor import TensorFusion
from polymodal.nn.fusion.weighted import Weighted

torch.set_num_threads(1)

WIDTH = 6

#: class, options, whether a linear head can read interactions, whether missing inputs are left out altogether
METHODS: list[tuple[type[Fusion], dict[str, Any], bool, bool]] = [
    (Mean, {}, False, True),
    (Weighted, {}, False, True),
    (Weighted, {"input_dependent": True}, True, True),
    (Sum, {}, False, True),
    (Product, {}, True, True),
    (Maximum, {}, True, True),
    (Concat, {"num_layers": 0}, False, False),
    (Concat, {}, True, False),
    (Concat, {"num_layers": 3}, True, False),
    (Gated, {}, True, False),
    (FiLM, {}, True, False),
    (FiLM, {"conditioning_input": "a"}, True, False),
    (Bilinear, {"variant": "mlb"}, True, True),
    (Bilinear, {"variant": "mfb"}, True, True),
    (Bilinear, {"variant": "mutan"}, True, True),
    (Bilinear, {"variant": "full"}, True, False),
    (TensorFusion, {}, True, True),
    (LowRank, {}, True, True),
    (Sequential, {}, True, True),
    (MixtureOfExperts, {}, True, True),
    (MixtureOfExperts, {"top_k": 1}, True, True),
    (Quality, {}, False, True),
    (Quality, {"learned_confidence": True}, False, True),
]
NAMES = [" ".join([m[0].__name__, *(str(v) for v in m[1].values())]) for m in METHODS]
every_method = pytest.mark.parametrize("method", METHODS, ids=NAMES)


def make(method: tuple[type[Fusion], dict[str, Any], bool, bool], inputs: str = "ab", width: int = WIDTH) -> Fusion:
    torch.manual_seed(0)
    options: Any = method[0].Options
    return method[0](options(**method[1]), inputs=list(inputs), width=width)


def vector(cls: type[VectorFusion], inputs: int, width: int, **options: Any) -> Any:
    """A method in evaluation mode (no dropout)."""
    make_options: Any = cls.Options
    return cls(make_options(**options), inputs=list("abcdefgh"[:inputs]), width=width).eval()


def batch(rows: int, inputs: str = "ab", length: int = 3, missing: Tensor | None = None) -> dict[str, Tokens]:
    """Random tokens; `missing [rows, inputs]` bool hides inputs, as the network would."""
    generator = torch.Generator().manual_seed(1)
    tokens = {}
    for index, name in enumerate(inputs):
        features = torch.randn(rows, length, WIDTH, generator=generator)
        mask = torch.ones(rows, length, dtype=torch.bool)
        present = torch.ones(rows, dtype=torch.bool) if missing is None else ~missing[:, index]
        mask[~present, 1:] = False
        tokens[name] = Tokens(features, mask, present)
    return tokens


def decide(fusion: Fusion, tokens: dict[str, Tokens], space: Space = "categorical") -> TaskOutput:
    """Decode each view by a fixed map to three values and combine."""
    views = fusion(tokens)
    assert [view.name for view in views] == fusion.branch_names()
    head = torch.linspace(-1, 1, WIDTH * 3).view(WIDTH, 3)
    return fusion.combine([view.pooled @ head for view in views], views, space, "y")


def flags(*rows: list[int]) -> Tensor:
    return torch.tensor(rows, dtype=torch.bool)
