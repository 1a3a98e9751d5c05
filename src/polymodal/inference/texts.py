"""Texts that a network writes for the rows of a batch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from polymodal.core.errors import RecipeError
from polymodal.core.types import Batch, View
from polymodal.generation.config import Writing
from polymodal.generation.loop import write as generate
from polymodal.generation.output import Written
from polymodal.nn.network import Network
from polymodal.tasks.answers import padded
from polymodal.tasks.generation import GenerationTask


def write_texts(
    network: Network,
    name: str,
    task: GenerationTask,
    views: list[View],
    batch: Batch,
    writing: Writing,
    numbers: np.ndarray,
) -> list[list[Written]]:
    """The texts that output `name` writes in each row of a batch, `writing.samples` for each row.

    numbers: of the rows, on which their draws depend
    """
    steps = writing.max_tokens or task.most
    draft = network.draft(name, views, batch, steps)
    try:
        return generate(draft, len(batch), writing, task.codec, steps, numbers=numbers.tolist())
    except RecipeError as error:
        raise error.under(f"outputs.{name}.task.writing") from None


def write_tokens(
    network: Network, name: str, task: GenerationTask, views: list[View], batch: Batch, numbers: np.ndarray
) -> Tensor:
    """The tokens of the text that output `name` writes in each row of a batch, as `Decisions.values` holds them."""
    written = write_texts(network, name, task, views, batch, task.writing, numbers)
    first = [texts[0] for texts in written]
    before_stops = iter(task.codec.encode([one.text for one in first if one.ended == "stop"]))
    tokens = [next(before_stops) if one.ended == "stop" else one.tokens for one in first]
    return padded([np.asarray(one, np.int64) for one in tokens])


def marked(tokens: Tensor, prompts: np.ndarray | None, rows: np.ndarray) -> Tensor:
    """Written tokens with -2 first, and nothing behind, in every row whose prompt cannot be used."""
    lost = np.array([prompts is not None and prompts[row] is None for row in rows], dtype=bool)
    if not lost.any():
        return tokens
    tokens = functional.pad(tokens, (0, max(0, 1 - tokens.shape[1])), value=-1)
    lost_rows = torch.from_numpy(lost)
    tokens[lost_rows] = -1
    tokens[lost_rows, 0] = -2
    return tokens
