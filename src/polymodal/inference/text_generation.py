"""Text generation for the rows of a batch."""

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
from polymodal.tasks.generative import GenerativeTask
from polymodal.tasks.text_targets import pad


def generate_texts(
    network: Network,
    name: str,
    task: GenerativeTask,
    branches: list[FusionOutput],
    batch: Batch,
    config: GenerationConfig,
    row_numbers: np.ndarray,
) -> list[list[GenerationOutput]]:
    """Generate `config.num_return_sequences` texts of output `name` for each row of a batch.

    row_numbers: the numbers of the rows, which seed their random draws
    """
    steps = config.max_new_tokens or task.max_new_tokens
    state = network.init_state(name, branches, batch, steps)
    try:
        return generate(state, len(batch), config, task.tokenizer, steps, row_numbers=row_numbers.tolist())
    except RecipeError as error:
        raise error.with_prefix(f"outputs.{name}.task.generation") from None


def generate_tokens(
    network: Network,
    name: str,
    task: GenerativeTask,
    branches: list[FusionOutput],
    batch: Batch,
    row_numbers: np.ndarray,
) -> Tensor:
    """The tokens of one generated text of output `name` for each row of a batch, as in `Predictions.values`."""
    generated = generate_texts(network, name, task, branches, batch, task.generation_config, row_numbers)
    first = [texts[0] for texts in generated]
    before_stops = iter(task.tokenizer.encode([text.text for text in first if text.finish_reason == "stop"]))
    tokens = [next(before_stops) if text.finish_reason == "stop" else text.tokens for text in first]
    return pad([np.asarray(ids, np.int64) for ids in tokens])


def mark_unusable_prompts(tokens: Tensor, prompts: np.ndarray | None, rows: np.ndarray) -> Tensor:
    """The generated tokens, with -2 as the only token of each row with an unusable prompt."""
    unusable = np.array([prompts is not None and prompts[row] is None for row in rows], dtype=bool)
    if not unusable.any():
        return tokens
    tokens = functional.pad(tokens, (0, max(0, 1 - tokens.shape[1])), value=-1)
    mask = torch.from_numpy(unusable)
    tokens[mask] = -1
    tokens[mask, 0] = -2
    return tokens
