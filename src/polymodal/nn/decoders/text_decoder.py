"""The interface of text decoders: a `FusionOutput` and a prompt -> a text, token by token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from polymodal.core.errors import RecipeError
from polymodal.core.types import FusionOutput, OutputShape
from polymodal.nn.decoders.base import Decoder, DecoderOptions
from polymodal.runtime.host_reads import can_read


class DecodingState(ABC):
    """The state of `n` sequences during generation, with cached computations for their tokens."""

    @abstractmethod
    def step(self, tokens: Tensor | None) -> Tensor:
        """Append `tokens [n]` int64 and return the logits `[n, vocabulary]` fp32 of the next token.

        The first call has `tokens` None and returns the logits of the first token after the prompt.
        """

    @abstractmethod
    def reorder(self, rows: Tensor) -> None:
        """Continue with these rows `[m]` int64, in this order; rows may be repeated (beams, samples) or dropped
        (finished)."""


class TextDecoderOptions(DecoderOptions):
    """Base of the options of text decoders."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Fraction of each target's probability that is distributed evenly over the vocabulary in training."""


class TextDecoder(Decoder):
    """Base of the decoders that generate text.

    `prompt` and `answer` are `[batch, length]` int64, right-padded with -1. An answer ends with the end token unless it
    was truncated. A row without an answer consists of padding.
    """

    is_generative: ClassVar[bool] = True

    def __init__(self, options: DecoderOptions, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        if shape.text is None:
            raise RecipeError(
                "", "this decoder generates text, but the task has no text target; remove the decoder, or use another"
            )
        self.smoothing = options.label_smoothing if isinstance(options, TextDecoderOptions) else 0.0
        self.text = shape.text

    def target_nll(self, fused: FusionOutput, prompt: Tensor, answer: Tensor) -> Tensor:
        """`[batch, 2]` fp32: the total negative log-likelihood of each row's answer in nats, and its number of
        tokens."""
        raise NotImplementedError(type(self).__name__)

    def init_state(self, fused: FusionOutput, prompt: Tensor, steps: int) -> DecodingState:
        """The decoding state after the prompts, with capacity for `steps` generated tokens in each row.

        Raises:
            DataError: prompt and `steps` exceed the number of positions of the decoder.
        """
        raise NotImplementedError(type(self).__name__)

    def training_warning(self) -> str | None:
        """A warning for the user about the training answers so far; None if there is none."""
        return None

    def forward(self, fused: FusionOutput) -> Tensor:
        raise TypeError(f"{type(self).__name__} generates text: use target_nll or init_state instead of forward")

    def nll_from_logits(self, logits: Tensor, answer: Tensor) -> Tensor:
        """The result of `target_nll` from logits `[batch, length, vocabulary]` for the answer tokens `[batch,
        length]`."""
        return self.nll_from_flat_logits(logits[answer >= 0] if can_read(answer) else logits.flatten(0, 1), answer)

    def nll_from_flat_logits(self, logits: Tensor, answer: Tensor) -> Tensor:
        """The result of `target_nll` from logits `[tokens, vocabulary]` for the tokens of `answer_positions`."""
        losses = functional.cross_entropy(
            logits.float(),
            target_tokens(answer),
            reduction="none",
            label_smoothing=self.smoothing if self.training else 0.0,
        )
        return nll_of_rows(losses, answer)


def encoder_memory(fused: FusionOutput) -> tuple[Tensor, Tensor]:
    """The memory that a text decoder attends to: features `[batch, length, width]` and mask `[batch, length]`, True =
    real.

    It consists of the fused tokens. If the fusion gives one vector per row, it consists of this vector and the tokens
    of the inputs.
    """
    if not fused.is_vector or not fused.input_tokens:
        return fused.tokens.features, fused.tokens.mask
    features = [fused.tokens.features, *(tokens.features for tokens in fused.input_tokens.values())]
    inputs = fused.input_tokens.values()
    masks = [fused.tokens.mask, *(tokens.mask & tokens.present.unsqueeze(1) for tokens in inputs)]
    dtype = torch.promote_types(features[0].dtype, features[-1].dtype)
    return torch.cat([part.to(dtype) for part in features], dim=1), torch.cat(masks, dim=1)


def join_sequences(bos_id: int, prompt: Tensor, answer: Tensor) -> tuple[Tensor, Tensor]:
    """Concatenate begin token, prompt and answer of each row without padding between them.

    Returns tokens `[batch, length]` int64 right-padded with -1, and the position `[batch]` of the first answer token.
    """
    first = torch.full_like(prompt[:, :1], bos_id) if prompt.shape[1] else prompt.new_full((len(prompt), 1), bos_id)
    whole = torch.cat([first, prompt, answer], dim=1)
    real = whole >= 0
    order = torch.argsort((~real).to(torch.int8), dim=1, stable=True)
    longest = max(1, int(real.sum(1).max())) if can_read(real) and len(whole) else whole.shape[1]
    return whole.gather(1, order)[:, :longest], 1 + (prompt >= 0).sum(1)


def answer_positions(start: Tensor, answer: Tensor) -> tuple[Tensor, Tensor]:
    """Row and position `[tokens]` of the input token that predicts each answer token of `scored_tokens`.

    start: `[batch]`, position of the first token of each answer, as returned by `join_sequences`
    answer: `[batch, length]`
    """
    row, position = scored_tokens(answer)
    return row, start[row] - 1 + position


def scored_tokens(answer: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column `[tokens]` of the tokens of `answer [batch, length]` that get logits, in row order.

    They are the real tokens. On an accelerator they are all tokens, since the number of real ones would have to be
    read from the device; `nll_of_rows` then leaves out the padding.
    """
    if can_read(answer):
        row, position = (answer >= 0).nonzero(as_tuple=True)
        return row, position
    rows, length = answer.shape
    place = torch.arange(rows * length, device=answer.device)
    return place // max(1, length), place % max(1, length)


def target_tokens(answer: Tensor) -> Tensor:
    """The tokens of `scored_tokens`, `[tokens]`; 0 at padding."""
    return answer[answer >= 0] if can_read(answer) else answer.flatten().clamp_min(0)


def nll_of_rows(losses: Tensor, answer: Tensor) -> Tensor:
    """`[batch, 2]` fp32: the sum of the losses of each row, and its number of tokens.

    losses: `[tokens]`, in the order of `scored_tokens`
    """
    real = answer >= 0
    if can_read(answer):
        per_token = torch.zeros(answer.shape, dtype=torch.float32).masked_scatter(real, losses)
    else:
        per_token = torch.where(real, losses.float().view(answer.shape), 0.0)
    return torch.stack([per_token.sum(1), real.sum(1).float()], dim=1)


def gather_answer(values: Tensor, start: Tensor, length: int) -> Tensor:
    """The entries of `values [batch, positions, n]` that predict the answer tokens, `[batch, length, n]`.

    start: `[batch]`, position of the first answer token. Positions beyond the end give the last value
    """
    positions = start.unsqueeze(1) - 1 + torch.arange(length, device=values.device)
    positions = positions.clamp_max(values.shape[1] - 1).unsqueeze(-1)
    gathered: Any = values.gather(1, positions.expand(-1, -1, values.shape[2]))
    return gathered
