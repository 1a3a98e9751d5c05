"""The words of a text in any script, for metrics whose authors leave the tokenizer open."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

#: Thai and Lao, Myanmar, Khmer, kana, Han: written without spaces, so that each character counts as a word.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff]"
)
_APOSTROPHES = "'\u2019\u02bc"


def normalize_spoken(text: str) -> str:
    """A text as it sounds: lower case, without punctuation, one space between words.

    Apostrophes are dropped ("don't" -> "dont"); other punctuation and symbols (Unicode categories P and S) separate
    words ("well-known" -> "well known"). Accents and vowel signs stay, and numbers are not spelled out.
    """
    return " ".join("".join(map(_heard, text.lower())).split())


def split_words(text: str) -> list[str]:
    """The words of `normalize_spoken(text)`; in scripts that put no spaces between words, each character is one."""
    return _UNSPACED.sub(r" \g<0> ", normalize_spoken(text)).split()


@cache
def _heard(character: str) -> str:
    if character in _APOSTROPHES:
        return ""
    return " " if unicodedata.category(character)[0] in "PS" else character
