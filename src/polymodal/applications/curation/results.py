"""The rows that are curated, and what was found in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polymodal.applications.curation.duplicates import Duplicates
from polymodal.applications.curation.mismatches import Mismatches
from polymodal.data.table.table import Table
from polymodal.preparation.preparation import Preparation, PreparedTable


@dataclass(frozen=True)
class Rows:
    """The rows of one or several tables, one after the other, prepared.

    names: of the tables; starts: the first row of each, and the number of rows
    index: by input, the item of each row over all tables, -1 where it is missing; equal contents are one item
    """

    names: list[str]
    tables: list[Table]
    prepared: list[PreparedTable]
    preparation: Preparation
    starts: list[int]
    index: dict[str, np.ndarray]

    def place(self, row: int) -> tuple[int, int]:
        """The number of the table that `row` is in, and its row there."""
        table = int(np.searchsorted(self.starts, row, side="right")) - 1
        return table, row - self.starts[table]

    def by_table(self, rows: np.ndarray) -> dict[str, list[int]]:
        """Row numbers by the name of their table."""
        found: dict[str, list[int]] = {}
        for row in rows.tolist():
            table, own = self.place(row)
            found.setdefault(self.names[table], []).append(own)
        return found


@dataclass(frozen=True)
class Curation:
    """What was found. Rows count through all tables.

    duplicates: by input; mismatches: by pair of aligned inputs
    seen: whether the model was trained on one of these very tables
    """

    duplicates: dict[str, Duplicates]
    mismatches: dict[tuple[str, str], Mismatches]
    seen: bool
