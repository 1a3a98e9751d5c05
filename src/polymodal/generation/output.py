"""The generated texts with their tokens and log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from polymodal.core.errors import TrainingError
from polymodal.generation.config import GenerationConfig
from polymodal.generation.stop_strings import StopStrings
from polymodal.generation.tokenizer import TextTokenizer

FinishReason = Literal["end", "stop", "length"]


@dataclass(frozen=True)
class GenerationOutput:
    """One generated text.

    text: the decoded text, without a stop string
    tokens: the generated token ids, including those of a stop string, without the end token
    log_probability: the sum of the log-probabilities of its tokens and of the end token, in nats, as predicted by the
        decoder before temperature, penalties and constraints
    finish_reason: "end" (end token), "stop" (stop string) or "length" (maximum number of tokens)
    token_log_probabilities: the summands: one for each token, and one for the end token if `finish_reason` is "end"

    Example:
        >>> output = GenerationOutput("a red circle", [97, 114, 99], -1.5, "end", (-0.5, -0.25, -0.25, -0.5))
        >>> sum(output.token_log_probabilities) == output.log_probability
        True
    """

    text: str
    tokens: list[int]
    log_probability: float
    finish_reason: FinishReason
    token_log_probabilities: Sequence[float] = ()


def build_outputs(
    results: Sequence[Sequence[tuple[list[int], list[float], FinishReason]]],
    config: GenerationConfig,
    tokenizer: TextTokenizer,
) -> list[list[GenerationOutput]]:
    """Decode tokens, with their log-probabilities and finish reasons, for each row."""
    stops = StopStrings(config.stop_strings, tokenizer)
    texts = iter(tokenizer.decode([tokens for row in results for tokens, _, _ in row]))
    outputs = []
    for row in results:
        if not row:
            raise TrainingError("the decoder gives every text probability 0, or its weights or inputs are not finite")
        row_outputs = []
        for (tokens, scores, finish_reason), text in zip(row, texts, strict=False):
            total = float(torch.tensor(scores, dtype=torch.float64).sum())
            if total != total:
                raise TrainingError("the logits of the decoder are NaN: its weights or inputs are not finite")
            if finish_reason == "stop":
                text = stops.truncate(tokens) or ""
            row_outputs.append(GenerationOutput(text, tokens, total, finish_reason, tuple(scores)))
        outputs.append(row_outputs)
    return outputs
