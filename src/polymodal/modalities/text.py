"""The `text` modality, for any language."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NotRequired, Self

import numpy as np
import torch
import xxhash
from pydantic import Field, PositiveInt
from tokenizers import Tokenizer
from torch import Tensor
from typing_extensions import TypedDict

from polymodal.checkpoint.reading import parsing, read_tensors
from polymodal.checkpoint.tensor_files import write_tensors
from polymodal.core.checksum import content_checksum
from polymodal.core.errors import ArtifactError, RecipeError
from polymodal.core.options import Size, SizedModel, sized_field
from polymodal.core.registry import register
from polymodal.data.store.items import Items, PreparedInput, RaggedItems
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_kinds import plain_text
from polymodal.data.table.date_format import are_dates
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.modalities.base import Modality, ModalityOptions
from polymodal.modalities.bpe import MIN_VOCAB_SIZE, disable_special_tokens, train_bpe
from polymodal.modalities.cell_parsing import read_distinct
from polymodal.modalities.checkpoint_tokenizer import CheckpointTokenizer
from polymodal.modalities.text_corruption import add_typos, drop_words, shuffle_words
from polymodal.modalities.text_ngrams import DocumentFrequencies, NgramOptions, join_ngrams, ngram_arrays, weigh
from polymodal.modalities.tfidf import Tfidf
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.recipe.data import LimitOptions

# Before tokenization, a text is truncated to this many characters per kept token, so that long texts stay cheap.
CHARACTERS_PER_TOKEN = 16
DEFAULT_MAX_LENGTH = 512
# The tokenizer is trained on the first distinct texts up to this many characters.
TRAINING_CHARACTERS = 20_000_000
WEIGHTS_FILE = "ngrams.safetensors"

_WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W぀-ヿ㐀-鿿가-힯]+")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class TextState(TypedDict):
    """The saved state, without the tokenizer: the maximum number of tokens, and the configuration of the checkpoint."""

    max_length: PositiveInt
    checkpoint: NotRequired[CheckpointConfig]


@register
class Text(Modality):
    """Texts as sequences of byte-pair tokens (see `bpe.train_bpe`), or of the tokens of a pretrained checkpoint (see
    `checkpoint_tokenizer.CheckpointTokenizer`).

    Prepared: `values [items, length]` int32, padded with 0, and `length [items]`. Equal texts are one item. Empty and
    blank texts count as missing. Numbers and dates are converted to text. With the option `ngrams`, the n-grams of each
    whole text are stored beside its tokens (`text_ngrams.ngram_matrix` reads them). With `ngrams.min_df`, batches hold
    them as `ngram_ids [items, longest]` int64 (1 to `shape()["ngrams"]`; 0: none) and `ngram_weights` float32, their
    TF-IDF weights (`text_ngrams.weigh`).

    After `prepare`, `num_truncated` counts the rows whose text was longer than `max_length`, and `num_repaired` counts
    those with an invalid character (half a surrogate pair), which was replaced by U+FFFD.
    """

    class Options(ModalityOptions, SizedModel):
        name: Literal["text"] = "text"
        checkpoint: str | None = None
        """Use the tokenizer of this pretrained checkpoint: a preset (`starter`, `fast`, `balanced`, `best`), a hub
        id, or a folder. Default: a tokenizer is trained on the training rows."""
        lowercase: bool = False
        """Convert to lower case. Not available with a checkpoint, whose tokenizer defines this."""
        vocab_size: int | None = sized_field(4_000, 8_000, 16_000, ge=MIN_VOCAB_SIZE, le=200_000)
        """Maximum vocabulary size of the trained tokenizer, which is smaller for little text. Null with a
        checkpoint, whose tokenizer is already trained."""
        max_length: int | None = Field(default=None, ge=1, le=8_192)
        """Maximum tokens of a text; longer texts are truncated. Default: the 99th percentile of a sample, at most
        512 and at most the positions of the checkpoint."""
        ngrams: NgramOptions | None = None
        """Store hashed word and character n-grams of the whole text, for models that count them (TF-IDF). Default:
        none; the encoder `ngrams` sets it."""

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
        self.max_length = options.max_length or DEFAULT_MAX_LENGTH
        self.tokenizer: Tokenizer | None = None
        self.checkpoint_tokenizer: CheckpointTokenizer | None = None
        self.tfidf: Tfidf | None = None
        self.num_truncated = self.num_repaired = 0

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        texts = [value for value in sample.values if isinstance(value, str) and value.strip()]
        if not texts or len(texts) < 0.9 * len(sample.values) or looks_like_identifiers(texts) or are_dates(texts):
            return None
        words = sum(len(_WORD.findall(text[:1_000])) for text in texts) / len(texts)
        if words >= 3:
            return Match(0.8, f"texts of {words:.1f} words on average")
        if sample.distinct > 0.5 * len(texts):
            return Match(0.5, "short texts, mostly distinct")
        return Match(0.2, "short texts that repeat")

    @classmethod
    def resolve(cls, options: Options, samples: list[ColumnSample]) -> Options:
        """Fill `max_length` from the lengths of sampled texts under a tokenizer trained on the sample itself.

        A fifth is added, since the tokenizer fits its own training sample better than other texts.

        Raises:
            RecipeError: there is no such checkpoint, it has no tokenizer, or another option conflicts with it.
        """
        if options.checkpoint is not None:
            return _resolve_checkpoint(options, options.checkpoint, samples)
        if options.vocab_size is None:
            raise RecipeError(
                "vocab_size", "null is only for checkpoints; set the vocabulary size, or remove this option"
            )
        if options.max_length is not None:
            return options
        texts = [parse_text(value) for sample in samples for value in sample.values]
        usable = list(_budget((text[: DEFAULT_MAX_LENGTH * 4] for text in texts if text), 1_000_000))
        if not usable:
            return options.model_copy(update={"max_length": DEFAULT_MAX_LENGTH})
        tokenizer = train_bpe(usable, options.vocab_size, options.lowercase)
        lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(usable)]
        needed = math.ceil(float(np.percentile(lengths, 99)) * 1.2)
        return options.model_copy(update={"max_length": min(DEFAULT_MAX_LENGTH, max(8, -(-needed // 8) * 8))})

    def fit(self, blocks: Iterable[RowBlock]) -> None:
        """Train the tokenizer on the distinct texts of the training rows, and count the texts with each n-gram. The
        tokenizer of a checkpoint is loaded unchanged. Bad cells are reported by `prepare`."""
        texts = self._distinct(blocks)
        frequencies = None
        if self.options.ngrams is not None and self.options.ngrams.min_df is not None:
            frequencies = DocumentFrequencies(self.options.ngrams)
            texts = frequencies.watch(texts)
        if self.options.checkpoint is not None:
            self._set_checkpoint_tokenizer(CheckpointTokenizer.from_checkpoint(self.options.checkpoint))
        else:
            assert self.options.vocab_size is not None
            beginnings = _budget((text[: self._characters] for text in texts), TRAINING_CHARACTERS)
            self.tokenizer = train_bpe(beginnings, self.options.vocab_size, self.options.lowercase)
        if frequencies is not None:
            deque(texts, maxlen=0)  # the texts that the tokenizer did not need
            self.tfidf = frequencies.weights()

    def _set_checkpoint_tokenizer(self, tokenizer: CheckpointTokenizer) -> None:
        self.checkpoint_tokenizer, self.tokenizer = tokenizer, tokenizer.tokenizer
        self.max_length = min(self.max_length, tokenizer.max_positions or self.max_length)

    def _distinct(self, blocks: Iterable[RowBlock]) -> Iterator[str]:
        seen: set[bytes] = set()
        for block in blocks:
            for cell in read_distinct(block.columns[self.column])[1]:
                text = parse_text(cell)
                if text and (key := _key(text)) not in seen:
                    seen.add(key)
                    yield text

    @property
    def _characters(self) -> int:
        return self.max_length * CHARACTERS_PER_TOKEN

    def prepare(self, block: RowBlock) -> PreparedInput:
        codes, cells = read_distinct(block.columns[self.column])
        texts: dict[str, int] = {}
        item = np.full(len(cells) + 1, -1, np.int64)  # the last is for null, code -1
        bad = []
        for code, cell in enumerate(cells):
            text = parse_text(cell)
            if text is None:
                bad.append(code)
            elif text:
                self.num_repaired += isinstance(cell, str) and text.count("\ufffd") > cell.count("\ufffd")
                item[code] = texts.setdefault(text, len(texts))
        index = item[codes]
        for position in np.flatnonzero(np.isin(codes, bad)).tolist():
            reason = f"expected a text, not {type(cells[codes[position]]).__name__}"
            block.add_error(position, self.column, reason)
        encoded = self._encode(list(texts))
        truncated = np.array([longer for _, longer in encoded], dtype=bool)
        sequences = [np.asarray(ids, dtype=np.int32) for ids, _ in encoded]
        self.num_truncated += int(truncated[index[index >= 0]].sum())
        starts = np.concatenate([[0], np.cumsum([len(ids) for ids in sequences])]).astype(np.int64)
        values = np.concatenate([np.zeros(0, np.int32), *sequences])
        items: Items = RaggedItems({"values": values}, starts)
        if self.options.ngrams is not None:
            items = join_ngrams(items, list(texts), self.options.ngrams)
        return PreparedInput(index, items, [_key(text) for text in texts])

    def _encode(self, texts: list[str]) -> list[tuple[list[int], bool]]:
        """The token ids of each text, at most `max_length`, and whether the text had more."""
        if self.checkpoint_tokenizer is not None:
            return self.checkpoint_tokenizer.encode(texts, self.max_length)
        assert self.tokenizer is not None, "call fit or load first"
        encodings = self.tokenizer.encode_batch_fast([text[: self._characters] for text in texts])
        return [
            (one.ids[: self.max_length], len(one.ids) > self.max_length or len(text) > self._characters)
            for one, text in zip(encodings, texts, strict=True)
        ]

    def decode(self, items: dict[str, np.ndarray]) -> list[str]:
        """The texts of prepared items, as far as their tokens hold them."""
        assert self.tokenizer is not None, "call fit or load first"
        sequences = [ids[:count].tolist() for ids, count in zip(items["values"], items["length"], strict=True)]
        texts: list[str] = self.tokenizer.decode_batch(
            sequences, skip_special_tokens=self.checkpoint_tokenizer is not None
        )
        return texts

    def corrupt(
        self, items: dict[str, np.ndarray], kind: str, strength: float, draw: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Decode the texts, corrupt them, and tokenize them again. N-grams are those of the decoded tokens, so a text
        that was truncated loses the others."""
        change = {"typing_errors": add_typos, "dropped_words": drop_words, "shuffled_words": shuffle_words}[kind]
        texts = [change(text, strength, draw) for text in self.decode(items)]
        corrupted = [ids for ids, _ in self._encode(texts)]
        length = np.array([max(1, len(ids)) for ids in corrupted], np.int64)
        values = np.zeros((len(corrupted), int(length.max(initial=1))), np.int32)
        for row, ids in zip(values, corrupted, strict=True):
            row[: len(ids)] = ids
        arrays: dict[str, np.ndarray] = {"values": values, "length": length}
        if self.tfidf is None or self.options.ngrams is None:
            return arrays
        return arrays | ngram_arrays(texts, self.options.ngrams)

    def collate(self, items: dict[str, np.ndarray]) -> dict[str, Tensor]:
        return super().collate(items if self.tfidf is None else weigh(items, self.tfidf))

    def shape(self) -> dict[str, Any]:
        """`vocabulary`: vocabulary size, including padding; `length`: maximum length. With a checkpoint also
        `checkpoint`, its configuration, `padding` and `mask`, the ids of these tokens (None: no mask token), and
        `special`, the ids of all tokens that no text contains. With n-grams in batches also `ngrams`, their number."""
        assert self.tokenizer is not None, "call fit or load first"
        shape: dict[str, Any] = {"vocabulary": self.tokenizer.get_vocab_size(), "length": self.max_length}
        if self.checkpoint_tokenizer is not None:
            tokenizer = self.checkpoint_tokenizer
            shape |= {"checkpoint": tokenizer.card.to_dict(), "padding": tokenizer.pad_token_id}
            shape |= {"mask": tokenizer.mask_token_id, "special": tokenizer.control_token_ids}
        if self.tfidf is not None:
            shape["ngrams"] = self.tfidf.num_columns
        return shape

    def fingerprint(self, limits: LimitOptions) -> str:
        identity = f"text {_key(self._json()).hex()} {self.max_length}"
        if self.tfidf is None or self.options.ngrams is None:
            return identity
        weights = content_checksum([np.ascontiguousarray(one).tobytes() for one in self.tfidf.to_state().values()])
        return f"{identity} {self.options.ngrams.model_dump_json()} {weights.hex()}"

    def _json(self) -> str:
        assert self.tokenizer is not None, "call fit or load first"
        self.tokenizer.no_truncation()
        return self.tokenizer.to_str()

    state_type = TextState

    def save(self, folder: Path) -> dict[str, Any]:
        (folder / "tokenizer.json").write_text(self._json(), encoding="utf-8")
        if self.tfidf is not None:
            arrays = {name: torch.from_numpy(array) for name, array in self.tfidf.to_state().items()}
            write_tensors(folder / WEIGHTS_FILE, arrays)
        state: dict[str, Any] = {"max_length": self.max_length}
        return (
            state
            if self.checkpoint_tokenizer is None
            else {**state, "checkpoint": self.checkpoint_tokenizer.card.to_dict()}
        )

    def load(self, folder: Path, state: dict[str, Any]) -> None:
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise ArtifactError(f"{file} is missing (the tokenizer of column {self.column!r})")
        with parsing(file):
            self.tokenizer = disable_special_tokens(Tokenizer.from_str(file.read_text(encoding="utf-8")))
        if "checkpoint" in state:
            self._set_checkpoint_tokenizer(
                CheckpointTokenizer(self.tokenizer, CheckpointConfig.from_dict(state["checkpoint"]))
            )
        self.max_length = state["max_length"]
        if self.options.ngrams is not None and self.options.ngrams.min_df is not None:
            weights = folder / WEIGHTS_FILE
            if not weights.is_file():
                raise ArtifactError(f"{weights} is missing (the n-gram weights of column {self.column!r})")
            self.tfidf = Tfidf.from_state({name: one.numpy() for name, one in read_tensors(weights).items()})

    def describe(self) -> str:
        shape = self.shape()
        kind = (
            "byte-pair tokens"
            if self.checkpoint_tokenizer is None
            else f"tokens of {self.checkpoint_tokenizer.card.name}"
        )
        line = f"{shape['vocabulary']:,} {kind}, texts of up to {shape['length']} tokens"
        line += f", {shape['ngrams']:,} n-grams" if "ngrams" in shape else ""
        return line + (f"; {self.num_truncated:,} rows truncated" if self.num_truncated else "")


def _resolve_checkpoint(options: Text.Options, checkpoint: str, samples: list[ColumnSample]) -> Text.Options:
    for name, neutral in {"lowercase": False, "vocab_size": None}.items():
        if name in options.model_fields_set and getattr(options, name) != neutral:
            raise RecipeError(name, f"the checkpoint {checkpoint!r} has its own tokenizer; remove this option")
    tokenizer = CheckpointTokenizer.from_checkpoint(checkpoint)
    if options.max_length is not None:
        tokenizer.check_max_length(options.max_length)
        return options
    texts = [parse_text(value) for sample in samples for value in sample.values]
    needed = tokenizer.suggest_max_length(list(_budget(filter(None, texts), 1_000_000)), DEFAULT_MAX_LENGTH)
    return options.model_copy(update={"max_length": needed})


def parse_text(cell: Any) -> str | None:
    """The text of a cell without surrounding blanks; "" if it is null or blank; None if it is not text.

    Surrogate pairs are joined. Half a pair becomes U+FFFD, the replacement character.
    """
    if cell is None or (isinstance(cell, float | np.floating) and np.isnan(cell)):
        return ""
    if isinstance(cell, str):
        if _SURROGATE.search(cell):
            cell = cell.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return cell.strip()
    if isinstance(cell, bytes):
        return _decoded(cell)
    return plain_text(cell.item() if isinstance(cell, np.generic) else cell)


def _decoded(cell: bytes) -> str | None:
    try:
        return cell.decode("utf-8").strip()
    except UnicodeDecodeError:
        return None


def looks_like_identifiers(texts: list[str]) -> bool:
    """Whether the texts are identifiers (`A-0017`, a UUID, a hash): nearly all distinct, one ASCII word each, nearly
    all with a digit."""
    if len(texts) < 20 or len(set(texts)) < 0.95 * len(texts):
        return False
    if any(re.search(r"\s", text.strip()) or not text.isascii() for text in texts):
        return False
    return sum(any(letter.isdigit() for letter in text) for text in texts) >= 0.9 * len(texts)


def _key(text: str) -> bytes:
    return xxhash.xxh3_128_digest(text.encode("utf-8"))


def _budget(texts: Iterable[str], characters: int) -> Iterator[str]:
    """The first texts with up to `characters` characters in total."""
    for text in texts:
        if characters <= 0:
            return
        characters -= len(text)
        yield text
