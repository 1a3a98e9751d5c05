"""Samples of the columns of a table, by which a plan decides what they are."""

from __future__ import annotations

from dataclasses import replace

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.data.table.sample import ColumnSample
from polymodal.data.table.table import Table
from polymodal.recipe.data import LimitOptions


class ColumnSamples:
    """Samples of the columns of a table, each drawn once."""

    def __init__(self, table: Table, limits: LimitOptions) -> None:
        self.table, self.limits = table, limits
        self._taken: dict[str, ColumnSample] = {}

    def __getitem__(self, column: str) -> ColumnSample:
        if column not in self._taken:
            self._taken[column] = replace(self.table.sample(column), limits=self.limits)
        return self._taken[column]

    def check(self, column: str, path: str) -> None:
        """Check that the table has a column.

        path: the recipe key that names the column

        Raises:
            RecipeError: it has none; the message gives the nearest name.
        """
        if column not in self.table.columns:
            hint = did_you_mean(column, self.table.columns)
            raise RecipeError(path, f"the table {self.table.name} has no column {column!r}; {hint}")
