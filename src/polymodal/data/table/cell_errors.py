"""Bad cells: every cell that could not be used, with row, column, file and reason."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field

from polymodal.core.caller import warn_caller
from polymodal.core.errors import DataError, PolymodalWarning
from polymodal.core.formatting import count_noun


@dataclass(frozen=True)
class CellError:
    """One bad cell. `row` counts from 0 in the table of the cell, and `table` is the name of this table."""

    row: int
    column: str
    reason: str
    file: str | None = None
    table: str = ""


@dataclass
class CellErrors:
    """Collects bad cells, or raises `DataError` at the first one if `strict`. A bad cell counts as missing."""

    strict: bool = False
    errors: list[CellError] = field(default_factory=list)

    def add(self, error: CellError) -> None:
        """Record a bad cell.

        Raises:
            DataError: in strict mode.
        """
        if self.strict:
            raise DataError(error.reason, row=error.row, column=error.column, file=error.file or error.table or None)
        self.errors.append(error)

    def counts(self) -> dict[str, int]:
        """The number of bad cells by column."""
        return dict(Counter(error.column for error in self.errors))

    def json_lines(self) -> list[str]:
        """Each bad cell as a line of JSON."""
        return [json.dumps(asdict(error), ensure_ascii=False) + "\n" for error in self.errors]


class BadCellsWarning(PolymodalWarning):
    """Some cells could not be used and count as missing. The message lists the first of them."""


def warn_cell_errors(cell_errors: list[CellError]) -> None:
    """Warn about bad cells, if there are any. The message lists the first of them."""
    if cell_errors:
        first = "; ".join(f"row {f.row}, column {f.column!r}: {f.reason}" for f in cell_errors[:5])
        more = f" and {len(cell_errors) - 5} more" if len(cell_errors) > 5 else ""
        count = "count" if len(cell_errors) > 1 else "counts"
        text = f"{count_noun(len(cell_errors), 'cell')} could not be used and {count} as missing: {first}{more}"
        warn_caller(text, BadCellsWarning)
