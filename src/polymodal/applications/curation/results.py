"""The curated rows and the curation result."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from polymodal.applications.curation.duplicates import Duplicates
from polymodal.applications.curation.label_issues import LabelIssues
from polymodal.applications.curation.mismatches import Mismatches
from polymodal.data.table.table import Table
from polymodal.preparation.preparation import Preparation, PreparedTable


@dataclass(frozen=True)
class CurationRows:
    """The prepared rows of one or several concatenated tables.

    names: names of the tables; starts: index of the first row of each table, and the total number of rows
    index: for each input, the item of each row over all tables, -1 if missing; equal contents are the same item
    """

    names: list[str]
    tables: list[Table]
    prepared: list[PreparedTable]
    preparation: Preparation
    starts: list[int]
    index: dict[str, np.ndarray]

    def locate(self, row: int) -> tuple[int, int]:
        """The table index of `row` and its row number in that table."""
        table = int(np.searchsorted(self.starts, row, side="right")) - 1
        return table, row - self.starts[table]

    def by_table(self, rows: np.ndarray) -> dict[str, list[int]]:
        """Row numbers in the tables, by table name."""
        by_name: dict[str, list[int]] = {}
        for row in rows.tolist():
            table, table_row = self.locate(row)
            by_name.setdefault(self.names[table], []).append(table_row)
        return by_name


@dataclass(frozen=True)
class CurationResult:
    """The result of a curation. Row numbers count through all tables.

    duplicates: by input; mismatches: by pair of aligned inputs
    trained_on: whether the model was trained on one of these tables
    labels: by output, the labels of the first table that were checked
    """

    duplicates: dict[str, Duplicates]
    mismatches: dict[tuple[str, str], Mismatches]
    trained_on: bool
    labels: dict[str, LabelIssues] = field(default_factory=dict)
