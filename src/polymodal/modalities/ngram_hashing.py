"""Word and character n-grams of texts as hashed buckets, without a Python loop over characters or words."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np

#: Texts are hashed in groups of about this many characters, so that the temporary arrays stay in the processor's cache.
GROUP_CHARACTERS = 1 << 16
#: A key of 32 bits holds the bucket of an n-gram and the number of its text in the group.
KEY_BITS = 32
MAX_BUCKETS = 1 << 24
#: In scripts without spaces, all n-grams of up to this many characters are counted.
UNSPACED_CHARACTERS = 3

#: Blocks of scripts that are written without spaces, and of Hangul, whose words are long and inflected.
UNSPACED_BLOCKS = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F)),  # Thai ... Khmer
    *((0x1100, 0x11FF), (0x3130, 0x318F), (0xA960, 0xA97F), (0xAC00, 0xD7FF)),  # Hangul
    *((0x3005, 0x3007), (0x3040, 0x30FF), (0x31F0, 0x31FF), (0x1B000, 0x1B16F)),  # Hiragana, Katakana
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),  # Han
)
_SEPARATOR, _WORD, _UNSPACED = 0, 1, 2
#: Base of the rolling hash, odd, and its inverse modulo 2^64.
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)
#: Multipliers of the finalizer of MurmurHash3 (Appleby, 2011).
_FIRST, _SECOND = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)


class HashedNgrams(NamedTuple):
    """The n-grams of some texts: those of text i are `buckets[starts[i]:starts[i + 1]]`, ascending and distinct.

    buckets: int32
    counts: uint16, how often n-grams of the bucket occur in the text; at most 65,535
    starts: `[texts + 1]` int64
    """

    buckets: np.ndarray
    counts: np.ndarray
    starts: np.ndarray


def hash_ngrams(texts: list[str], *, words: int, characters: tuple[int, int] | None, buckets: int) -> HashedNgrams:
    """Count the n-grams of each text in `buckets` buckets.

    Texts are normalized (NFKC) and casefolded. A word is a run of letters, digits, marks and underscores. Characters
    of scripts without spaces (Han, kana, Hangul, Thai, Lao, Khmer, Myanmar) and symbols such as emoji belong to no
    word. Each run of them gives all its n-grams of 1 to 3 characters.

    The hash of an n-gram with code points c_0 ... c_(n-1) is sum_i m(c_i) B^i modulo 2^64, where m mixes the bits of a
    code point. The hash of several words is the same sum over the hashes of the words. The result for a text does not
    depend on the other texts, on the machine, or on the process.

    words: n-grams of 1 to `words` consecutive words; 0: none
    characters: the lengths of the shortest and the longest n-grams of characters inside words; the blank before and
        after a word counts as a character. None: none
    buckets: a power of 2, at most `MAX_BUCKETS`

    Example:
        >>> found = hash_ngrams(["red cat", "Red  CAT!", "猫"], words=2, characters=None, buckets=1024)
        >>> found.starts.tolist()  # "red", "cat" and "red cat" in two texts, then "猫"
        [0, 3, 6, 7]
        >>> found.buckets[:3].tolist() == found.buckets[3:6].tolist()
        True
    """
    if buckets & (buckets - 1) or not 2 <= buckets <= MAX_BUCKETS:
        raise ValueError(f"buckets must be a power of 2 up to {MAX_BUCKETS:,}, not {buckets}")
    bits = buckets.bit_length() - 1
    parts = [_Group(group, bits).count(words, characters) for group in _groups(texts, 1 << (KEY_BITS - bits))]
    return HashedNgrams(
        np.concatenate([np.zeros(0, np.int32), *(found for found, _, _ in parts)]),
        np.concatenate([np.zeros(0, np.uint16), *(counts for _, counts, _ in parts)]),
        np.concatenate([np.zeros(1, np.int64), *(lengths for _, _, lengths in parts)]).cumsum(),
    )


def normalize(text: str) -> str:
    """The text as it is hashed: NFKC, casefolded."""
    return text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def _groups(texts: list[str], most: int) -> Iterator[list[str]]:
    """Consecutive texts: at most `most`, with about `GROUP_CHARACTERS` characters together."""
    group: list[str] = []
    size = 0
    for text in texts:
        group.append(text)
        size += len(text)
        if size >= GROUP_CHARACTERS or len(group) == most:
            yield group
            group, size = [], 0
    if group:
        yield group


class _Group:
    """The n-grams of a group of texts, collected as keys: number of the text, then bucket.

    points: code points of all texts with a separator before, between and after them, so that no n-gram crosses it
    """

    def __init__(self, texts: list[str], bits: int) -> None:
        lines = [normalize(text) for text in texts]
        joined = "\n".join(["", *lines, ""]).encode("utf-32-le", "surrogatepass")
        points = np.frombuffer(joined, np.uint32)
        sizes = np.array([len(line) + 1 for line in lines])
        sizes[0] += 1
        self.texts, self.bits = len(texts), bits
        self.kind = _kinds()[points]
        self.text = np.repeat(np.arange(len(lines), dtype=np.uint32), sizes)
        self.mixed = _mix(points.astype(np.uint64))
        self.keys: list[np.ndarray] = []

    def count(self, words: int, characters: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Buckets, counts, and the number of distinct buckets of each text."""
        is_word, is_unspaced = self.kind == _WORD, self.kind == _UNSPACED
        if words:
            self._add_words(is_word, is_unspaced, words)
        if characters is not None:
            self._add_characters(is_word, characters, pads=True)
        if is_unspaced.any():
            self._add_characters(is_unspaced, (1, UNSPACED_CHARACTERS), pads=False)
        keys = np.sort(np.concatenate([np.zeros(0, np.uint32), *self.keys]))
        first = np.flatnonzero(np.concatenate([keys[:1] == keys[:1], keys[1:] != keys[:-1]]))
        counts = np.diff(first, append=len(keys))
        distinct = keys[first]
        lengths = np.bincount(distinct >> np.uint32(self.bits), minlength=self.texts)
        buckets = (distinct & np.uint32((1 << self.bits) - 1)).astype(np.int32)
        return buckets, np.minimum(counts, 65_535).astype(np.uint16), lengths

    def _add(self, hashes: np.ndarray, text: np.ndarray, salt: int) -> None:
        """Add n-grams by their hashes; `salt` separates kinds of n-grams."""
        buckets = _mix(hashes + np.uint64(salt)) >> np.uint64(64 - self.bits)
        self.keys.append((text << np.uint32(self.bits)) | buckets.astype(np.uint32))

    def _add_words(self, is_word: np.ndarray, is_unspaced: np.ndarray, longest: int) -> None:
        """Hash words by differences of prefix sums P of m(c_i) B^i: (P(end) - P(start)) B^-start."""
        edges = np.flatnonzero(is_word[1:] != is_word[:-1]) + 1
        starts, ends = edges[::2], edges[1::2]
        powers, inverses = _powers(len(is_word))
        prefix = np.cumsum(self.mixed * powers)  # up to and including a character; a separator precedes each word
        word = _mix((prefix[ends - 1] - prefix[starts - 1]) * inverses[starts])
        text = self.text[starts]
        stretch = text + np.cumsum(is_unspaced, dtype=np.uint32)[starts]  # equal: same text, and only blanks between
        total, power = word, _BASE
        self._add(word, text, 1)
        for size in range(2, longest + 1):
            total = total[:-1] + word[size - 1 :] * np.uint64(power)
            consecutive = stretch[: len(total)] == stretch[size - 1 :]
            self._add(total[consecutive], text[: len(total)][consecutive], 1)
            power = power * _BASE % (1 << 64)

    def _add_characters(self, inside: np.ndarray, sizes: tuple[int, int], *, pads: bool) -> None:
        """Add the n-grams inside each run of `inside`.

        pads: the edges of a run count as a character
        """
        edge = ~inside
        edge[1:] &= inside[:-1]  # every stretch outside of runs becomes one edge
        kept = np.flatnonzero(inside | edge)
        edge = edge[kept]
        mixed, text = self.mixed[kept], self.text[kept]
        edges = np.flatnonzero(edge)
        mixed[edges] = _mix(np.zeros(1, np.uint64))
        text[edges[:-1]] = text[edges[:-1] + 1]
        room = np.append(
            np.repeat(edges[1:], np.diff(edges)) - np.arange(edges[-1]), 0
        )  # characters up to the next edge
        if not pads:
            room[edges] = 0
        total, power = mixed, 1
        for size in range(1, sizes[1] + 1):
            if size > 1:
                power = power * _BASE % (1 << 64)
                total = total[:-1] + mixed[size - 1 :] * np.uint64(power)
            if size >= sizes[0]:
                fits = room[: len(total)] >= size - pads
                if size == 1:
                    fits &= ~edge
                self._add(total[fits], text[: len(total)][fits], 2 + (not pads))


def _mix(values: np.ndarray) -> np.ndarray:
    """The values with mixed bits, uint64."""
    mixed = values ^ (values >> _SHIFT)
    mixed *= _FIRST
    mixed ^= mixed >> _SHIFT
    mixed *= _SECOND
    mixed ^= mixed >> _SHIFT
    return mixed


def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` powers of the base, and of its inverse."""
    if count > 4 * GROUP_CHARACTERS:  # of one long text
        return _power_table(_BASE, count), _power_table(_INVERSE, count)
    powers, inverses = _short_powers()
    return powers[:count], inverses[:count]


@cache
def _short_powers() -> tuple[np.ndarray, np.ndarray]:
    return _power_table(_BASE, 4 * GROUP_CHARACTERS), _power_table(_INVERSE, 4 * GROUP_CHARACTERS)


def _power_table(base: int, count: int) -> np.ndarray:
    table = np.full(count, base, np.uint64)
    table[0] = 1
    return np.cumprod(table)


@cache
def _kinds() -> np.ndarray:
    """The kind of every code point, uint8. Letters are below U+40000, marks and symbols below U+20000."""
    kinds = np.full(sys.maxunicode + 1, _SEPARATOR, np.uint8)
    in_word = np.char.isalnum(np.arange(0x40000, dtype=np.uint32).view("<U1"))
    kinds[: len(in_word)][in_word] = _WORD
    others = np.flatnonzero(~in_word[:0x20000]).tolist()
    kind_of = {"Mn": _WORD, "Mc": _WORD, "So": _UNSPACED}
    kinds[others] = [kind_of.get(unicodedata.category(chr(point)), _SEPARATOR) for point in others]
    kinds[ord("_")] = _WORD
    kinds[0xFE00:0xFE10] = _SEPARATOR  # variation selectors
    for low, high in UNSPACED_BLOCKS:
        block = kinds[low : high + 1]
        block[block == _WORD] = _UNSPACED
    return kinds
