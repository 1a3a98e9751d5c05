"""The base class of operations: what the worker computes for the rows of one or several requests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from polymodal.data.table.cell_errors import CellErrors
from polymodal.serving.errors import RequestError
from polymodal.serving.rows import Row
from polymodal.serving.served_model import ServedModel


@dataclass(frozen=True)
class BadCell:
    """The answer for a row whose cell cannot be used."""

    column: str
    reason: str


class Operation(ABC):
    """A computation on rows. Equal operations on one model may be computed in one batch, so an operation is a frozen
    dataclass of all that its answers depend on."""

    @abstractmethod
    def compute(self, served: ServedModel, rows: list[Row]) -> list[Any]:
        """The answer of each row, or a `BadCell`. Called in the thread of the worker."""

    def joins(self, served: ServedModel) -> bool:
        """Whether rows of several requests may be computed together: the answer of a row does not depend on the number
        of the row."""
        return True


def with_bad_cells(answers: Sequence[Any], cell_errors: CellErrors) -> list[Any]:
    """The answers, with a `BadCell` in place of that of a row with an unusable cell."""
    found = list(answers)
    for error in reversed(cell_errors.errors):
        found[error.row] = BadCell(error.column, error.reason)
    return found


def check_answers(answers: Sequence[Any]) -> None:
    """Check the answers of one request.

    Raises:
        RequestError: a cell of a row cannot be used. Nothing replaces it.
    """
    bad = [(row, answer) for row, answer in enumerate(answers) if isinstance(answer, BadCell)]
    if bad:
        row, first = bad[0]
        more = f"; {len(bad) - 1} more rows have such cells" if len(bad) > 1 else ""
        raise RequestError(
            f"row {row}, column {first.column!r}: {first.reason}{more}", code="invalid_cell", param=first.column
        )
