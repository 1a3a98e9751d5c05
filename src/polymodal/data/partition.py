"""Assignment of the rows of a table to training, validation and test."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa

from polymodal.core.errors import DataError
from polymodal.data.split import assigns_validation, folds, split_rows
from polymodal.data.table.table import Table, non_null
from polymodal.recipe.recipe import Recipe

T = TypeVar("T", bound=Sized)


@dataclass(frozen=True)
class Split(Generic[T]):
    """Some rows of a table: `Split[Table]` of the raw cells, `Split[PreparedTable]` of the prepared rows.

    rows: row numbers of the table, `[rows]` int64
    """

    table: T
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def all_rows(cls, table: T) -> Split[T]:
        """All rows of a table."""
        return cls(table, np.arange(len(table)))


def make_splits(recipe: Recipe, table: Table, valid: Table | None, test: Table | None) -> dict[str, Split[Table]]:
    """The splits for training, validation and, if there is one, test. Given tables are used whole. The others are split
    off from the training table.

    Raises:
        DataError: a split would be empty.
    """
    split = recipe.data.split
    parts = {
        name: Split.all_rows(given) for name, given in (("validation", valid), ("test", test)) if given is not None
    }
    if valid is not None and (test is not None or split.test_size == 0):
        return {"train": Split.all_rows(table), **parts}
    if valid is not None:  # one split is drawn, under the name that `split_rows` gives to the first
        split, names = (
            split.model_copy(update={"validation_size": split.test_size, "test_size": 0.0}),
            {"train": "train", "validation": "test"},
        )
    else:
        names = {name: name for name in ("train", "validation", "test") if name not in parts}
        split = split if test is None else split.model_copy(update={"test_size": 0.0})
    labels, some = strata(recipe, table), _splittable_rows(recipe, table)
    rows = split_rows(
        len(some),
        split,
        recipe.seed,
        assigned=_cells(table, split.column) if split.column else None,
        groups=_cells(table, split.group_column) if split.group_column else None,
        stratify_by=None if labels is None else labels[some],
    )
    rows = {name: some[positions] for name, positions in rows.items()}
    rows["train"] = np.union1d(rows["train"], np.setdiff1d(np.arange(len(table)), some))
    parts |= {new: Split(table, rows[old]) for old, new in names.items() if len(rows[old])}
    return {name: parts[name] for name in ("train", "validation", "test") if name in parts}


def column_validates(recipe: Recipe, table: Table) -> bool:
    """Whether the split column of the recipe, if it has one, assigns rows of the table to validation."""
    column = recipe.data.split.column
    return column is None or assigns_validation(_cells(table, column))


def make_folds(recipe: Recipe, table: Table, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """`count` pairs of (other rows, rows of the fold), grouped and stratified as set in `data.split`."""
    split = recipe.data.split
    groups = _cells(table, split.group_column) if split.group_column else None
    labels = strata(recipe, table)
    return folds(len(table), count, recipe.seed, groups=groups, labels=labels)


def make_fold_splits(recipe: Recipe, table: Table, count: int) -> list[dict[str, Split[Table]]]:
    """`make_folds` as splits: the rows of the fold are the test split. A fraction `data.split.validation_size` of the
    other rows is the validation split, also grouped and stratified. The rest is the training split.

    Raises:
        DataError: a split would be empty.
    """
    split = recipe.data.split.model_copy(update={"test_size": 0.0})
    groups = _cells(table, split.group_column) if split.group_column else None
    labels = strata(recipe, table)
    made, some = [], _splittable_rows(recipe, table)
    for others, fold in make_folds(recipe, table, count):
        drawn = np.intersect1d(others, some)
        divided = split_rows(
            len(drawn),
            split,
            recipe.seed,
            groups=None if groups is None else [groups[row] for row in drawn],
            stratify_by=None if labels is None else labels[drawn],
        )
        train = np.union1d(drawn[divided["train"]], np.setdiff1d(others, some))
        rows = {"train": train, "validation": drawn[divided["validation"]], "test": fold}
        made.append({name: Split(table, part) for name, part in rows.items()})
    return made


def _splittable_rows(recipe: Recipe, table: Table) -> np.ndarray:
    """Rows from which splits are drawn.

    If splits are stratified by class, only labeled rows are drawn: an unlabeled row can train a model but not evaluate
    it. Otherwise, these are all rows.
    """
    split, specs = recipe.data.split, list(recipe.outputs.values())
    classes = len(specs) == 1 and specs[0].task is not None and specs[0].task.name == "classification"
    rows = np.arange(len(table))
    if not (split.stratify and classes and len(specs[0].columns) == 1) or split.column or split.group_column:
        return rows
    return rows[non_null(table, specs[0].columns[0], rows)]


def strata(recipe: Recipe, table: Table) -> np.ndarray | None:
    """The stratum of each row, `[rows]`; None if there are no strata.

    The stratum is the class (with `data.split.stratify`, if the only output is a classification of one column), the
    data set (if the table consists of several), or the combination of both.
    """
    specs = list(recipe.outputs.values())
    single = len(specs) == 1 and specs[0].task is not None and specs[0].task.name == "classification"
    labels = None
    if recipe.data.split.stratify and single and len(specs[0].columns) == 1:
        labels = _codes(table, specs[0].columns[0])
    if labels is None or table.data_set is None:
        return table.data_set if labels is None else labels
    return np.unique(np.stack([table.data_set, labels]), axis=1, return_inverse=True)[1].reshape(-1)


def groups_of(recipe: Recipe, table: Table) -> np.ndarray | None:
    """The group number of each row, `[rows]`, for the cluster bootstrap; None without `data.split.group_column`.

    Raises:
        DataError: the table lacks the column, so that the rows that belong together are not known.
    """
    column = recipe.data.split.group_column
    if column is None:
        return None
    if column not in table.columns:
        raise DataError(
            "the rows are scored with this group column (data.split.group_column), and it is missing. Add it; a "
            "different value in each row makes the rows independent",
            column=column,
            file=table.name,
        )
    return _codes(table, column)


def group_values(table: Table, column: str, rows: np.ndarray) -> list[Any]:
    """The group of each of `rows`, as a hashable value; None without one."""
    values = table.values(column, rows)
    cells = values.to_pylist() if isinstance(values, pa.ChunkedArray) else list(values)
    return [repr(cell) if isinstance(cell, list | dict) else None if cell != cell else cell for cell in cells]


def _cells(table: Table, column: str) -> list[Any]:
    if column not in table.columns:
        raise DataError(f"there is no column {column!r} to split by; check data.split", file=table.name)
    values = table.values(column, np.arange(len(table)))
    return values.to_pylist() if isinstance(values, pa.ChunkedArray) else list(values)


def _codes(table: Table, column: str) -> np.ndarray:
    """A number per distinct value of a column. Each row without a value is a group of its own."""
    seen: dict[Any, int] = {}
    codes = np.empty(len(table), np.int64)
    for row, cell in enumerate(_cells(table, column)):
        key = ("row", row) if cell is None else cell if not isinstance(cell, list | dict) else repr(cell)
        codes[row] = seen.setdefault(key, len(seen))
    return codes
