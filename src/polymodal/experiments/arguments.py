"""Conversion of the arguments of `fit` and related functions: tables, recipes and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

from polymodal.core.errors import DataError, RecipeError
from polymodal.core.paths import cache_folder
from polymodal.core.registry import find
from polymodal.data.objects import as_root
from polymodal.data.table.concat import ConcatTable, open_data
from polymodal.data.table.given_splits import given_splits
from polymodal.data.table.table import Table
from polymodal.recipe.ensemble import Quality
from polymodal.recipe.recipe import Recipe

RecipeLike = Recipe | dict[str, Any] | str | Path | None
#: One column or several, by name. Whole numbers name the columns of a frame without names.
TargetLike = str | int | Sequence[str | int] | None


@dataclass(frozen=True)
class Tables:
    """The opened tables of a run.

    unlabeled: additional training rows without a target
    """

    train: Table
    validation: Table | None = None
    test: Table | None = None
    unlabeled: Table | None = None


def open_tables(
    data: Any, *, validation: Any = None, test: Any = None, unlabeled: Any = None, root: Path | str | None = None
) -> Tables:
    """Open the tables of a run. Each argument is a source of `data.table.concat.open_data`. `data` may also hold the
    splits of one data set (`data.table.given_splits`).

    Raises:
        DataError: there is no training table, a table cannot be read, or a split is given twice.
    """
    splits = given_splits(data)
    if splits is not None:
        for name, table in (("validation", validation), ("test", test)):
            if table is not None and name in splits:
                raise DataError(f"the data hold the split {name!r}, and `{name}` is given too: leave out one of them")
        data, validation, test = splits["train"], splits.get("validation", validation), splits.get("test", test)
    train = as_table(data, root)
    if train is None:
        raise DataError("no training data was given")
    kinds = train.column_kinds()
    opened = [
        None if table is None else table.read_with(kinds)
        for table in (as_table(validation, root), as_table(test, root))
    ]
    if isinstance(train, ConcatTable):  # a split may lack columns that only some of the data sets have
        opened = [None if table is None else _with_columns_of(table, train) for table in opened]
    others = as_table(unlabeled, root)
    return Tables(train, opened[0], opened[1], None if others is None else others.read_with(kinds))


def _with_columns_of(table: Table, train: ConcatTable) -> Table:
    if table is train:
        return table
    return (table if isinstance(table, ConcatTable) else ConcatTable({table.name: table})).with_columns_of(train)


def as_recipe(recipe: RecipeLike, settings: list[str] | Mapping[str, Any] | None) -> Recipe:
    """A recipe object with `settings` applied: texts `a.b=c`, or a mapping of paths to values."""
    if isinstance(recipe, Recipe):
        return Recipe.read(recipe.explicit_values(), settings) if settings else recipe
    return Recipe.read(recipe if recipe is not None else {}, settings)


def with_init_from(recipe: Recipe, init_from: Path | str | None) -> Recipe:
    """The recipe with `training.init_from` set to `init_from`, if it is given."""
    if init_from is None:
        return recipe
    training = recipe.training.model_copy(update={"init_from": str(init_from)})
    return recipe.model_copy(update={"training": training})


def with_effort(recipe: Recipe, quality: Quality | None, time_limit: float | None = None) -> Recipe:
    """The recipe with `quality` and `time_limit`, if they are given.

    Raises:
        RecipeError: the time limit is not positive.
    """
    if time_limit is not None and not time_limit > 0:
        raise RecipeError("time_limit", f"must be a positive number of seconds, not {time_limit}")
    given = {key: value for key, value in (("quality", quality), ("time_limit", time_limit)) if value is not None}
    return recipe.model_copy(update=given) if given else recipe


def with_objectives(
    recipe: RecipeLike, settings: list[str] | Mapping[str, Any] | None, objectives: str | list[str] | None
) -> Recipe:
    """The recipe with objectives of these names, if there are any, in place of its own; then with the settings."""
    if objectives:
        named = [objectives] if isinstance(objectives, str) else objectives
        options = [find("objective", name, "objectives").Options() for name in named]
        recipe = as_recipe(recipe, None).model_copy(update={"objectives": options})
    return as_recipe(recipe, settings)


def as_table(source: Any, root: Path | str | None) -> Table | None:
    """Open a source as a table. None stays None."""
    if source is None or isinstance(source, Table):
        return source
    return open_data(source, root=as_root(root), cache=cache_folder() / "tables")


def as_targets(target: TargetLike) -> list[str]:
    """The names of the target columns as a list. A frame may name its columns by whole numbers."""
    one = target is None or isinstance(target, str | int | Integral)
    names: Any = [target] if one else target
    return [str(name) for name in names if name is not None]


def without_known_targets(recipe: Recipe, target: TargetLike) -> TargetLike:
    """None in place of targets that are those of a complete recipe.

    Raises:
        RecipeError: the recipe has other outputs.
    """
    columns = {column for spec in recipe.outputs.values() for column in spec.columns}
    targets = as_targets(target)
    if targets and set(targets) != columns:
        known = ", ".join(map(repr, sorted(columns)))
        raise RecipeError("outputs", f"the store of prepared rows has the target {known}, not {', '.join(targets)}")
    return None
