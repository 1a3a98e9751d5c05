"""Texts as the tokens that a decoder writes, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from polymodal.core.errors import RecipeError
from polymodal.generation.control_tokens import control_tokens, without_control_tokens
from polymodal.modalities.bpe import PAD, plain, train_bpe
from polymodal.modalities.checkpoint_tokenizer import CheckpointTokenizer
from polymodal.pretrained.checkpoint_config import Card

BEGIN, END = "[begin]", "[end]"
#: Control tokens of those who speak in a conversation, in tokenizers that are learned here.
ROLES = {"system": "[system]", "user": "[user]", "assistant": "[assistant]"}
SPECIAL = (PAD, BEGIN, END, *ROLES.values())
#: Special tokens and the 256 bytes: the smallest vocabulary of a tokenizer that is learned here.
SMALLEST = len(SPECIAL) + 256


class TextTokenizer:
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
        said = None if card is None else card.files.get("tokenizer_config", {}).get("unk_token")
        self.control = control_tokens(tokenizer, said.get("content") if isinstance(said, dict) else said)
        self._disarmed: Tokenizer | None = None
        # Whisper was trained on texts that begin with a blank, as transcripts go on
        self.before = " " if card is not None and card.config.get("model_type") == "whisper" else ""

    @classmethod
    def learned(cls, texts: Iterable[str], vocabulary: int, *, merge: bool = True) -> TextTokenizer:
        """Byte-level tokens learned from `texts`; without `merge`, bytes alone."""
        tokenizer = train_bpe(texts, vocabulary, lowercase=False, special=SPECIAL, merge=merge)
        return cls(tokenizer, 1, 2, tokenizer.get_vocab_size())

    @classmethod
    def of_checkpoint(cls, checkpoint: str) -> TextTokenizer:
        """The tokens of a pretrained checkpoint.

        Raises:
            RecipeError: there is no such checkpoint, or its files do not say where its texts end.
            MissingExtraError: it needs an optional package.
        """
        reader = CheckpointTokenizer.of(checkpoint)
        return cls._of_card(reader.tokenizer, reader.card)

    @classmethod
    def of_model(cls, folder: str) -> TextTokenizer:
        """The tokens that a saved model writes; `folder` is its directory.

        Raises:
            RecipeError: there is no such model, or it does not have exactly one text output.
        """
        state = Path(folder) / "preparation.json"
        try:
            outputs: dict[str, Any] = json.loads(state.read_text(encoding="utf-8"))["outputs"]
            found = [(place, one["codec"]) for place, one in enumerate(outputs.values()) if "codec" in one]
            if len(found) != 1:
                raise RecipeError("tokenizer", f"the model in {folder} has {len(found)} text outputs, not one")
            place, saved = found[0]
            file = Path(folder) / "preparation" / f"output{place}" / "tokenizer.json"
            return cls.load(file.read_text(encoding="utf-8"), saved)
        except (OSError, ValueError, KeyError) as error:
            raise RecipeError("tokenizer", f"{folder} is no directory of a saved model: {error}") from None

    @classmethod
    def _of_card(cls, tokenizer: Tokenizer, card: Card) -> TextTokenizer:
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
        texts = [self.before + text for text in texts]
        found = [one.ids for one in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        for place, ids in enumerate(found):
            if not self.control.isdisjoint(ids):  # some vocabularies have control tokens among their words
                if self._disarmed is None:
                    self._disarmed = without_control_tokens(self.tokenizer, self.control)
                found[place] = self._disarmed.encode(texts[place], add_special_tokens=False).ids
        return found

    def decode(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """The text of each list of tokens; control tokens give nothing."""
        return [text.strip() for text in self.tokenizer.decode_batch([list(one) for one in tokens])]

    def role(self, name: str) -> int:
        """The control token before what `system`, `user` or `assistant` says, of a tokenizer that was learned here."""
        return SPECIAL.index(ROLES[name])

    def save(self) -> dict[str, Any]:
        """JSON-ready: but for the tokenizer itself, which is `tokenizer.to_str()`."""
        return {} if self.card is None else {"checkpoint": self.card.to_dict()}

    @classmethod
    def load(cls, tokenizer: str, state: dict[str, Any]) -> TextTokenizer:
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
