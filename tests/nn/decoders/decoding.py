"""Shared code of decoder tests: fused rows of different length, a single row, and greedy decoding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from polymodal.core.types import FusionOutput, Tokens

ROWS = 8


def views(width: int, draw: torch.Generator) -> FusionOutput:
    """Eight rows of 1 to 5 tokens."""
    features = torch.randn(ROWS, 5, width, generator=draw)
    mask = torch.arange(5) < torch.tensor([5, 1, 3, 2, 5, 4, 1, 2]).unsqueeze(1)
    tokens = Tokens(features, mask, torch.ones(ROWS, dtype=torch.bool))
    return FusionOutput("joint", tokens, tokens.pooled(), torch.ones(ROWS))


def one(view: FusionOutput, row: int) -> FusionOutput:
    """A single row, without its padding."""
    at, length = slice(row, row + 1), int(view.tokens.mask[row].sum())
    tokens = Tokens(view.tokens.features[at, :length], view.tokens.mask[at, :length], view.tokens.present[at])
    return replace(view, tokens=tokens, pooled=view.pooled[at], weight=view.weight[at])


def greedy(model: Any, view: FusionOutput, prompt: Tensor, steps: int) -> Tensor:
    """The likeliest tokens `[rows, steps]`, kept keys and values at work."""
    with torch.inference_mode():
        state = model.init_state(view, prompt, steps)
        found = [state.step(None).argmax(-1)]
        while len(found) < steps:
            found.append(state.step(found[-1]).argmax(-1))
    return torch.stack(found, dim=1)
