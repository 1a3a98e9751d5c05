"""Text generation with the decoder of a pretrained encoder-decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from polymodal.core.errors import DataError, RecipeError
from polymodal.core.registry import register
from polymodal.core.types import FusionOutput, OutputShape
from polymodal.nn.decoders.encoder_decoder_state import EncoderDecoderState, GroupedState
from polymodal.nn.decoders.text_decoder import (
    DecodingState,
    TextDecoder,
    TextDecoderOptions,
    encoder_memory,
    gather_answer,
    join_sequences,
)
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.encoders.pretrained import PretrainedEncoder
from polymodal.nn.encoders.windowed import refuse_windows
from polymodal.pretrained import fine_tuning
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.seq2seq_decoder import Seq2SeqDecoder
from polymodal.runtime.host_reads import can_read


@register
class EncoderDecoder(TextDecoder):
    """The decoder of a pretrained encoder-decoder checkpoint.

    Supported: T5 (Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
    2020), BART (Lewis et al., 2020), Marian (Junczys-Dowmunt et al., 2018), Whisper (Radford et al., "Robust Speech
    Recognition via Large-Scale Weak Supervision", 2023) and similar models.

        p(y_t | M, s_1, .., s_k, prompt, y_1, .., y_(t-1))

    The start tokens s are the forced tokens in the checkpoint's files (for Whisper: start, language, task, no
    timestamps). With `encoder_source: checkpoint`, M is the output of the checkpoint's own encoder for an input,
    unchanged: the pretrained model works without training. With `encoder_source: fusion`, M is a linear map of the
    fused tokens (see `text_decoder.encoder_memory`), which must be trained. A learned token replaces an input that a
    row lacks. Tokens that the checkpoint's files suppress (Whisper: non-speech tokens) are not generated.

    Raises:
        RecipeError: an option has no effect in combination with the others; the checkpoint is not an encoder-decoder or
            does not have the tokens of this task; prompt and answer exceed its number of positions; the input has a
            different encoder.
    """

    class Options(TextDecoderOptions, fine_tuning.FineTuningOptions):
        name: Literal["encoder_decoder"] = "encoder_decoder"
        checkpoint: str = "starter/whisper-tiny.en"
        """The checkpoint: `starter/whisper-tiny.en`, a hub id (`owner/name`, `owner/name@revision`), or a folder."""
        encoder_source: Literal["checkpoint", "fusion"] = "checkpoint"
        """The memory of cross-attention: the output of the checkpoint's own encoder for an input, or the fused tokens
        of all inputs."""
        input: str | None = None
        """With `encoder_source: checkpoint`, the input that the checkpoint's own encoder encodes. Default: the only
        input."""
        language: str | None = None
        """Language that a multilingual Whisper generates, e.g. `de`. Default: the language in the checkpoint's files,
        else English."""

    uses_encoder_outputs: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("text_generation",)
    options: Options

    def __init__(self, options: Options, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        fine_tuning.check_options(options)
        if options.encoder_source == "fusion" and options.input is not None:
            raise RecipeError(
                "input", "it has no effect with encoder_source: fusion; remove it, or set encoder_source: checkpoint"
            )
        if self.text.checkpoint is None:
            raise RecipeError(
                "",
                "the task has no checkpoint; remove checkpoint from the task, because this decoder sets it",
            )
        self.options, self.input = options, options.input
        self.sequence = Seq2SeqDecoder(
            CheckpointConfig.from_dict(self.text.checkpoint),
            options.language,
            is_quantized=options.quantization != "none",
        )
        needed = len(self.sequence.start_tokens) + self.text.max_prompt_length + self.text.max_target_length - 1
        if self.sequence.max_positions is not None and needed > self.sequence.max_positions:
            problem = f"{self.sequence.checkpoint.name} has {self.sequence.max_positions} positions"
            advice = "reduce max_prompt_length or max_target_length of the task"
            raise RecipeError("", f"{problem}, but start, prompt and answer need {needed}; {advice}")
        fine_tuning.apply_fine_tuning(self.sequence, options)
        if options.encoder_source == "fusion":
            self.connector = nn.Linear(width, self.sequence.width)
        else:
            self.missing = nn.Parameter(torch.randn(self.sequence.width) * 0.02)

    @classmethod
    def required_options(cls, options: Any) -> dict[str, Any]:
        return {"checkpoint": options.checkpoint}

    def load_pretrained(self) -> None:
        self.sequence.load()

    def lr_multipliers(self) -> dict[nn.Parameter, float]:
        return fine_tuning.lr_multipliers(self.sequence, self.options)

    def attach_encoders(self, encoders: Mapping[str, Encoder]) -> None:
        """Select the encoder whose output is the memory, and make it return all tokens."""
        if self.options.encoder_source == "fusion":
            return
        name = self.options.input
        if name is None and len(encoders) != 1:
            raise RecipeError(
                "input", f"set the input that the checkpoint's own encoder encodes: one of {', '.join(encoders)}"
            )
        self.input = name or next(iter(encoders))
        if self.input not in encoders:
            raise RecipeError("input", f"unknown input {self.input!r}; set one of {', '.join(encoders)}")
        encoder, card = encoders[self.input], self.sequence.checkpoint
        refuse_windows({self.input: encoder}, "the checkpoint's decoder reads one window")
        if not isinstance(encoder, PretrainedEncoder) or encoder.checkpoint.source != card.source:
            advice = f"set a pretrained encoder with checkpoint: {card.name} for this input"
            raise RecipeError("input", f"{self.input!r} is not encoded by the checkpoint's own encoder; {advice}")
        if encoder.options.max_tokens is not None:
            raise RecipeError(
                "input", f"this decoder needs all tokens of {self.input!r}; set max_tokens: null in its encoder"
            )
        encoder.keep_all_tokens()

    def target_nll(self, fused: FusionOutput, prompt: Tensor, answer: Tensor) -> Tensor:
        features, mask = self._memory(fused)
        tokens, start = join_sequences(self.sequence.start_tokens[0], self._with_start_tokens(prompt), answer)
        tokens = tokens[:, : max(1, tokens.shape[1] - 1)]  # the last token is not an input
        logits = self.sequence(features, mask, tokens.clamp_min(0))
        return self.nll_from_logits(gather_answer(logits, start, answer.shape[1]), answer)

    def init_state(self, fused: FusionOutput, prompt: Tensor, steps: int) -> DecodingState:
        features, mask = self._memory(fused)
        tokens, _ = join_sequences(
            self.sequence.start_tokens[0], self._with_start_tokens(prompt), prompt.new_zeros(len(prompt), 0)
        )
        lengths, limit = (tokens >= 0).sum(1).tolist(), self.sequence.max_positions
        if limit is not None and max(lengths) + steps - 1 > limit:
            available = limit + 1 - max(lengths)
            problem = f"{steps} tokens exceed the positions of {self.sequence.checkpoint.name}"
            raise DataError(f"{problem}; at most {available} fit after this prompt")

        def group_state(rows: Tensor) -> DecodingState:
            group_mask = None if mask is None else mask[rows]
            return EncoderDecoderState(self.sequence, features[rows], group_mask, tokens[rows, : lengths[int(rows[0])]])

        return GroupedState(lengths, group_state, prompt.device)

    def _with_start_tokens(self, prompt: Tensor) -> Tensor:
        """The prompts, preceded by all start tokens except the first."""
        more = [prompt.new_full((len(prompt), 1), token) for token in self.sequence.start_tokens[1:]]
        return torch.cat([*more, prompt], dim=1)

    def _memory(self, fused: FusionOutput) -> tuple[Tensor, Tensor | None]:
        """The memory of cross-attention, `[batch, length, width]`, and its mask; None if all positions are real."""
        if self.options.encoder_source == "fusion":
            features, mask = encoder_memory(fused)
            features = self.connector(features)
        else:
            assert self.input is not None
            if self.input not in fused.input_tokens:
                problem = f"the fusion has a branch per input, and the branch {fused.name!r} lacks {self.input!r}"
                raise RecipeError("fusion", f"{problem}; use a feature-level fusion, e.g. concat")
            features, mask = self._encoder_output(fused, self.input)
        return features, None if can_read(mask) and bool(mask.all()) else mask

    def _encoder_output(self, fused: FusionOutput, name: str) -> tuple[Tensor, Tensor]:
        present = fused.input_tokens[name].present
        output = fused.encoder_outputs.get(name)
        if output is None:  # no row of this batch has the input
            features = self.missing.expand(len(present), 1, -1)
            return features, torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        features, mask = output.features.float(), output.mask
        if not bool(present.all()):
            first = torch.zeros_like(mask)
            first[:, 0] = True
            mask = torch.where(present.unsqueeze(1), mask, first)
            features = torch.where((first & ~present.unsqueeze(1)).unsqueeze(-1), self.missing, features)
        return features, mask
