"""English-Russian sentences of the manual of GIMP, paired by their position in pages of the same name.

Debian's `gimp-help-en` and `gimp-help-ru` (GFDL, not redistributed here) are two versions of one manual. If both
versions of a page have equally many paragraphs, paragraphs at the same position are paired. If both paragraphs have
equally many sentences, sentences at the same position are paired; otherwise the paragraphs stay whole. Untranslated
texts are left out.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path

from benchmarks.packages import unpack_debian
from polymodal.datasets.planted import Columns

#: Fewest and most words of a side, and the largest ratio of their lengths.
WORDS = (3, 80)
RATIO = 2.5
_CYRILLIC = re.compile("[а-яё]", re.IGNORECASE)
_LATIN = re.compile("[a-z]", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?]) (?=[A-ZА-ЯЁ“«])")


def fetch(folder: Path, language: str) -> Path:
    """The manual in a language in `folder`, unpacked from Debian's package if necessary."""
    package = f"gimp-help-{language}"
    pages = folder / f"{package}/usr/share/gimp/2.0/help/{language}"
    if not pages.is_dir():
        unpack_debian(package, folder / package)
    return pages


def pairs(folder: Path) -> Columns:
    """Columns `en`, `ru` and `page`; a pair of texts in several pages is listed once, with the first page."""
    english, russian = fetch(folder, "en"), fetch(folder, "ru")
    columns: Columns = {"en": [], "ru": [], "page": []}
    seen: set[tuple[str, str]] = set()
    for page in sorted(path.name for path in english.glob("*.html")):
        if not (russian / page).is_file():
            continue
        ours, theirs = paragraphs(english / page), paragraphs(russian / page)
        if len(ours) != len(theirs):
            continue
        for pair in chain.from_iterable(map(sentences, ours, theirs)):
            if pair not in seen and _usable(*pair):
                seen.add(pair)
                for name, cell in zip(columns, (*pair, page.removesuffix(".html")), strict=True):
                    columns[name].append(cell)
    return columns


def sentences(english: str, russian: str) -> list[tuple[str, str]]:
    """The pairs of sentences of two paragraphs, or the paragraphs themselves if their numbers of sentences differ."""
    ours, theirs = _SENTENCE_END.split(english), _SENTENCE_END.split(russian)
    return list(zip(ours, theirs, strict=True)) if len(ours) == len(theirs) else [(english, russian)]


def paragraphs(page: Path) -> list[str]:
    """The texts of the `p` elements of a page, outside its navigation, in order."""
    reader = _Paragraphs()
    reader.feed(page.read_text(encoding="utf-8"))
    return reader.found


class _Paragraphs(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.parts: list[str] | None = None

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "p":
            self.parts = []

    def handle_endtag(self, tag: str) -> None:
        if tag == "p" and self.parts is not None:
            self.found.append(" ".join("".join(self.parts).split()))
            self.parts = None

    def handle_data(self, data: str) -> None:
        if self.parts is not None:
            self.parts.append(data)


def _usable(english: str, russian: str) -> bool:
    lengths = [len(text.split()) for text in (english, russian)]
    if min(lengths) < WORDS[0] or max(lengths) > WORDS[1] or max(lengths) > RATIO * min(lengths):
        return False
    letters = len(_CYRILLIC.findall(russian))
    return letters > 2 * len(_LATIN.findall(russian)) and not _CYRILLIC.search(english)
