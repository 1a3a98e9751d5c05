"""Texts as the tokenizer of a pretrained checkpoint reads them."""

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

# Before it is tokenised, a text is cut to this many characters for each token that is kept; if that turns out to be
# too short (long words, runs of blanks), the whole text is read.
CHARACTERS_PER_TOKEN = 16
# Larger limits in a tokenizer's configuration stand for "none".
NO_LIMIT = 1_000_000
#: Kinds of networks whose first positions are taken: token i has the position i + 1 + (number of the padding token).
OFFSET = {
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
    """The tokenizer of a checkpoint: the same numbers as the reference tokenizer gives with `truncation=True`.

    The special tokens at the ends of a text ([CLS] ... [SEP], <s>) are those that the post-processor of its
    `tokenizer.json` puts there, whatever `add_bos_token` of older files says; a cut text keeps them. One difference is
    meant: where a text itself spells a control token ("[SEP]", "</s>", "<|endoftext|>"), it is read as those characters
    and never as the token, so that no cell of a table can steer the network.

    padding: the number of the padding token (0 where there is none)
    mask: the number of the token that stands for a hidden one; None where there is none
    special: how many special tokens are put around a text
    controls: the numbers of those, of the padding token, and of every other token that no text spells
    limit: the most tokens the network reads, special ones included; None where nothing limits it
    """

    def __init__(self, tokenizer: Tokenizer, card: CheckpointConfig) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        self.tokenizer, self.card = tokenizer, card
        said = card.files.get("tokenizer_config", {})
        self.padding = _padding(tokenizer, card)
        self.limit = position_limit(card)
        self.side: str = said.get("truncation_side", "right")
        around = tokenizer.encode("").ids
        self.special = len(around)
        unknown = getattr(tokenizer.model, "unk_token", None) or _content(said.get("unk_token"))
        self._control = {
            token.content: number
            for number, token in tokenizer.get_added_tokens_decoder().items()
            if token.special and token.content != unknown
        }
        self._counted = {*self._control.values(), *around}
        self.mask = tokenizer.token_to_id(_content(said.get("mask_token")) or "[MASK]")
        self.controls = sorted({*self._counted, self.padding})

    @classmethod
    def of(cls, checkpoint: str) -> CheckpointTokenizer:
        """The tokenizer in the files of a checkpoint.

        Raises:
            RecipeError: there is no such checkpoint, it has no tokenizer, or one that cannot be read.
            MissingExtraError: it needs an optional package.
        """
        try:
            card = read_checkpoint_config(checkpoint, "text")
            tokenizer = _opened(tokenizer_file(card), card)
        except RecipeError as error:
            raise error.with_prefix("checkpoint") from None
        said = card.files.get("tokenizer_config", {})
        if said.get("tokenizer_class") == "SiglipTokenizer":
            _canonical(tokenizer, lowercase=said.get("do_lower_case", True))
        return cls(tokenizer, card)

    def check(self, most: int) -> None:
        """Raises RecipeError where `most` is no possible length of this checkpoint's sequences."""
        if self.limit is not None and most > self.limit:
            raise RecipeError("max_length", f"the checkpoint {self.card.name!r} reads at most {self.limit} tokens")
        if most <= self.special:
            problem = f"the checkpoint {self.card.name!r} puts {self.special} tokens of its own around each text"
            raise RecipeError("max_length", f"{problem}; {self.special + 1} or more are needed")

    def read(self, texts: Sequence[str], most: int) -> list[tuple[list[int], bool]]:
        """The numbers of each text's tokens, at most `most`, at least one, and whether the text was cut."""
        found = []
        cut = self._encode([self._some(text, most) for text in texts], most)
        again = [at for at, text in enumerate(texts) if len(text) > self._characters(most) and not cut[at][1]]
        for at, whole in zip(again, self._encode([texts[at] for at in again], most), strict=True):
            cut[at] = whole
        for ids, longer in cut:
            found.append((ids or [self.padding], longer))
        return found

    def needed(self, texts: Sequence[str], most: int) -> int:
        """Tokens that 99 of 100 of these texts fit in, rounded up to eights, within `most` and the checkpoint's limit;
        the whole of that where there are no texts."""
        most = min(most, self.limit or most)
        lengths = [len(ids) for ids, _ in self.read(texts, most)]
        enough = math.ceil(float(np.percentile(lengths, 99))) if lengths else most
        return min(most, max(8, -(-enough // 8) * 8))

    def _characters(self, most: int) -> int:
        return most * CHARACTERS_PER_TOKEN

    def _some(self, text: str, most: int) -> str:
        characters = self._characters(most)
        return text[-characters:] if self.side == "left" else text[:characters]

    def _encode(self, texts: list[str], most: int) -> list[tuple[list[int], bool]]:
        if not texts:
            return []
        self.tokenizer.enable_truncation(max_length=most, direction=self.side)
        found = []
        for text, encoding in zip(texts, self.tokenizer.encode_batch_fast(texts), strict=True):
            if sum(map(self._counted.__contains__, encoding.ids)) > self.special:
                encoding = self.tokenizer.encode(self._apart(text))
            found.append((encoding.ids, bool(encoding.overflowing)))
        return found

    def _apart(self, text: str) -> str:
        """The text with a blank inside of every control token: some vocabularies hold them as whole words."""
        for control in sorted(self._control, key=len, reverse=True):
            if len(control) > 1:
                text = text.replace(control, f"{control[0]} {control[1:]}")
        return text


def _opened(file: Path, card: CheckpointConfig) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 - the library raises nothing narrower
        raise RecipeError("", f"the tokenizer of {card.name!r} ({file.name}) cannot be read: {error}") from None


def position_limit(card: CheckpointConfig) -> int | None:
    """The most tokens that the network of a checkpoint has positions for, as its configuration and its tokenizer's say.

    None where neither limits it (relative positions).
    """
    config: dict[str, Any] = card.config
    config = {**config, **config["text_config"]} if isinstance(config.get("text_config"), dict) else config
    said = card.files.get("tokenizer_config", {}).get("model_max_length")
    limits = [said, config.get("n_positions")]
    positions = config.get("max_position_embeddings")
    if positions is not None and config.get("model_type") in OFFSET:
        positions -= (config.get("pad_token_id", 1) or 0) + 1
    usable = [int(limit) for limit in [*limits, positions] if limit is not None and 0 < limit < NO_LIMIT]
    return min(usable, default=None)


def _padding(tokenizer: Tokenizer, card: CheckpointConfig) -> int:
    """The number of the padding token, as the tokenizer has it, else as the network's configuration says."""
    config = card.config
    token = _content(card.files.get("tokenizer_config", {}).get("pad_token"))
    number = tokenizer.token_to_id(token) if token is not None else None
    if number is None:
        number = config.get("text_config", {}).get("pad_token_id", config.get("pad_token_id"))
    return number if isinstance(number, int) and number >= 0 else 0


def _canonical(tokenizer: Tokenizer, lowercase: bool) -> None:
    """Small letters, no ASCII punctuation, single blanks: what SigLIP's tokenizer does before it reads (Zhai et al.,
    "Sigmoid Loss for Language Image Pre-Training", 2023), and its `tokenizer.json` may leave out."""
    punctuation = "[" + "".join("\\" + sign for sign in string.punctuation) + "]"
    steps: list[Any] = [normalizers.Lowercase()] if lowercase else []
    steps += [normalizers.Replace(Regex(punctuation), ""), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    own = tokenizer.normalizer
    tokenizer.normalizer = normalizers.Sequence([*steps, own] if own is not None else steps)


def _content(token: Any) -> str | None:
    """A token of `tokenizer_config.json`: text, or a record with its `content`."""
    return token.get("content") if isinstance(token, dict) else token
