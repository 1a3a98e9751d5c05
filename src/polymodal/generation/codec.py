"""Texts as the tokens that a decoder writes, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer

from polymodal.errors import RecipeError
from polymodal.modalities.bpe import PAD, plain, train_bpe
from polymodal.modalities.checkpoint_text import CheckpointTokenizer
from polymodal.pretrained.card import Card

BEGIN, END = "[begin]", "[end]"


class Codec:
    """A tokenizer with its begin and end tokens. Texts never give control tokens, and control tokens never give text.

    begin, end: the tokens before and after a text
    vocabulary: tokens are numbers below it
    card: of the checkpoint whose tokenizer it is; None for one that was learned here
    """

    def __init__(self, tokenizer: Tokenizer, begin: int, end: int, vocabulary: int, card: Card | None = None) -> None:
        self.tokenizer, self.begin, self.end, self.vocabulary, self.card = tokenizer, begin, end, vocabulary, card
        tokenizer.no_padding()
        tokenizer.no_truncation()
        plain(tokenizer)

    @classmethod
    def learned(cls, texts: Iterable[str], vocabulary: int, *, merge: bool = True) -> Codec:
        """Byte-level tokens learned from `texts`; without `merge`, bytes alone."""
        tokenizer = train_bpe(texts, vocabulary, lowercase=False, special=(PAD, BEGIN, END), merge=merge)
        return cls(tokenizer, 1, 2, tokenizer.get_vocab_size())

    @classmethod
    def of_checkpoint(cls, checkpoint: str) -> Codec:
        """The tokens of a pretrained checkpoint.

        Raises:
            RecipeError: there is no such checkpoint, or its files do not say where its texts end.
            MissingExtraError: it needs an optional package.
        """
        reader = CheckpointTokenizer.of(checkpoint)
        return cls._of_card(reader.tokenizer, reader.card)

    @classmethod
    def _of_card(cls, tokenizer: Tokenizer, card: Card) -> Codec:
        config = {**card.config, **card.files.get("generation_config", {})}
        inner = config.get("text_config")
        config = {**inner, **config} if isinstance(inner, dict) else config
        end = _first(config.get("eos_token_id"))
        if end is None:
            raise RecipeError("checkpoint", f"the files of {card.model!r} do not say with which token a text ends")
        starts = [_first(config.get(name)) for name in ("decoder_start_token_id", "bos_token_id")]
        begin = next((one for one in starts if one is not None), end)
        vocabulary = config.get("vocab_size") or tokenizer.get_vocab_size()
        return cls(tokenizer, begin, end, int(vocabulary), card)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, without begin and end."""
        return [one.ids for one in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """The text of each list of tokens; control tokens give nothing."""
        return [text.strip() for text in self.tokenizer.decode_batch([list(one) for one in tokens])]

    def save(self) -> dict[str, Any]:
        """JSON-ready: but for the tokenizer itself, which is `tokenizer.to_str()`."""
        return {} if self.card is None else {"checkpoint": self.card.to_dict()}

    @classmethod
    def load(cls, tokenizer: str, state: dict[str, Any]) -> Codec:
        """Take back what `save` and the tokenizer's own JSON hold."""
        read = Tokenizer.from_str(tokenizer)
        if "checkpoint" in state:
            return cls._of_card(read, Card.of(state["checkpoint"]))
        return cls(read, 1, 2, read.get_vocab_size())


def _first(value: Any) -> int | None:
    """A token number, or the first of several."""
    if isinstance(value, list):
        return _first(value[0]) if value else None
    return int(value) if isinstance(value, int) else None
