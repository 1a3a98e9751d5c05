"""The arguments of `fit` and its siblings, in any of the forms in which they may be given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polymodal.core.errors import DataError
from polymodal.core.paths import cache_folder
from polymodal.data.table.concat import ConcatTable, open_data
from polymodal.data.table.table import Table
from polymodal.recipe.recipe import Recipe

RecipeLike = Recipe | dict[str, Any] | str | Path | None


@dataclass(frozen=True)
class Tables:
    """The opened tables of a run.

    unlabelled: rows without a target that are trained on as well
    """

    train: Table
    valid: Table | None = None
    test: Table | None = None
    unlabeled: Table | None = None


def open_tables(
    data: Any, *, valid: Any = None, test: Any = None, unlabeled: Any = None, root: Path | str | None = None
) -> Tables:
    """The tables of a run; each as `data.table.concat.open_data` takes it.

    Raises:
        DataError: there is no table to train on, or one cannot be read.
    """
    train = as_table(data, root)
    if train is None:
        raise DataError("there is no data to train on")
    opened = [as_table(source, root) for source in (valid, test)]
    if isinstance(train, ConcatTable):  # a part may lack what only some of the data sets have
        opened = [None if one is None else _with_columns_of(one, train) for one in opened]
    return Tables(train, opened[0], opened[1], as_table(unlabeled, root))


def _with_columns_of(table: Table, train: ConcatTable) -> Table:
    if table is train:
        return table
    return (table if isinstance(table, ConcatTable) else ConcatTable({table.name: table})).like(train)


def as_recipe(recipe: RecipeLike, settings: list[str] | None) -> Recipe:
    """The recipe of any form in which it may be given, with `settings` on top."""
    if isinstance(recipe, Recipe):
        return Recipe.read(recipe.given(), settings) if settings else recipe
    return Recipe.read(recipe if recipe is not None else {}, settings)


def with_init_from(recipe: Recipe, start: Path | str | None) -> Recipe:
    """The recipe, going on from the model in `start` where there is one."""
    if start is None:
        return recipe
    training = recipe.training.model_copy(update={"start": str(start)})
    return recipe.model_copy(update={"training": training})


def as_table(source: Any, root: Path | str | None) -> Table | None:
    """The table of any form in which it may be given; None stays None."""
    if source is None or isinstance(source, Table):
        return source
    return open_data(source, root=Path(root) if root is not None else None, cache=cache_folder() / "tables")


def as_targets(target: str | list[str] | None) -> list[str]:
    """The columns to predict, of either form in which they may be given."""
    return [target] if isinstance(target, str) else list(target or [])
