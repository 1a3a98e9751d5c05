"""What a decoder that writes is: a `View` and a prompt -> a text, token by token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from polymodal.core.errors import RecipeError
from polymodal.core.types import OutputShape, FusionOutput
from polymodal.nn.decoders.base import Decoder, DecoderOptions


class DecodingState(ABC):
    """Texts that are being written, one in each of `n` rows; what was computed for their tokens is kept."""

    @abstractmethod
    def step(self, tokens: Tensor | None) -> Tensor:
        """Append `tokens [n]` int64, and give the logits `[n, vocabulary]` fp32 of what follows them.

        None comes first, once: then the logits are of what follows the prompt.
        """

    @abstractmethod
    def select(self, rows: Tensor) -> None:
        """Go on with these rows `[m]` int64, in this order: repeated (beams, samples), or left out (finished)."""


class TextDecoderOptions(DecoderOptions):
    """Base of the options of decoders that write."""

    smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each token's probability that is spread evenly over the vocabulary in training."""


class TextDecoder(Decoder):
    """Base of the decoders that write texts.

    `prompt` and `answer` are `[batch, length]` int64, padded with -1 behind; an answer ends with the end token unless
    it was cut. A row without an answer has only padding there.
    """

    writes: ClassVar[bool] = True

    def __init__(self, options: DecoderOptions, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        if shape.text is None:
            raise RecipeError("", "this decoder writes texts, and the task asks for none; leave the decoder out")
        self.smoothing = options.smoothing if isinstance(options, TextDecoderOptions) else 0.0
        self.text = shape.text

    def losses(self, view: FusionOutput, prompt: Tensor, answer: Tensor) -> Tensor:
        """`[batch, 2]` fp32: the summed negative log-likelihood of each row's answer in nats, and its tokens."""
        raise NotImplementedError(type(self).__name__)

    def begin(self, view: FusionOutput, prompt: Tensor, steps: int) -> DecodingState:
        """Begin to write after the prompts, at most `steps` tokens in each row.

        Raises:
            DataError: so many tokens do not fit what the decoder can hold.
        """
        raise NotImplementedError(type(self).__name__)

    def notice(self) -> str | None:
        """A sentence for the user about the answers of training so far; None if there is nothing to say."""
        return None

    def forward(self, view: FusionOutput) -> Tensor:
        raise TypeError(f"{type(self).__name__} writes: it has losses and begin, and no values")

    def token_losses(self, logits: Tensor, answer: Tensor) -> Tensor:
        """What `losses` gives, from logits `[batch, length, vocabulary]` of the answer's tokens `[batch, length]`."""
        return self.real_losses(logits[answer >= 0], answer)

    def real_losses(self, logits: Tensor, answer: Tensor) -> Tensor:
        """What `losses` gives, from logits `[tokens, vocabulary]` of the answer's real tokens, row by row."""
        real = answer >= 0
        found = functional.cross_entropy(
            logits.float(), answer[real], reduction="none", label_smoothing=self.smoothing if self.training else 0.0
        )
        spread = torch.zeros(answer.shape, dtype=torch.float32, device=answer.device).masked_scatter(real, found)
        return torch.stack([spread.sum(1), real.sum(1).float()], dim=1)


def memory(view: FusionOutput) -> tuple[Tensor, Tensor]:
    """What a writer attends to: features `[batch, length, width]` and mask `[batch, length]`, True = real.

    The fused tokens; where the fusion made one vector of them, that vector and the inputs' own tokens.
    """
    if not view.is_vector or not view.input_tokens:
        return view.tokens.features, view.tokens.mask
    features = [view.tokens.features, *(one.features for one in view.input_tokens.values())]
    masks = [view.tokens.mask, *(one.mask & one.present.unsqueeze(1) for one in view.input_tokens.values())]
    kind = torch.promote_types(features[0].dtype, features[-1].dtype)
    return torch.cat([one.to(kind) for one in features], dim=1), torch.cat(masks, dim=1)


def joined(begin: int, prompt: Tensor, answer: Tensor) -> tuple[Tensor, Tensor]:
    """Begin token, prompt and answer of each row without gaps: tokens `[batch, length]` int64 padded with -1, and the
    place `[batch]` of the first token of the answer."""
    first = torch.full_like(prompt[:, :1], begin) if prompt.shape[1] else prompt.new_full((len(prompt), 1), begin)
    whole = torch.cat([first, prompt, answer], dim=1)
    real = whole >= 0
    order = torch.argsort((~real).to(torch.int8), dim=1, stable=True)
    longest = max(1, int(real.sum(1).max())) if len(whole) else 1
    return whole.gather(1, order)[:, :longest], 1 + (prompt >= 0).sum(1)


def answer_positions(start: Tensor, answer: Tensor) -> tuple[Tensor, Tensor]:
    """Row and place `[tokens]` of what decides each real token of the answers `[batch, length]`, row by row: the token
    before it. `start [batch]` is the place of each answer's first token, as `joined` gives it."""
    row, place = (answer >= 0).nonzero(as_tuple=True)
    return row, start[row] - 1 + place


def gather_answer(values: Tensor, start: Tensor, length: int) -> Tensor:
    """Of `values [batch, places, n]` those that decide the answer's tokens, `[batch, length, n]`: the place before
    each. `start [batch]` is the place of the answer's first token; places behind the end give the last."""
    places = start.unsqueeze(1) - 1 + torch.arange(length, device=values.device)
    places = places.clamp_max(values.shape[1] - 1).unsqueeze(-1)
    taken: Any = values.gather(1, places.expand(-1, -1, values.shape[2]))
    return taken
