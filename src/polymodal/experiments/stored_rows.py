"""A run that reads its training table from a store of prepared rows, which must be of the same recipe and table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polymodal.core.errors import DataError, RecipeError
from polymodal.data.partition import Split
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.preparation.prepared_store import PreparedStore, hash_rows
from polymodal.recipe.recipe import Recipe

#: Keys of `data` that do not change prepared rows, or whose effect is in the keys of inputs and in the training rows.
_UNRELATED = ("shuffle_groups", "sampling_temperature", "ignore_columns", "infer_other_columns", "strict")


@dataclass(frozen=True)
class StoredRows:
    """The rows of a store for a run.

    store: the store
    recipe: the complete recipe of the run
    """

    store: PreparedStore
    recipe: Recipe

    @classmethod
    def of(cls, store: PreparedStore, recipe: Recipe, splits: Mapping[str, Split[Table]]) -> StoredRows:
        """The rows of a store, checked against the recipe and the table of a run.

        Raises:
            RecipeError: the store was prepared with another recipe. The message names the first key that differs.
            DataError: the store holds another table.
        """
        train, facts = splits["train"], store.facts
        where = store.folder.root
        check_table(store, train.table)
        before, now = store.preparation.recipe(), recipe
        check_same(dict(_prepared_keys(before)), dict(_prepared_keys(now)), str(where))
        if hash_rows(train.rows) != facts.training_rows:
            key = "seed" if before.seed != now.seed else "data.split"
            raise RecipeError(
                key,
                f"the training rows are not those to which the preparation of the store {where} was fitted. Rows for "
                "validation and test come from the table of the store: use its recipe, without other tables for them",
            )
        if facts.features and now.members:
            raise RecipeError(
                "members",
                f"the store {where} holds features of the network for {', '.join(map(repr, facts.features))}, which "
                "other members cannot read. Prepare the table with this recipe",
            )
        return cls(store, recipe)

    def preparation(self) -> Preparation:
        """The fitted preparation of the store, for the recipe of the run."""
        return self.store.preparation.load(self.recipe)

    def rows(self, preparation: Preparation, table: Table, errors: CellErrors, folder: Path) -> PreparedTable:
        """The prepared rows of the training table. A store with at most `data.shuffle_groups` row groups is loaded as a
        whole; a larger one is streamed.

        errors: receives the cells that cannot be used
        folder: folder for the items of a store that is loaded as a whole

        Raises:
            DataError: a file of the store cannot be read, or (strict) a cell cannot be used.
        """
        for error in self.store.cell_errors():
            errors.add(error)
        most = self.recipe.data.shuffle_groups
        if self.store.num_groups <= most:
            return self.store.load(preparation, table, folder)
        return self.store.stream(preparation, table, most)


def check_table(store: PreparedStore, table: Table) -> None:
    """Check that a store holds the rows of a table.

    Raises:
        DataError: it holds another table.
    """
    facts = store.facts
    if table.source_key() != facts.source:
        raise DataError(
            f"the store {store.folder.root} holds the rows of another table, or of an earlier version of this one "
            f"(there {facts.table!r} with {facts.rows:,} rows, here {len(table):,} rows): prepare this table",
            file=table.name,
        )


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    """Check that the keys that change prepared rows are the same in the recipe of a store and in that of a run.

    Raises:
        RecipeError: one differs. The message names it and both values.
    """
    for key in [*before, *(key for key in now if key not in before)]:
        if before.get(key) != now.get(key):
            raise RecipeError(
                key,
                f"is {now.get(key, 'unset')!r} here, and the store {where} was prepared with "
                f"{before.get(key, 'unset')!r}. Prepare the table with this recipe, or leave the recipe out to use "
                "that of the store",
            )


def _prepared_keys(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """The keys of a complete recipe that change prepared rows, with their values."""
    values = recipe.to_dict()
    for kind, own in (("inputs", ("columns", "modality")), ("outputs", ("columns", "task"))):
        yield kind, list(values[kind])
        for name, spec in values[kind].items():
            for key in own:
                yield from _flat(f"{kind}.{name}.{key}", spec[key])
    yield from _flat("data", {key: value for key, value in values["data"].items() if key not in _UNRELATED})


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(f"{path}.{key}", inner)
    else:
        yield path, value
