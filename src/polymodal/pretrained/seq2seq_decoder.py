"""The decoder of a pretrained encoder-decoder model (T5, BART, Marian, Whisper ...), with its head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from polymodal.core.errors import MissingExtraError, RecipeError
from polymodal.pretrained.backbone import Backbone
from polymodal.pretrained.checkpoint_config import CheckpointConfig

#: Names of the norm after the last layer of a decoder, in different architectures.
FINAL_NORMS = ("final_layer_norm", "layer_norm", "norm")


class Seq2SeqDecoder(Backbone):
    """The decoder and head of an encoder-decoder model, built from its configuration files; `load` loads its weights.
    The encoder output is an input of `forward`.

    width: width of the memory (encoder output) that it attends to
    max_positions: maximum number of tokens; None without a limit
    vocab_size: size of the vocabulary
    start_tokens: forced tokens at the start of every text (Whisper: start, language, task, no timestamps)
    suppressed_tokens, begin_suppressed_tokens: tokens that are never generated, or not as the first token
    """

    def __init__(
        self, checkpoint: CheckpointConfig, language: str | None = None, *, is_quantized: bool = False
    ) -> None:
        super().__init__(checkpoint, seq2seq_part(checkpoint), is_quantized=is_quantized)
        config = self.model.config
        limits = [getattr(config, name, None) for name in ("max_target_positions", "max_position_embeddings")]
        self.max_positions: int | None = next((limit for limit in limits if limit), None)
        self.vocab_size: int = config.vocab_size
        settings = generation_settings(checkpoint)
        self.start_tokens = start_tokens(settings, checkpoint, language)
        single_tokens = [
            words[0] for words in settings.get("bad_words_ids") or [] if len(words) == 1
        ]  # Marian: padding
        self.suppressed_tokens = _token_ids([*(settings.get("suppress_tokens") or []), *single_tokens])
        self.begin_suppressed_tokens = _token_ids(settings.get("begin_suppress_tokens") or [])
        self._memory_mask: Tensor | None = None
        if self.part == "speech":  # transformers passes no memory mask to these models
            for module in self.model.modules():
                if hasattr(module, "encoder_attn"):
                    module.encoder_attn.register_forward_pre_hook(self._add_memory_mask, with_kwargs=True)

    @property
    def is_splittable(self) -> bool:
        return True

    def output_modules(self) -> list[nn.Module]:
        """The norm after the last layer. The head stays frozen, since it is usually tied to the input embeddings."""
        return [module for name, module in self.model.get_decoder().named_children() if name in FINAL_NORMS]

    def forward(self, memory: Tensor, mask: Tensor | None, tokens: Tensor, cache: Any = None) -> Tensor:
        """Next-token logits `[rows, length, vocab_size]` for `tokens [rows, length]`.

        memory: `[rows, positions, width]`; mask: `[rows, positions]`, True = real, None = all real
        cache: keys and values of previous tokens (`new_cache`), to which those of the new tokens are appended
        """
        from transformers.modeling_outputs import BaseModelOutput

        if mask is not None:
            lowest = torch.finfo(memory.dtype).min
            filled = torch.zeros(mask.shape, dtype=memory.dtype, device=memory.device).masked_fill(~mask, lowest)
            self._memory_mask = filled[:, None, None]
        try:
            output = self.model(
                encoder_outputs=BaseModelOutput(memory),
                attention_mask=None if mask is None or self.part == "speech" else mask.long(),
                decoder_input_ids=tokens,
                past_key_values=cache,
                use_cache=cache is not None,
            )
        finally:
            self._memory_mask = None
        logits: Tensor = output.logits
        return logits

    def new_cache(self) -> Any:
        """An empty key-value cache."""
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        return EncoderDecoderCache(DynamicCache(), DynamicCache())

    def suppress_logits(self, logits: Tensor, *, first: bool) -> Tensor:
        """`logits [rows, vocab_size]` with -inf for the suppressed tokens, and with `first` for those at the start."""
        suppressed = [*self.suppressed_tokens, *(self.begin_suppressed_tokens if first else [])]
        if not suppressed:
            return logits
        return logits.index_fill(1, torch.tensor(suppressed, device=logits.device), -torch.inf)

    def _add_memory_mask(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return (args, {**kwargs, "attention_mask": self._memory_mask}) if self._memory_mask is not None else None


def reorder_cache(cache: Any, rows: Tensor) -> None:
    """Select these rows `[m]` of a cache, in this order; rows may be repeated or left out."""
    for layer in [*cache.self_attention_cache.layers, *cache.cross_attention_cache.layers]:
        if layer.is_initialized:
            layer.keys, layer.values = layer.keys.index_select(0, rows), layer.values.index_select(0, rows)


def seq2seq_part(checkpoint: CheckpointConfig) -> str:
    """The type of an encoder-decoder model: `sequence` (text input) or `speech`.

    Raises:
        RecipeError: the checkpoint is not an encoder-decoder model.
        MissingExtraError: transformers is not installed.
    """
    try:
        from transformers.models.auto.modeling_auto import (
            MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
            MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
        )
    except ModuleNotFoundError:
        raise MissingExtraError("transformers", "pretrained", f"the checkpoint {checkpoint.name}") from None
    kind = checkpoint.config.get("model_type", "")
    if kind in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        return "sequence"
    if kind in MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES:
        return "speech"
    raise RecipeError(
        "checkpoint", f"{checkpoint.name} is a {kind}, not an encoder-decoder model (T5, BART, Marian, Whisper)"
    )


def generation_settings(checkpoint: CheckpointConfig) -> dict[str, Any]:
    """The generation settings of a checkpoint; `generation_config.json` takes precedence over `config.json`."""
    settings = checkpoint.files.get("generation_config", {})
    return {**checkpoint.config, **{name: value for name, value in settings.items() if value is not None}}


def start_tokens(settings: dict[str, Any], checkpoint: CheckpointConfig, language: str | None = None) -> list[int]:
    """The forced tokens at the start of every text.

    For multilingual Whisper these are start, language (default: English), task (`transcribe`) and no timestamps; for
    other checkpoints the start token, and the forced first token if there is one (BART, mBART).

    Raises:
        RecipeError: the files define no start token, or the checkpoint does not support the language.
    """
    first = settings.get("decoder_start_token_id", settings.get("bos_token_id"))
    if first is None:
        raise RecipeError(
            "checkpoint", f"the configuration of {checkpoint.name!r} has no decoder_start_token_id or bos_token_id"
        )
    if settings.get("model_type") != "whisper":
        if language is not None:
            raise RecipeError("language", f"{checkpoint.name!r} has no language tokens; only Whisper has them")
        forced = settings.get("forced_bos_token_id")
        return [int(first)] if forced is None else [int(first), int(forced)]
    tokens, no_timestamps = [int(first)], settings.get("no_timestamps_token_id")
    languages = settings.get("lang_to_id") or {}
    if language is not None and f"<|{language}|>" not in languages:
        supported = ", ".join(sorted(name.strip("<|>") for name in languages)) or "only English"
        raise RecipeError("language", f"{checkpoint.name!r} does not support {language!r}; supported: {supported}")
    if languages:
        language_token = f"<|{str(language or settings.get('language') or 'en').strip('<|>')}|>"
        tasks = settings.get("task_to_id", {})
        tokens += [int(languages[language_token]), int(tasks[settings.get("task") or "transcribe"])]
    return tokens if no_timestamps is None else [*tokens, int(no_timestamps)]


def _token_ids(numbers: list[int]) -> list[int]:
    return sorted({int(number) for number in numbers if number >= 0})
