"""The n-grams of texts: options, prepared items, sparse matrices, and TF-IDF weights in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import Field, model_validator

from polymodal.core.options import StrictModel
from polymodal.data.store.items import Items, JoinedItems, RaggedItems, SelectedItems
from polymodal.modalities.ngram_hashing import MAX_BUCKETS, HashedNgrams, hash_ngrams
from polymodal.modalities.tfidf import Tfidf

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: The name of the n-grams among the parts of a text's items.
PART = "ngram"
#: Document frequencies are counted for this many texts at once.
CHUNK_TEXTS = 1024


class NgramOptions(StrictModel):
    """The n-grams of a text that are counted, over the whole text: `max_length` does not apply."""

    words: int = Field(default=2, ge=0, le=5)
    """Count n-grams of 1 to this many consecutive words; 0: none."""
    characters: tuple[int, int] | None = (4, 4)
    """The lengths of the shortest and the longest n-grams of characters inside words, from 1 to 8; null: none. Scripts
    without spaces (Chinese, Japanese, Korean, Thai, Lao, Khmer, Myanmar) and emoji always give n-grams of 1 to 3
    characters."""
    buckets: int = Field(default=1 << 18, ge=2, le=MAX_BUCKETS)
    """Size of the hash table, a power of 2. N-grams that share a bucket are counted together."""
    min_df: int | None = Field(default=None, ge=1)
    """Batches hold the TF-IDF weights of the n-grams that occur in at least this many training texts. The encoder
    `ngrams` sets it. Null: n-grams are stored, and batches do not hold them."""
    max_features: int | None = Field(default=None, ge=1)
    """Batches hold at most this many different n-grams, those of the most training texts; null: no limit. Needs
    `min_df`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.buckets & (self.buckets - 1):
            raise ValueError(f"buckets must be a power of 2, such as {1 << self.buckets.bit_length()}")
        if self.characters is not None and not 1 <= self.characters[0] <= self.characters[1] <= 8:
            raise ValueError("characters must be two lengths from 1 to 8, the shorter one first")
        if not self.words and self.characters is None:
            raise ValueError("set words or characters")
        if self.max_features is not None and self.min_df is None:
            raise ValueError("max_features has no effect without min_df")
        return self

    def hash(self, texts: list[str]) -> HashedNgrams:
        """The n-grams of each text."""
        return hash_ngrams(texts, words=self.words, characters=self.characters, buckets=self.buckets)


def join_ngrams(tokens: Items, texts: list[str], options: NgramOptions) -> JoinedItems:
    """The items `tokens` with the n-grams of the texts: `ngram_ids` int32, and `ngram_counts` uint16."""
    return JoinedItems(tokens, {PART: _ngrams(texts, options)}, () if options.min_df is None else (PART,))


def ngram_arrays(texts: list[str], options: NgramOptions) -> dict[str, np.ndarray]:
    """The n-grams of texts, padded, as `JoinedItems.take` returns them: `ngram_ids`, `ngram_counts`, `ngram_length`."""
    taken = _ngrams(texts, options).take(np.arange(len(texts)))
    return {f"{PART}_{name}": array for name, array in taken.items()}


def _ngrams(texts: list[str], options: NgramOptions) -> RaggedItems:
    found = options.hash(texts)
    return RaggedItems({"ids": found.buckets, "counts": found.counts}, found.starts)


def ngram_matrix(items: Items, ids: np.ndarray, buckets: int) -> csr_matrix:
    """The n-gram counts `[len(ids), buckets]` of prepared texts, uint16, without padding.

    items: the items of a `text` input whose option `ngrams` is set, in memory or memory-mapped
    ids: items, such as the `index` of the rows; -1 (missing) gives a row of zeros
    buckets: `ngrams.buckets` of the input

    Raises:
        ValueError: the items have no n-grams.

    Example:
        >>> tokens = RaggedItems({"values": np.zeros(2, np.int32)}, np.arange(3))
        >>> items = join_ngrams(tokens, ["red cat", "cat"], NgramOptions(words=1, characters=None))
        >>> ngram_matrix(items, np.array([1, 0, -1]), 1 << 18).sum(1).tolist()
        [[1], [2], [0]]
    """
    from scipy.sparse import csr_matrix

    whole = items
    while isinstance(whole, SelectedItems):
        ids = np.where(ids >= 0, whole.ids[ids], -1)
        whole = whole.source
    ngrams = whole.parts.get(PART) if isinstance(whole, JoinedItems) else None
    if not isinstance(ngrams, RaggedItems):
        raise ValueError("these items have no n-grams; set the option `ngrams` of the modality")
    present = ids >= 0
    first = np.where(present, ngrams.starts[ids], 0)
    length = np.where(present, ngrams.starts[ids + 1] - ngrams.starts[ids], 0)
    starts = np.concatenate([[0], np.cumsum(length)])
    if np.array_equal(first[1:], (first + length)[:-1]):  # consecutive items: no copy
        place: slice | np.ndarray = slice(int(first[:1].sum()), int(first[:1].sum()) + int(starts[-1]))
    else:
        place = np.arange(starts[-1]) + np.repeat(first - starts[:-1], length)
    arrays = ngrams.arrays
    matrix = csr_matrix((arrays["counts"][place], arrays["ids"][place], starts), shape=(len(ids), buckets))
    matrix.has_sorted_indices = matrix.has_canonical_format = True
    return matrix


class DocumentFrequencies:
    """Counts, while texts pass through `watch`, how many of them have each n-gram bucket."""

    def __init__(self, options: NgramOptions) -> None:
        self.options = options
        self.frequency = np.zeros(options.buckets, np.int64)
        self.texts = 0

    def watch(self, texts: Iterable[str]) -> Iterator[str]:
        """The texts, unchanged."""
        chunk: list[str] = []
        for text in texts:
            chunk.append(text)
            if len(chunk) == CHUNK_TEXTS:
                self._count(chunk)
                chunk = []
            yield text
        self._count(chunk)

    def _count(self, texts: list[str]) -> None:
        self.frequency += np.bincount(self.options.hash(texts).buckets, minlength=self.options.buckets)
        self.texts += len(texts)

    def weights(self) -> Tfidf:
        """The TF-IDF weights of the n-grams that occur in at least `min_df` texts, at most `max_features` of them."""
        tfidf = Tfidf(min_df=self.options.min_df or 1, max_features=self.options.max_features)
        return tfidf.fit_frequencies(self.frequency, self.texts)


def weigh(items: dict[str, np.ndarray], tfidf: Tfidf) -> dict[str, np.ndarray]:
    """Items of a batch with TF-IDF weights in place of n-gram counts.

    `ngram_ids [items, longest]` int64 becomes the column of each n-gram, from 1; 0 for padding and for n-grams without
    a weight. `ngram_weights [items, longest]` float32 are the weights, 0 where the column is 0.
    """
    ids, weights = tfidf.padded(items[f"{PART}_ids"], items[f"{PART}_counts"])
    kept = {name: array for name, array in items.items() if not name.startswith(f"{PART}_")}
    return kept | {f"{PART}_ids": ids, f"{PART}_weights": weights}
