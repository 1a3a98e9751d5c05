"""Corruptions of texts, for robustness tests."""

from __future__ import annotations

import string

import numpy as np

#: Fraction of letters mistyped, and of words lost or moved, at full strength.
MAX_LETTER_FRACTION, MAX_WORD_FRACTION = 0.3, 0.8


def add_typos(text: str, strength: float, draw: np.random.Generator) -> str:
    """Typing errors: a letter is, with equal probability, dropped, doubled, replaced, or swapped with the next."""
    letters = list(text)
    index = 0
    while index < len(letters):
        if letters[index].isalnum() and draw.random() < strength * MAX_LETTER_FRACTION:
            match int(draw.integers(4)):
                case 0:
                    letters[index] = ""
                case 1:
                    letters[index] *= 2
                case 2:
                    letters[index] = string.ascii_lowercase[int(draw.integers(26))]
                case _ if index + 1 < len(letters):
                    letters[index], letters[index + 1] = letters[index + 1], letters[index]
                    index += 1
        index += 1
    return "".join(letters)


def drop_words(text: str, strength: float, draw: np.random.Generator) -> str:
    """Drop each word with a probability of up to `MAX_WORD_FRACTION`, but never all words."""
    words = text.split()
    kept = [word for word in words if draw.random() >= strength * MAX_WORD_FRACTION]
    return " ".join(kept or words[:1])


def shuffle_words(text: str, strength: float, draw: np.random.Generator) -> str:
    """Shuffle a fraction of the words; at full strength, all of them."""
    words = np.array(text.split(), dtype=object)
    moved = np.flatnonzero(draw.random(len(words)) < strength)
    words[moved] = words[draw.permutation(moved)]
    return " ".join(words.tolist())
