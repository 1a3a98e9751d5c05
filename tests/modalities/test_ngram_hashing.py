"""Hashed n-grams: the same n-grams as a plain loop finds, the same hashes everywhere."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.modalities import ngram_hashing
from polymodal.modalities.ngram_hashing import hash_ngrams, normalize

MANY = 1 << 24
#: Letters, digits, marks, scripts without spaces, separators of all sorts, an emoji, and half a surrogate pair.
LETTERS = "abzAZ09_éßﬁАд \n\t.,!-'\u0301\u0939\u093f\u0000猫在カーัก한ㄱ😀\ud83d\U0001f600"
TEXTS = st.lists(st.text(alphabet=LETTERS, max_size=12) | st.text(max_size=8), max_size=6)


def pieces(text: str) -> list[tuple[str, str]]:
    """The runs of a text with their kind, by a plain loop."""
    kinds = ngram_hashing._kinds()
    runs: list[tuple[str, str]] = []
    before = 0
    for letter in normalize(text):
        kind = int(kinds[ord(letter)])
        if kind and kind == before:
            runs[-1] = (runs[-1][0], runs[-1][1] + letter)
        elif kind:
            runs.append(("word" if kind == 1 else "unspaced", letter))
        before = kind
    return runs


def mix(value: int) -> int:
    for multiplier in (ngram_hashing._FIRST, ngram_hashing._SECOND):
        value = (value ^ value >> 33) * int(multiplier) % 2**64
    return value ^ value >> 33


def rolled(values: Iterable[int]) -> int:
    return sum(value * pow(ngram_hashing._BASE, place, 2**64) for place, value in enumerate(values)) % 2**64


def letters(run: str) -> list[int]:
    return [mix(ord(letter)) for letter in run]


def plain_buckets(text: str, words: int, characters: tuple[int, int]) -> Counter[int]:
    """The buckets of a text with their counts, by plain loops over whole numbers."""
    found: Counter[int] = Counter()

    def add(values: list[int], salt: int) -> None:
        found[mix((rolled(values) + salt) % 2**64) >> 64 - MANY.bit_length() + 1] += 1

    stretch: list[str] = []
    for kind, run in [*pieces(text), ("unspaced", "")]:
        if kind == "word":
            stretch.append(run)
            continue
        hashes = [mix(rolled(letters(word))) for word in stretch]
        for size in range(1, words + 1):
            for at in range(len(hashes) - size + 1):
                add(hashes[at : at + size], 1)
        for word in stretch:
            padded = "\0" + word + "\0"
            for size in range(characters[0], characters[1] + 1):
                for at in range(len(padded) - size + 1):
                    if padded[at : at + size] != "\0":
                        add(letters(padded[at : at + size]), 2)
        stretch = []
        for size in (1, 2, 3):
            for at in range(len(run) - size + 1):
                add(letters(run[at : at + size]), 3)
    return found


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.integers(0, 3), st.sampled_from([(1, 0), (1, 1), (1, 3), (2, 2), (3, 5)]))
def test_the_buckets_are_those_of_plain_loops(texts: list[str], words: int, characters: tuple[int, int]) -> None:
    found = hash_ngrams(texts, words=words, characters=characters if characters[1] else None, buckets=MANY)
    for row, text in enumerate(texts):
        own = slice(found.starts[row], found.starts[row + 1])
        expected = sorted(plain_buckets(text, words, characters).items())
        assert list(zip(found.buckets[own].tolist(), found.counts[own].tolist(), strict=True)) == expected


def test_one_text_hashes_alike_alone_in_other_company_and_in_another_process() -> None:
    texts = ["The red cat", "", "das Straßenbahnhäuschen", "我喜欢这只猫", "x" * 70_000, "short"] * 3
    options = {"words": 2, "characters": (3, 5), "buckets": 1 << 18}
    together = hash_ngrams(texts, **options)
    for row, text in enumerate(texts):
        alone = hash_ngrams([text], **options)
        own = slice(together.starts[row], together.starts[row + 1])
        assert np.array_equal(alone.buckets, together.buckets[own])
        assert np.array_equal(alone.counts, together.counts[own])
    code = (
        "from polymodal.modalities.ngram_hashing import hash_ngrams; "
        f"print(hash_ngrams(['The red cat', '我喜欢这只猫'], **{options}).buckets.tolist())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(hash_ngrams(["The red cat", "我喜欢这只猫"], **options).buckets.tolist())


def test_case_width_and_separators_do_not_matter_but_order_does() -> None:
    options = {"words": 2, "characters": None, "buckets": MANY}
    first = hash_ngrams(["New York, NY"], **options)
    assert np.array_equal(first.buckets, hash_ngrams(["ＮＥＷ  york\nny"], **options).buckets)
    assert not np.array_equal(first.buckets, hash_ngrams(["York New NY"], **options).buckets)


def test_every_script_gives_ngrams() -> None:
    for text in ("你好", "สวัสดี", "ສະບາຍດີ", "សួស្តី", "မင်္ဂလာပါ", "こんにちは", "안녕하세요", "привет", "नमस्ते", "😀", "5"):
        assert len(hash_ngrams([text], words=1, characters=None, buckets=MANY).buckets), text
    assert (
        len(hash_ngrams(["नमस्ते दुनिया"], words=1, characters=None, buckets=MANY).buckets) == 2
    )  # with their vowel signs


def test_buckets_are_used_evenly() -> None:
    words = " ".join(str(number) for number in range(20_000))
    used = hash_ngrams([words], words=1, characters=None, buckets=1 << 16).buckets
    assert abs(len(used) - (1 << 16) * (1 - np.exp(-20_000 / (1 << 16)))) < 300  # as random functions do


def test_counts_saturate_and_no_text_gives_no_ngram() -> None:
    found = hash_ngrams(["a " * 70_000, " \n", ""], words=1, characters=None, buckets=4)
    assert found.counts.tolist() == [65_535]
    assert found.starts.tolist() == [0, 1, 1, 1]
    assert hash_ngrams([], words=2, characters=(3, 5), buckets=4).starts.tolist() == [0]


@pytest.mark.parametrize("buckets", [0, 1, 3, 1_000, 1 << 25])
def test_the_number_of_buckets_is_a_power_of_two(buckets: int) -> None:
    with pytest.raises(ValueError, match="power of 2"):
        hash_ngrams(["a"], words=1, characters=None, buckets=buckets)
