"""The decoder of a pretrained encoder-decoder (T5, BART, Marian, Whisper ...), with its head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from polymodal.core.errors import MissingExtraError, RecipeError
from polymodal.pretrained.backbone import Backbone
from polymodal.pretrained.card import Card

#: Norms that stand behind the layers of a decoder, by the names that architectures give them.
LAST_NORMS = ("final_layer_norm", "layer_norm", "norm")


class SequenceModel(Backbone):
    """The decoder and head of an encoder-decoder, built from its card alone; `load` takes over its weights. What the
    encoder gives is handed to it.

    width: of the memory that it attends to
    limit: the most tokens it has positions for; None where nothing limits it
    vocabulary: tokens are numbers below it
    start: the tokens before every text, as the checkpoint forces them (Whisper: start, language, task, no time stamps)
    never, never_first: tokens that are never written, and never written first
    """

    def __init__(self, card: Card, language: str | None = None) -> None:
        super().__init__(card, part_of(card))
        config = self.model.config
        limits = [getattr(config, name, None) for name in ("max_target_positions", "max_position_embeddings")]
        self.limit: int | None = next((one for one in limits if one), None)
        self.vocabulary: int = config.vocab_size
        said = generation(card)
        self.start = start_tokens(said, card, language)
        single = [words[0] for words in said.get("bad_words_ids") or [] if len(words) == 1]  # Marian: padding
        self.never = _tokens([*(said.get("suppress_tokens") or []), *single])
        self.never_first = _tokens(said.get("begin_suppress_tokens") or [])
        self._memory_mask: Tensor | None = None
        if self.part == "speech":  # transformers gives the memory of these no mask
            for module in self.model.modules():
                if hasattr(module, "encoder_attn"):
                    module.encoder_attn.register_forward_pre_hook(self._with_mask, with_kwargs=True)

    @property
    def cuttable(self) -> bool:
        return True

    def above(self) -> list[nn.Module]:
        """The norm behind the last layer; the head stays, since it mostly is the table of embeddings too."""
        return [module for name, module in self.model.get_decoder().named_children() if name in LAST_NORMS]

    def forward(self, memory: Tensor, mask: Tensor | None, tokens: Tensor, cache: Any = None) -> Tensor:
        """Logits `[rows, length, vocabulary]` of what follows each of `tokens [rows, length]`.

        memory: `[rows, places, width]`; mask: `[rows, places]`, True = real, None = all of them
        cache: keys and values of earlier tokens (`new_cache`), which these are appended to
        """
        from transformers.modeling_outputs import BaseModelOutput

        if mask is not None:
            least = torch.finfo(memory.dtype).min
            self._memory_mask = torch.zeros(mask.shape, dtype=memory.dtype).masked_fill(~mask, least)[:, None, None]
        try:
            found = self.model(
                encoder_outputs=BaseModelOutput(memory),
                attention_mask=None if mask is None or self.part == "speech" else mask.long(),
                decoder_input_ids=tokens,
                past_key_values=cache,
                use_cache=cache is not None,
            )
        finally:
            self._memory_mask = None
        logits: Tensor = found.logits
        return logits

    def new_cache(self) -> Any:
        """Nothing yet: of no token, and of no memory."""
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        return EncoderDecoderCache(DynamicCache(), DynamicCache())

    def bar(self, logits: Tensor, *, first: bool) -> Tensor:
        """`logits [rows, vocabulary]` without the tokens that are never written, or never written `first`."""
        barred = [*self.never, *(self.never_first if first else [])]
        if not barred:
            return logits
        return logits.index_fill(1, torch.tensor(barred, device=logits.device), -torch.inf)

    def _with_mask(self, module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return (given, {**named, "attention_mask": self._memory_mask}) if self._memory_mask is not None else None


def select(cache: Any, rows: Tensor) -> None:
    """Go on with these rows `[m]` of a cache, in this order; they may be repeated or left out."""
    for layer in [*cache.self_attention_cache.layers, *cache.cross_attention_cache.layers]:
        if layer.is_initialized:
            layer.keys, layer.values = layer.keys.index_select(0, rows), layer.values.index_select(0, rows)


def part_of(card: Card) -> str:
    """`sequence` or `speech`: which kind of encoder-decoder it is.

    Raises:
        RecipeError: it is none.
        MissingExtraError: transformers is not installed.
    """
    try:
        from transformers.models.auto.modeling_auto import (
            MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
            MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
        )
    except ModuleNotFoundError:
        raise MissingExtraError("transformers", "pretrained", f"the checkpoint {card.model}") from None
    kind = card.config.get("model_type", "")
    if kind in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        return "sequence"
    if kind in MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES:
        return "speech"
    raise RecipeError("model", f"{card.model} is a {kind}, not an encoder with a decoder (T5, BART, Marian, Whisper)")


def generation(card: Card) -> dict[str, Any]:
    """What the files of a checkpoint say of writing; `generation_config.json` goes before older `config.json`."""
    said = card.files.get("generation_config", {})
    return {**card.config, **{name: value for name, value in said.items() if value is not None}}


def start_tokens(said: dict[str, Any], card: Card, language: str | None = None) -> list[int]:
    """The tokens before every text.

    For Whisper of many languages these are start, language (where nothing says which, English), task (`transcribe`)
    and no time stamps; for other checkpoints the start token, and a first token that is forced (BART, mBART).

    Raises:
        RecipeError: the files do not say the first, or the checkpoint does not know the language.
    """
    first = said.get("decoder_start_token_id", said.get("bos_token_id"))
    if first is None:
        raise RecipeError("model", f"the files of {card.model!r} do not say with which token a text starts")
    if said.get("model_type") != "whisper":
        if language is not None:
            raise RecipeError("language", f"{card.model!r} has no tokens for languages, as Whisper has")
        forced = said.get("forced_bos_token_id")
        return [int(first)] if forced is None else [int(first), int(forced)]
    found, stamps = [int(first)], said.get("no_timestamps_token_id")
    languages = said.get("lang_to_id") or {}
    if language is not None and f"<|{language}|>" not in languages:
        known = ", ".join(sorted(name.strip("<|>") for name in languages)) or "English alone"
        raise RecipeError("language", f"{card.model!r} does not know {language!r}, but {known}")
    if languages:
        named = f"<|{str(language or said.get('language') or 'en').strip('<|>')}|>"
        tasks = said.get("task_to_id", {})
        found += [int(languages[named]), int(tasks[said.get("task") or "transcribe"])]
    return found if stamps is None else [*found, int(stamps)]


def _tokens(numbers: list[int]) -> list[int]:
    return sorted({int(number) for number in numbers if number >= 0})
