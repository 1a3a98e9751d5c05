"""Inference of the kind of a column of texts, such as a column of a CSV file."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from polymodal.data.table.cell_kinds import (
    BOOLEAN_PATTERN,
    MARKS,
    NUMBER_PATTERN,
    WHOLE_PATTERN,
    CellKind,
    without_null_words,
)

_MARKS = pa.array(MARKS)


class KindInference:
    """The narrowest kind that fits all cells of a column seen so far: `integer`, `number`, `boolean` or `text`.

    Marks for a broken value (`?`, `-`, `#DIV/0!`) do not count: in a column of numbers they are bad cells.

    Example:
        >>> inference = KindInference()
        >>> inference.update(pa.array(["1", "2.5", "?"]))
        >>> inference.kind, inference.has_marks
        ('number', True)
    """

    def __init__(self) -> None:
        self._patterns: dict[CellKind, str] = {
            "integer": WHOLE_PATTERN,
            "number": NUMBER_PATTERN,
            "boolean": BOOLEAN_PATTERN,
        }
        self._seen = self._marked = False

    def update(self, texts: pa.Array) -> None:
        """Take the next cells of the column into account."""
        if not self._patterns:
            return
        cells = without_null_words(texts).drop_null()
        marked = pc.is_in(cells, _MARKS)
        if pc.any(marked, min_count=0).as_py():
            self._marked = True
            cells = cells.filter(pc.invert(marked))
        if len(cells) == 0:
            return
        self._seen = True
        whole = "integer" in self._patterns
        self._patterns = {
            kind: pattern
            for kind, pattern in self._patterns.items()
            if pc.all(pc.match_substring_regex(cells, pattern)).as_py()
        }
        if whole and "integer" in self._patterns:
            try:
                cells.cast(pa.int64())
            except pa.ArrowInvalid:  # too large for 64 bits: an identifier, which would lose digits as a float
                self._patterns = {}

    @property
    def kind(self) -> CellKind:
        """The kind of the column; `text` if it has no value."""
        return next(iter(self._patterns), "text") if self._seen else "text"

    @property
    def has_marks(self) -> bool:
        """Whether a column of numbers or booleans has marks for broken values."""
        return self._marked and self.kind != "text"
