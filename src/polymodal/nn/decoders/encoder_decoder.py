"""Writing with the decoder of a pretrained encoder-decoder: of its own encoder's outputs, or of fused tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from polymodal.core.errors import DataError, RecipeError
from polymodal.core.registry import register
from polymodal.core.types import OutputShape, FusionOutput
from polymodal.nn.decoders.encoder_decoder_state import GroupedState, EncoderDecoderState
from polymodal.nn.decoders.text_decoder import DecodingState, TextDecoder, TextDecoderOptions, gather_answer, joined, memory
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.encoders.pretrained import PretrainedEncoder
from polymodal.pretrained import fine_tuning
from polymodal.pretrained.checkpoint_config import Card
from polymodal.pretrained.seq2seq_decoder import SequenceModel


@register
class EncoderDecoder(TextDecoder):
    """The decoder of T5 (Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
    Transformer", 2020), BART (Lewis et al., 2020), Marian (Junczys-Dowmunt et al., 2018), Whisper (Radford et al.,
    "Robust Speech Recognition via Large-Scale Weak Supervision", 2023) and their kin, as its checkpoint has it.

        p(y_t | M, s_1, .., s_k, prompt, y_1, .., y_(t-1))

    The start tokens s are those that the checkpoint's files force (for Whisper start, language, task, no time stamps).
    M is, with `read: own`, what the checkpoint's own encoder gave for an input, unchanged: a pretrained model goes on
    doing what it can do, without a step of training. With `read: fused` it is a linear map of the fused tokens (see
    `writer.memory`), which must be learned. In place of an input that a row lacks stands one learned token. Tokens
    that the checkpoint's files bar (Whisper: what is never said) are not written.

    Raises:
        RecipeError: an option has no effect beside the others; the checkpoint is no encoder-decoder, or writes not the
            tokens of this task; prompt and answer are longer than it has positions; the input has no such encoder.
    """

    class Options(TextDecoderOptions, fine_tuning.TuningOptions):
        name: Literal["encoder_decoder"] = "encoder_decoder"
        model: str = "starter/whisper-tiny.en"
        """The checkpoint: `starter/whisper-tiny.en`, a hub id (`owner/name`, `owner/name@revision`), or a folder."""
        read: Literal["own", "fused"] = "own"
        """What it attends to: what its own encoder gives for an input, or the fused tokens of all inputs."""
        input: str | None = None
        """With `read: own`, the input that the checkpoint's own encoder reads; silent: the only one."""
        language: str | None = None
        """The language that a Whisper of several writes, as `de`; silent: what its files say, else English."""

    uses_encoder_outputs: ClassVar[bool] = True
    options: Options

    def __init__(self, options: Options, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        fine_tuning.check(options)
        if options.read == "fused" and options.input is not None:
            raise RecipeError("input", "it has no effect with read: fused, only with own")
        if self.text.checkpoint is None:
            raise RecipeError("", "the task writes tokens of its own; leave its checkpoint to this decoder")
        self.options, self.input = options, options.input
        self.sequence = SequenceModel(Card.of(self.text.checkpoint), options.language)
        most = len(self.sequence.start) + self.text.prompt + self.text.answer - 1
        if self.sequence.limit is not None and most > self.sequence.limit:
            problem = f"{self.sequence.card.model} has {self.sequence.limit} positions, and start, prompt and answer"
            raise RecipeError("", f"{problem} need {most}; lower the task's prompt_tokens or max_tokens")
        fine_tuning.apply(self.sequence, options)
        if options.read == "fused":
            self.map = nn.Linear(width, self.sequence.width)
        else:
            self.missing = nn.Parameter(torch.randn(self.sequence.width) * 0.02)

    @classmethod
    def prescribe(cls, options: Any) -> dict[str, Any]:
        return {"checkpoint": options.model}

    def initialise(self) -> None:
        self.sequence.load()

    def rates(self) -> dict[nn.Parameter, float]:
        return fine_tuning.rates(self.sequence, self.options)

    def attach(self, encoders: Mapping[str, Encoder]) -> None:
        """Find the encoder whose outputs are read, and have it give all of them."""
        if self.options.read == "fused":
            return
        name = self.options.input
        if name is None and len(encoders) != 1:
            raise RecipeError("input", f"say which input its own encoder reads: one of {', '.join(encoders)}")
        self.input = name or next(iter(encoders))
        if self.input not in encoders:
            raise RecipeError("input", f"there is no input {self.input!r}; name one of {', '.join(encoders)}")
        encoder, card = encoders[self.input], self.sequence.card
        if not isinstance(encoder, PretrainedEncoder) or encoder.card.source != card.source:
            wanted = f"give the input {self.input!r} a pretrained encoder with model: {card.model}"
            raise RecipeError("input", f"it reads what the encoder of its own checkpoint gives; {wanted}")
        if encoder.options.tokens is not None:
            raise RecipeError("input", f"it reads all tokens of {self.input!r}; set tokens: null in that encoder")
        encoder.give_all()

    def losses(self, view: FusionOutput, prompt: Tensor, answer: Tensor) -> Tensor:
        features, mask = self._memory(view)
        tokens, start = joined(self.sequence.start[0], self._started(prompt), answer)
        tokens = tokens[:, : max(1, tokens.shape[1] - 1)]  # the last token decides nothing
        logits = self.sequence(features, mask, tokens.clamp_min(0))
        return self.token_losses(gather_answer(logits, start, answer.shape[1]), answer)

    def begin(self, view: FusionOutput, prompt: Tensor, steps: int) -> DecodingState:
        features, mask = self._memory(view)
        tokens, _ = joined(self.sequence.start[0], self._started(prompt), prompt.new_zeros(len(prompt), 0))
        lengths, limit = (tokens >= 0).sum(1).tolist(), self.sequence.limit
        if limit is not None and max(lengths) + steps - 1 > limit:
            most = limit + 1 - max(lengths)
            raise DataError(f"{steps} tokens are more than {self.sequence.card.model} can write here: {most} at most")

        def draft(rows: Tensor) -> DecodingState:
            masked = None if mask is None else mask[rows]
            return EncoderDecoderState(self.sequence, features[rows], masked, tokens[rows, : lengths[int(rows[0])]])

        return GroupedState(lengths, draft)

    def _started(self, prompt: Tensor) -> Tensor:
        """Prompts behind the start tokens but the first."""
        more = torch.tensor(self.sequence.start[1:], dtype=prompt.dtype, device=prompt.device)
        return torch.cat([more.expand(len(prompt), -1), prompt], dim=1)

    def _memory(self, view: FusionOutput) -> tuple[Tensor, Tensor | None]:
        """What it attends to, `[batch, places, width]`, and its mask; None where all of it is real."""
        if self.options.read == "fused":
            features, mask = memory(view)
            features = self.map(features)
        else:
            assert self.input is not None
            if self.input not in view.input_tokens:
                problem = f"the fusion decides for each input by itself, and {view.name!r} is not {self.input!r}"
                raise RecipeError("fusion", f"{problem}; name a fusion of all inputs, as concat")
            features, mask = self._own(view, self.input)
        return features, None if bool(mask.all()) else mask

    def _own(self, view: FusionOutput, name: str) -> tuple[Tensor, Tensor]:
        present = view.input_tokens[name].present
        given = view.encoder_outputs.get(name)
        if given is None:  # no row of this batch has the input
            features = self.missing.expand(len(present), 1, -1)
            return features, torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        features, mask = given.features.float(), given.mask
        if not bool(present.all()):
            first = torch.zeros_like(mask)
            first[:, 0] = True
            mask = torch.where(present.unsqueeze(1), mask, first)
            features = torch.where((first & ~present.unsqueeze(1)).unsqueeze(-1), self.missing, features)
        return features, mask
