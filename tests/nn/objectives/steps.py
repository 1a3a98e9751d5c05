"""One step with given tokens, for objectives on numbers that are small enough to compute by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from polymodal.core.types import Batch, InputBatch, Tokens
from polymodal.nn.objectives.base import InputInfo, ObjectiveBatch


def reads(*names: str, modality: str = "number") -> dict[str, InputInfo]:
    """Input descriptions for objectives that do not use the encoders."""
    return {name: InputInfo(modality, {}, torch.nn.Identity()) for name in names}  # type: ignore[arg-type]


def step(
    vectors: dict[str, Tensor],
    *,
    index: dict[str, Any] | None = None,
    present: dict[str, Any] | None = None,
    rows: Any = None,
    network: Any = None,
) -> ObjectiveBatch:
    """A step whose inputs have one token `[batch, width]` each.

    index: by input, the item of each row; silent: one of its own
    present: by input, which rows have it; silent: all
    """
    count = len(next(iter(vectors.values())))
    inputs, tokens = {}, {}
    for name, features in vectors.items():
        there = torch.tensor((present or {}).get(name, [True] * count))
        item = torch.tensor((index or {}).get(name, list(range(count))))
        inputs[name] = InputBatch({"values": features}, item, there)
        tokens[name] = Tokens(features.unsqueeze(1), torch.ones(count, 1, dtype=torch.bool), there)
    numbers = torch.arange(count) if rows is None else torch.tensor(rows)
    batch = Batch(inputs, {}, numbers)
    shown: Any = network or SimpleNamespace(objectives={})
    return ObjectiveBatch(shown, batch, tokens, lambda: batch)


def bare(objective: Any) -> Any:
    """The alignment with heads that leave vectors as they are."""
    for name in objective.heads:
        objective.heads.add_module(name, torch.nn.Identity())
    return objective
