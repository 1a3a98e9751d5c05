"""What was written: texts of tokens, and what their writer thought of them."""

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
    """One text.

    text: as users read it
    tokens: as they were written, those of a stop text included, without the end
    log_probability: the sum of the log-probabilities of its tokens and its end, in nats, as the decoder gave them
        before temperature, penalties and constraints
    ended: by the end token, at a stop text, or because it was as long as allowed
    token_log_probabilities: the parts of that sum: of each token, and of the end where `ended` is "end"
    """

    text: str
    tokens: list[int]
    log_probability: float
    ended: FinishReason
    token_log_probabilities: Sequence[float] = ()


def build_outputs(
    found: Sequence[Sequence[tuple[list[int], list[float], FinishReason]]], writing: GenerationConfig, codec: TextTokenizer
) -> list[list[GenerationOutput]]:
    """Tokens, their log-probabilities and the reason to end, as texts."""
    stops = StopStrings(writing.stop, codec)
    texts = iter(codec.decode([tokens for row in found for tokens, _, _ in row]))
    written = []
    for row in found:
        if not row:
            raise TrainingError("the decoder holds every text for impossible, or its weights or inputs are not finite")
        own = []
        for (tokens, scores, ended), text in zip(row, texts, strict=False):
            total = float(torch.tensor(scores, dtype=torch.float64).sum())
            if total != total:
                raise TrainingError("the decoder gave no numbers: its weights, or its inputs, are not finite")
            if ended == "stop":
                text = stops.cut(tokens) or ""
            own.append(GenerationOutput(text, tokens, total, ended, tuple(scores)))
        written.append(own)
    return written
