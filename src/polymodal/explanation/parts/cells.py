"""Parts that are cells or words: an item without some of them is prepared from edited cells."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from polymodal.data.store.items import PreparedInput
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.explanation.parts.base import MAX_PARTS, Parts, spans
from polymodal.modalities.base import Modality
from polymodal.modalities.number import Number
from polymodal.modalities.text import Text, parse_text
from polymodal.recipe.data import LimitOptions

#: A word with the blanks behind it. In scripts without blanks, each character is a word.
_WORD = re.compile(r"(?:[぀-ヿ㐀-鿿가-힯]|[^\s぀-ヿ㐀-鿿가-힯]+)\s*")


class ColumnParts(Parts):
    """The columns of numbers, categories or dates of a row. A removed cell is missing. `shape` is `(columns,)`."""

    def __init__(self, modality: Modality, cells: dict[str, Any]) -> None:
        self.modality, self.cells = modality, [cells[name] for name in modality.columns]
        self.labels = tuple(modality.columns)
        self.shape = (len(self.labels),)

    def keep(self, kept: np.ndarray, donor: ColumnParts | None = None) -> PreparedInput:
        others = [None] * len(self) if donor is None else donor.cells
        columns = {
            name: [cell if one else other for one in kept[:, at]]
            for at, (name, cell, other) in enumerate(zip(self.labels, self.cells, others, strict=True))
        }
        return _prepare(self.modality, columns, len(kept))

    def tensor_parts(self) -> tuple[str, np.ndarray] | None:
        return ("values", np.arange(len(self))[None]) if isinstance(self.modality, Number) else None


class WordParts(Parts):
    """The words of a text; of more than 64 words, runs of consecutive words. A removed word is left out. `shape` is
    `(words,)`."""

    def __init__(self, modality: Text, text: str) -> None:
        self.modality, words = modality, _WORD.findall(text)
        self._runs = ["".join(words[start:end]) for start, end in spans(len(words), MAX_PARTS)]
        self.labels = tuple(run.strip() for run in self._runs)
        self.shape = (len(self.labels),)

    def keep(self, kept: np.ndarray, donor: WordParts | None = None) -> PreparedInput:
        own = self._runs[:-1] + [run + " " for run in self._runs[-1:]]
        others = [""] * len(self)
        if donor is not None and len(donor):
            others = [donor.labels[at % len(donor)] + " " for at in range(len(self))]
        texts = ["".join(a if one else b for one, a, b in zip(row, own, others, strict=True)) for row in kept]
        return _prepare(self.modality, {self.modality.column: texts}, len(kept))


def word_parts(modality: Text, cell: Any) -> WordParts:
    """The words of a cell of texts that was prepared without error."""
    return WordParts(modality, parse_text(cell) or "")


def _prepare(modality: Modality, columns: dict[str, Any], rows: int) -> PreparedInput:
    block = RowBlock(columns, np.arange(rows), None, "edited rows", CellErrors(), LimitOptions())
    return modality.prepare(block)
