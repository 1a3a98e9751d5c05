"""Quarantine: every cell that could not be used, with row, column, file and reason."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from dataclasses import asdict, dataclass, field

from polymodal.core.errors import DataError


@dataclass(frozen=True)
class Fault:
    """One unusable cell. `row` counts from 0 in the table it came from; `table` names that table."""

    row: int
    column: str
    reason: str
    file: str | None = None
    table: str = ""


@dataclass
class Faults:
    """Collects faults, or raises the first one when `strict`. A faulty cell is treated as missing."""

    strict: bool = False
    found: list[Fault] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        """Record `fault`.

        Raises:
            DataError: in strict mode.
        """
        if self.strict:
            raise DataError(fault.reason, row=fault.row, column=fault.column, file=fault.file or fault.table or None)
        self.found.append(fault)

    def counts(self) -> dict[str, int]:
        """The number of faults by column."""
        return dict(Counter(fault.column for fault in self.found))

    def lines(self) -> list[str]:
        """Each fault as a line of JSON."""
        return [json.dumps(asdict(fault), ensure_ascii=False) + "\n" for fault in self.found]


class BadCellsWarning(UserWarning):
    """Some cells could not be used and counted as missing; the message lists the first."""


def warn_of_faults(found: list[Fault]) -> None:
    """Warn of cells that could not be used, if there are any; the message lists the first."""
    if found:
        first = "; ".join(f"row {f.row}, column {f.column!r}: {f.reason}" for f in found[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        text = f"{len(found)} cells could not be used and count as missing: {first}{more}"
        warnings.warn(text, BadCellsWarning, stacklevel=3)
