"""Damage to texts, for tests of robustness."""

from __future__ import annotations

import string

import numpy as np

#: Share of letters mistyped, and of words lost or moved, at full strength.
MOST_LETTERS, MOST_WORDS = 0.3, 0.8


def mistype(text: str, strength: float, draw: np.random.Generator) -> str:
    """Typing errors: each letter is, with the same chance, left out, doubled, replaced, or swapped with the next."""
    letters = list(text)
    place = 0
    while place < len(letters):
        if letters[place].isalnum() and draw.random() < strength * MOST_LETTERS:
            match int(draw.integers(4)):
                case 0:
                    letters[place] = ""
                case 1:
                    letters[place] *= 2
                case 2:
                    letters[place] = string.ascii_lowercase[int(draw.integers(26))]
                case _ if place + 1 < len(letters):
                    letters[place], letters[place + 1] = letters[place + 1], letters[place]
                    place += 1
        place += 1
    return "".join(letters)


def drop_words(text: str, strength: float, draw: np.random.Generator) -> str:
    """Each word is lost with a chance that grows to `MOST_WORDS`; the last one left stays."""
    words = text.split()
    kept = [word for word in words if draw.random() >= strength * MOST_WORDS]
    return " ".join(kept or words[:1])


def shuffle_words(text: str, strength: float, draw: np.random.Generator) -> str:
    """A share of the words, all of them at full strength, trade places."""
    words = np.array(text.split(), dtype=object)
    moved = np.flatnonzero(draw.random(len(words)) < strength)
    words[moved] = words[draw.permutation(moved)]
    return " ".join(words.tolist())
