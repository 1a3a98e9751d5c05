"""Tokenizer of a pretrained checkpoint."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, normalizers

from polymodal.core.errors import RecipeError
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.resolve import read_checkpoint_config, tokenizer_file

# Before tokenization, a text is truncated to this many characters per kept token. If the result has fewer tokens
# than allowed (long words, runs of blanks), the whole text is tokenized.
CHARACTERS_PER_TOKEN = 16
# Larger limits in a tokenizer's configuration mean "unlimited".
NO_LIMIT = 1_000_000
#: Model types with reserved first positions: token i has the position i + 1 + (id of the padding token).
OFFSET_MODELS = {
    "camembert",
    "data2vec-text",
    "ibert",
    "longformer",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
}


class CheckpointTokenizer:
    """The tokenizer of a checkpoint. Token ids equal those of the reference tokenizer with `truncation=True`.

    The special tokens at the ends of a text ([CLS] ... [SEP], <s>) are those that the post-processor of its
    `tokenizer.json` adds, whatever `add_bos_token` of older files states. A truncated text keeps them. One difference
    is intended: if the text itself contains the string of a control token ("[SEP]", "</s>", "<|endoftext|>"), it is
    tokenized as plain characters, so that no table cell can inject control tokens.

    pad_token_id: id of the padding token (0 if there is none)
    mask_token_id: id of the mask token; None if there is none
    num_special_tokens: number of special tokens added to a text
    control_token_ids: ids of the special tokens, the padding token, and every other token that no text contains
    max_positions: maximum number of tokens of the network, including special tokens; None if unlimited
    """

    def __init__(self, tokenizer: Tokenizer, card: CheckpointConfig) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        self.tokenizer, self.card = tokenizer, card
        tokenizer_config = card.files.get("tokenizer_config", {})
        self.pad_token_id = _padding(tokenizer, card)
        self.max_positions = max_positions_of(card)
        self.truncation_side: str = tokenizer_config.get("truncation_side", "right")
        around = tokenizer.encode("").ids
        self.num_special_tokens = len(around)
        unknown = getattr(tokenizer.model, "unk_token", None) or _content(tokenizer_config.get("unk_token"))
        self._control = {
            token.content: number
            for number, token in tokenizer.get_added_tokens_decoder().items()
            if token.special and token.content != unknown
        }
        self._counted = {*self._control.values(), *around}
        self.mask_token_id = tokenizer.token_to_id(_content(tokenizer_config.get("mask_token")) or "[MASK]")
        self.control_token_ids = sorted({*self._counted, self.pad_token_id})

    @classmethod
    def from_checkpoint(cls, checkpoint: str) -> CheckpointTokenizer:
        """Load the tokenizer from the files of a checkpoint.

        Raises:
            RecipeError: there is no such checkpoint, or its tokenizer is missing or cannot be read.
            MissingExtraError: it needs an optional package.
        """
        try:
            card = read_checkpoint_config(checkpoint, "text")
            tokenizer = _load_tokenizer(tokenizer_file(card), card)
        except RecipeError as error:
            raise error.with_prefix("checkpoint") from None
        tokenizer_config = card.files.get("tokenizer_config", {})
        if tokenizer_config.get("tokenizer_class") == "SiglipTokenizer":
            _add_siglip_normalization(tokenizer, lowercase=tokenizer_config.get("do_lower_case", True))
        return cls(tokenizer, card)

    def check_max_length(self, max_length: int) -> None:
        """Raise RecipeError if `max_length` is not a possible sequence length of this checkpoint."""
        if self.max_positions is not None and max_length > self.max_positions:
            raise RecipeError(
                "max_length", f"the checkpoint {self.card.name!r} reads at most {self.max_positions} tokens"
            )
        if max_length <= self.num_special_tokens:
            problem = f"the checkpoint {self.card.name!r} adds {self.num_special_tokens} special tokens to each text"
            raise RecipeError("max_length", f"{problem}; use at least {self.num_special_tokens + 1}")

    def encode(self, texts: Sequence[str], max_length: int) -> list[tuple[list[int], bool]]:
        """The token ids of each text, between one and `max_length`, and whether the text was truncated."""
        encoded = []
        truncated = self._encode([self._head(text, max_length) for text in texts], max_length)
        again = [
            at for at, text in enumerate(texts) if len(text) > self._characters(max_length) and not truncated[at][1]
        ]
        for at, whole in zip(again, self._encode([texts[at] for at in again], max_length), strict=True):
            truncated[at] = whole
        for ids, longer in truncated:
            encoded.append((ids or [self.pad_token_id], longer))
        return encoded

    def suggest_max_length(self, texts: Sequence[str], max_length: int) -> int:
        """The number of tokens that 99 of 100 of these texts fit in, rounded up to a multiple of eight, at most
        `max_length` and the checkpoint's limit, for a sentence encoder the length of its `sentence_bert_config.json`;
        this maximum if there are no texts."""
        own = self.card.files.get("sentence_bert_config", {}).get("max_seq_length")
        max_length = min(max_length, own or max_length, self.max_positions or max_length)
        lengths = [len(ids) for ids, _ in self.encode(texts, max_length)]
        enough = math.ceil(float(np.percentile(lengths, 99))) if lengths else max_length
        return min(max_length, max(8, -(-enough // 8) * 8))

    def _characters(self, max_length: int) -> int:
        return max_length * CHARACTERS_PER_TOKEN

    def _head(self, text: str, max_length: int) -> str:
        characters = self._characters(max_length)
        return text[-characters:] if self.truncation_side == "left" else text[:characters]

    def _encode(self, texts: list[str], max_length: int) -> list[tuple[list[int], bool]]:
        if not texts:
            return []
        self.tokenizer.enable_truncation(max_length=max_length, direction=self.truncation_side)
        encoded = []
        for text, encoding in zip(texts, self.tokenizer.encode_batch_fast(texts), strict=True):
            if sum(map(self._counted.__contains__, encoding.ids)) > self.num_special_tokens:
                encoding = self.tokenizer.encode(self._break_control_tokens(text))
            encoded.append((encoding.ids, bool(encoding.overflowing)))
        return encoded

    def _break_control_tokens(self, text: str) -> str:
        """Insert a blank into every control token in the text: some vocabularies have them as whole words."""
        for control in sorted(self._control, key=len, reverse=True):
            if len(control) > 1:
                text = text.replace(control, f"{control[0]} {control[1:]}")
        return text


def _load_tokenizer(file: Path, card: CheckpointConfig) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 - the library raises nothing narrower
        raise RecipeError("", f"the tokenizer of {card.name!r} ({file.name}) cannot be read: {error}") from None


def max_positions_of(card: CheckpointConfig) -> int | None:
    """The maximum number of tokens of a checkpoint, from the configurations of its network and its tokenizer.

    None if neither limits it (relative positions).
    """
    config: dict[str, Any] = card.config
    config = {**config, **config["text_config"]} if isinstance(config.get("text_config"), dict) else config
    limits = [card.files.get("tokenizer_config", {}).get("model_max_length"), config.get("n_positions")]
    positions = config.get("max_position_embeddings")
    if positions is not None and config.get("model_type") in OFFSET_MODELS:
        positions -= (config.get("pad_token_id", 1) or 0) + 1
    usable = [int(limit) for limit in [*limits, positions] if limit is not None and 0 < limit < NO_LIMIT]
    return min(usable, default=None)


def _padding(tokenizer: Tokenizer, card: CheckpointConfig) -> int:
    """The id of the padding token, from the tokenizer or else from the network's configuration."""
    config = card.config
    token = _content(card.files.get("tokenizer_config", {}).get("pad_token"))
    number = tokenizer.token_to_id(token) if token is not None else None
    if number is None:
        number = config.get("text_config", {}).get("pad_token_id", config.get("pad_token_id"))
    return number if isinstance(number, int) and number >= 0 else 0


def _add_siglip_normalization(tokenizer: Tokenizer, lowercase: bool) -> None:
    """Add the text normalization of SigLIP's tokenizer, which its `tokenizer.json` may lack: lower case, no ASCII
    punctuation, single blanks (Zhai et al., "Sigmoid Loss for Language Image Pre-Training", 2023)."""
    punctuation = "[" + "".join("\\" + sign for sign in string.punctuation) + "]"
    steps: list[Any] = [normalizers.Lowercase()] if lowercase else []
    steps += [normalizers.Replace(Regex(punctuation), ""), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    own = tokenizer.normalizer
    tokenizer.normalizer = normalizers.Sequence([*steps, own] if own is not None else steps)


def _content(token: Any) -> str | None:
    """A token of `tokenizer_config.json`: text, or a record with its `content`."""
    return token.get("content") if isinstance(token, dict) else token
