"""Texts that a network writes for the rows of a batch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from polymodal.core.errors import RecipeError
from polymodal.core.types import Batch, FusionOutput
from polymodal.generation.config import GenerationConfig
from polymodal.generation.generate import generate
from polymodal.generation.output import GenerationOutput
from polymodal.nn.network import Network
from polymodal.tasks.text_targets import pad
from polymodal.tasks.generative import GenerativeTask


def generate_texts(
    network: Network,
    name: str,
    task: GenerativeTask,
    views: list[FusionOutput],
    batch: Batch,
    writing: GenerationConfig,
    row_numbers: np.ndarray,
) -> list[list[GenerationOutput]]:
    """The texts that output `name` writes in each row of a batch, `writing.samples` for each row.

    numbers: of the rows, on which their draws depend
    """
    steps = writing.max_new_tokens or task.most
    draft = network.draft(name, views, batch, steps)
    try:
        return generate(draft, len(batch), writing, task.codec, steps, row_numbers=row_numbers.tolist())
    except RecipeError as error:
        raise error.with_prefix(f"outputs.{name}.task.writing") from None


def generate_tokens(
    network: Network, name: str, task: GenerativeTask, views: list[FusionOutput], batch: Batch, row_numbers: np.ndarray
) -> Tensor:
    """The tokens of the text that output `name` writes in each row of a batch, as `Decisions.values` holds them."""
    written = generate_texts(network, name, task, views, batch, task.writing, row_numbers)
    first = [texts[0] for texts in written]
    before_stops = iter(task.codec.encode([one.text for one in first if one.ended == "stop"]))
    tokens = [next(before_stops) if one.ended == "stop" else one.tokens for one in first]
    return pad([np.asarray(one, np.int64) for one in tokens])


def mark_unusable_prompts(tokens: Tensor, prompts: np.ndarray | None, rows: np.ndarray) -> Tensor:
    """Written tokens with -2 first, and nothing behind, in every row whose prompt cannot be used."""
    lost = np.array([prompts is not None and prompts[row] is None for row in rows], dtype=bool)
    if not lost.any():
        return tokens
    tokens = functional.pad(tokens, (0, max(0, 1 - tokens.shape[1])), value=-1)
    lost_rows = torch.from_numpy(lost)
    tokens[lost_rows] = -1
    tokens[lost_rows, 0] = -2
    return tokens
