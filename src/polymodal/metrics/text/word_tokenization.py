"""Word tokenization for any script, for metrics without a standard tokenizer."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

#: Thai and Lao, Myanmar, Khmer, kana, Han: scripts without spaces; each character counts as a word.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff]"
)
_APOSTROPHES = "'\u2019\u02bc"


def normalize_spoken(text: str) -> str:
    """Normalize a text to its spoken form: lower case, without punctuation, single spaces.

    Apostrophes are removed ("don't" -> "dont"). Other punctuation and symbols (Unicode categories P and S) become
    spaces ("well-known" -> "well known"). Accents and vowel signs are kept, and numbers are not spelled out.

    Example:
        >>> normalize_spoken("Don't stop - well-known!")
        'dont stop well known'
    """
    return " ".join("".join(map(_normalize_character, text.lower())).split())


def split_words(text: str) -> list[str]:
    """Words of `normalize_spoken(text)`; in scripts without spaces, each character is a word.

    Example:
        >>> split_words("Two cats, 猫")
        ['two', 'cats', '猫']
    """
    return _UNSPACED.sub(r" \g<0> ", normalize_spoken(text)).split()


@cache
def _normalize_character(character: str) -> str:
    if character in _APOSTROPHES:
        return ""
    return " " if unicodedata.category(character)[0] in "PS" else character
