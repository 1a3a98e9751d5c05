"""Text, in any language."""

from __future__ import annotations

import datetime
import math
import numbers
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import xxhash
from pydantic import Field
from tokenizers import Tokenizer

from polymodal.core.errors import ArtifactError, RecipeError
from polymodal.core.options import Size, SizedModel, sized_field
from polymodal.core.registry import register
from polymodal.data.store.items import PreparedInput, RaggedItems
from polymodal.data.table.block import RowBlock
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.modalities.base import Modality, ModalityOptions
from polymodal.modalities.bpe import SMALLEST, plain, train_bpe
from polymodal.modalities.cell_parsing import read_distinct
from polymodal.modalities.checkpoint_tokenizer import CheckpointTokenizer
from polymodal.modalities.text_corruption import drop_words, mistype, shuffle_words
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.recipe.data import LimitOptions

# A text is cut to this many characters for each token that is kept, before it is tokenised: so long texts
# stay cheap.
CHARACTERS_PER_TOKEN = 16
LONGEST = 512
# The tokenizer is trained on the first distinct texts up to this many characters.
TRAINING_CHARACTERS = 20_000_000

_WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W぀-ヿ㐀-鿿가-힯]+")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@register
class Text(Modality):
    """Texts as sequences of byte-pair symbols (see `bpe.train_bpe`), or of the tokens of a pretrained checkpoint (see
    `checkpoint_text.CheckpointTokenizer`).

    Prepared: `values [items, length]` int32, padded with 0, and `length [items]`. Equal texts are one item.
    Empty and blank texts count as missing. Numbers and dates among the texts are read as they print.

    After `prepare`, `cut` counts the rows whose text was longer than `max_tokens`, and `repaired` those in which a
    character that cannot exist (half a surrogate pair) was shown as U+FFFD.
    """

    class Options(ModalityOptions, SizedModel):
        name: Literal["text"] = "text"
        checkpoint: str | None = None
        """Read texts with the tokenizer of this pretrained checkpoint: a preset (`starter`, `fast`, `balanced`,
        `best`), a hub id, or a folder. Silent: a tokenizer is learned from the training rows."""
        lowercase: bool = False
        """Read capitals as small letters. Not beside a checkpoint, whose tokenizer decides that."""
        vocab_size: int | None = sized_field(4_000, 8_000, 16_000, ge=SMALLEST, le=200_000)
        """Most symbols the tokenizer may learn; it learns fewer from little text. Null beside a checkpoint, whose
        tokenizer has learned already."""
        max_length: int | None = Field(default=None, ge=1, le=8_192)
        """Symbols kept of a text. Silent: enough for 99 of 100 texts of a sample, at most 512, and no more than a
        checkpoint has positions for."""

        def at_size(self, size: Size) -> Self:
            filled = super().at_size(size)
            if self.checkpoint is None or "vocab_size" in self.model_fields_set:
                return filled
            return filled.model_copy(update={"vocab_size": None})

    default_encoder = "transformer"
    corruptions = ("typing_errors", "dropped_words", "shuffled_words")
    options: Options

    def __init__(self, options: Options, *, columns: list[str]) -> None:
        super().__init__(options, columns=columns)
        self.column = columns[0]
        self.max_tokens = options.max_length or LONGEST
        self.tokenizer: Tokenizer | None = None
        self.reader: CheckpointTokenizer | None = None
        self.cut = self.repaired = 0

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        texts = [value for value in sample.values if isinstance(value, str) and value.strip()]
        if not texts or len(texts) < 0.9 * len(sample.values) or looks_like_keys(texts):
            return None
        words = sum(len(_WORD.findall(text[:1_000])) for text in texts) / len(texts)
        if words >= 3:
            return Match(0.8, f"texts of {words:.1f} words on average")
        if sample.distinct > 0.5 * len(texts):
            return Match(0.5, "short texts, most of them different")
        return Match(0.2, "short texts that repeat")

    @classmethod
    def resolve(cls, options: Options, samples: list[ColumnSample]) -> Options:
        """Fill `max_tokens` from the lengths of sampled texts under a tokenizer trained on the sample itself.

        A fifth is added, since the sample fits its own tokenizer better than other texts will.

        Raises:
            RecipeError: there is no such checkpoint, it has no tokenizer, or another option does not go with it.
        """
        if options.checkpoint is not None:
            return _resolve_checkpoint(options, options.checkpoint, samples)
        if options.vocab_size is None:
            raise RecipeError("vocab_size", "null is for checkpoints; say how many symbols, or leave it out")
        if options.max_length is not None:
            return options
        texts = [as_text(value) for sample in samples for value in sample.values]
        usable = list(_budget((text[: LONGEST * 4] for text in texts if text), 1_000_000))
        if not usable:
            return options.model_copy(update={"max_length": LONGEST})
        tokenizer = train_bpe(usable, options.vocab_size, options.lowercase)
        lengths = [len(found.ids) for found in tokenizer.encode_batch_fast(usable)]
        needed = math.ceil(float(np.percentile(lengths, 99)) * 1.2)
        return options.model_copy(update={"max_length": min(LONGEST, max(8, -(-needed // 8) * 8))})

    def fit(self, blocks: Iterable[RowBlock]) -> None:
        """Train the tokenizer on the distinct texts of the training rows; a checkpoint's stays as it is. Unusable cells
        are left to `prepare`.
        """
        if self.options.checkpoint is not None:
            self._adopt(CheckpointTokenizer.of(self.options.checkpoint))
            return
        assert self.options.vocab_size is not None
        texts = _budget(self._distinct(blocks), TRAINING_CHARACTERS)
        self.tokenizer = train_bpe(texts, self.options.vocab_size, self.options.lowercase)

    def _adopt(self, reader: CheckpointTokenizer) -> None:
        self.reader, self.tokenizer = reader, reader.tokenizer
        self.max_tokens = min(self.max_tokens, reader.limit or self.max_tokens)

    def _distinct(self, blocks: Iterable[RowBlock]) -> Iterator[str]:
        seen: set[bytes] = set()
        for block in blocks:
            for cell in read_distinct(block.columns[self.column])[1]:
                text = as_text(cell)
                if text and (key := _key(text)) not in seen:
                    seen.add(key)
                    yield text[: self._characters]

    @property
    def _characters(self) -> int:
        return self.max_tokens * CHARACTERS_PER_TOKEN

    def prepare(self, block: RowBlock) -> PreparedInput:
        codes, cells = read_distinct(block.columns[self.column])
        texts: dict[str, int] = {}
        item = np.full(len(cells) + 1, -1, np.int64)  # the last is for null, code -1
        faulty = []
        for code, cell in enumerate(cells):
            text = as_text(cell)
            if text is None:
                faulty.append(code)
            elif text:
                self.repaired += isinstance(cell, str) and text.count("\ufffd") > cell.count("\ufffd")
                item[code] = texts.setdefault(text, len(texts))
        index = item[codes]
        for position in np.flatnonzero(np.isin(codes, faulty)).tolist():
            reason = f"a text was expected, not {type(cells[codes[position]]).__name__}"
            block.add_error(position, self.column, reason)
        found = self._read(list(texts))
        cut = np.array([longer for _, longer in found], dtype=bool)
        sequences = [np.asarray(ids, dtype=np.int32) for ids, _ in found]
        self.cut += int(cut[index[index >= 0]].sum())
        starts = np.concatenate([[0], np.cumsum([len(ids) for ids in sequences])]).astype(np.int64)
        values = np.concatenate([np.zeros(0, np.int32), *sequences])
        return PreparedInput(index, RaggedItems({"values": values}, starts), [_key(text) for text in texts])

    def _read(self, texts: list[str]) -> list[tuple[list[int], bool]]:
        """The numbers of each text's symbols, at most `max_tokens`, and whether the text had more."""
        if self.reader is not None:
            return self.reader.read(texts, self.max_tokens)
        assert self.tokenizer is not None, "fit or load comes first"
        found = self.tokenizer.encode_batch_fast([text[: self._characters] for text in texts])
        return [
            (one.ids[: self.max_tokens], len(one.ids) > self.max_tokens or len(text) > self._characters)
            for one, text in zip(found, texts, strict=True)
        ]

    def corrupt(
        self, items: dict[str, np.ndarray], kind: str, strength: float, draw: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Texts as their symbols spell them, damaged and read again."""
        change = {"typing_errors": mistype, "dropped_words": drop_words, "shuffled_words": shuffle_words}[kind]
        spelt = [ids[:count].tolist() for ids, count in zip(items["values"], items["length"], strict=True)]
        assert self.tokenizer is not None, "fit or load comes first"
        texts = self.tokenizer.decode_batch(spelt, skip_special_tokens=self.reader is not None)
        read = [ids for ids, _ in self._read([change(text, strength, draw) for text in texts])]
        length = np.array([max(1, len(ids)) for ids in read], np.int64)
        values = np.zeros((len(read), int(length.max(initial=1))), np.int32)
        for row, ids in zip(values, read, strict=True):
            row[: len(ids)] = ids
        return {"values": values, "length": length}

    def shape(self) -> dict[str, Any]:
        """`vocabulary`: symbols, padding included; `length`: the longest sequence; with a checkpoint also `checkpoint`,
        its card, `padding` and `mask`, the numbers of these tokens (None: it has no mask token), and `special`, those
        of all tokens that no text spells."""
        assert self.tokenizer is not None, "fit or load comes first"
        shape: dict[str, Any] = {"vocabulary": self.tokenizer.get_vocab_size(), "length": self.max_tokens}
        if self.reader is not None:
            reader = self.reader
            shape |= {"checkpoint": reader.card.to_dict(), "padding": reader.padding}
            shape |= {"mask": reader.mask, "special": reader.controls}
        return shape

    def identity(self, limits: LimitOptions) -> str:
        return f"text {_key(self._json()).hex()} {self.max_tokens}"

    def _json(self) -> str:
        assert self.tokenizer is not None, "fit or load comes first"
        self.tokenizer.no_truncation()
        return self.tokenizer.to_str()

    def save(self, folder: Path) -> dict[str, Any]:
        (folder / "tokenizer.json").write_text(self._json(), encoding="utf-8")
        state: dict[str, Any] = {"max_tokens": self.max_tokens}
        return state if self.reader is None else {**state, "checkpoint": self.reader.card.to_dict()}

    def load(self, folder: Path, state: dict[str, Any]) -> None:
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise ArtifactError(f"{file} is missing: the tokenizer of column {self.column!r}")
        self.tokenizer = plain(Tokenizer.from_str(file.read_text(encoding="utf-8")))
        if "checkpoint" in state:
            self._adopt(CheckpointTokenizer(self.tokenizer, CheckpointConfig.from_dict(state["checkpoint"])))
        self.max_tokens = state["max_tokens"]

    def show(self) -> str:
        shape = self.shape()
        kind = "byte-pair symbols" if self.reader is None else f"symbols of {self.reader.card.name}"
        line = f"{shape['vocabulary']:,} {kind}, texts up to {shape['length']} of them"
        return line + (f"; {self.cut:,} rows cut" if self.cut else "")


def _resolve_checkpoint(options: Text.Options, checkpoint: str, samples: list[ColumnSample]) -> Text.Options:
    for name, neutral in {"lowercase": False, "vocab_size": None}.items():
        if name in options.model_fields_set and getattr(options, name) != neutral:
            raise RecipeError(name, f"the checkpoint {checkpoint!r} has a tokenizer of its own; leave this out")
    reader = CheckpointTokenizer.of(checkpoint)
    if options.max_length is not None:
        reader.check(options.max_length)
        return options
    texts = [as_text(value) for sample in samples for value in sample.values]
    needed = reader.needed(list(_budget(filter(None, texts), 1_000_000)), LONGEST)
    return options.model_copy(update={"max_length": needed})


def as_text(cell: Any) -> str | None:
    """The text of a cell without the blanks around it, "" where it is null or blank, None where it is no text.

    Surrogate pairs are joined; half a pair becomes U+FFFD, the sign for a character that could not be read.
    """
    if cell is None or (isinstance(cell, float | np.floating) and np.isnan(cell)):
        return ""
    if isinstance(cell, str):
        if _SURROGATE.search(cell):
            cell = cell.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return cell.strip()
    if isinstance(cell, bytes):
        return _decoded(cell)
    if isinstance(cell, numbers.Number | np.generic | Decimal | datetime.date | datetime.time):
        return str(cell)
    return None


def _decoded(cell: bytes) -> str | None:
    try:
        return cell.decode("utf-8").strip()
    except UnicodeDecodeError:
        return None


def looks_like_keys(texts: list[str]) -> bool:
    """Whether the texts are keys (`A-0017`, a UUID): all different, one ASCII word each, nearly all with a digit."""
    if len(texts) < 20 or len(set(texts)) < len(texts):
        return False
    if any(re.search(r"\s", text.strip()) or not text.isascii() for text in texts):
        return False
    return sum(any(letter.isdigit() for letter in text) for text in texts) >= 0.9 * len(texts)


def _key(text: str) -> bytes:
    return xxhash.xxh3_128_digest(text.encode("utf-8"))


def _budget(texts: Iterable[str], characters: int) -> Iterator[str]:
    """The first texts that hold `characters` together."""
    for text in texts:
        if characters <= 0:
            return
        characters -= len(text)
        yield text
