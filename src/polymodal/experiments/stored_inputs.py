"""Inputs of a store of prepared rows for preparations that are fitted to other training rows, such as folds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from polymodal.core.errors import RecipeError
from polymodal.data.store.items import PreparedInput
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table
from polymodal.experiments.stored_rows import check_same, check_table
from polymodal.modalities.base import Modality
from polymodal.preparation.feature_cache import FeatureItems
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.preparation.prepared_store import PreparedStore
from polymodal.recipe.data import LimitOptions
from polymodal.recipe.recipe import Recipe


class StoredInputs:
    """The inputs of a store whose items are the same for any training rows: decoded media, tokens of a checkpoint,
    features of frozen layers. Other inputs, which learn from the training rows (numbers, categories, dates, texts with
    a vocabulary of their own), and the targets are prepared from the table.

    So a fold has the rows that it would have without the store.
    """

    def __init__(self, store: PreparedStore, table: Table, cache: Path | None) -> None:
        """
        table: the table of the store
        cache: folder of decoded media for the inputs that are prepared from the table

        Raises:
            DataError: the store holds another table.
        """
        check_table(store, table)
        self.store, self.table, self.cache = store, table, cache
        self.recipe = store.preparation.recipe()
        self._folder: TemporaryDirectory[str] | None = None

    @property
    def features(self) -> set[str]:
        """The inputs that are stored as features of frozen layers."""
        return set(self.store.facts.features)

    def search_recipe(self) -> dict[str, Any]:
        """The keys of the recipe of the store that a search must not change."""
        values = self.recipe.to_dict()
        inputs = {
            name: {key: spec[key] for key in ("columns", "modality", *(["encoder"] if name in self.features else []))}
            for name, spec in values["inputs"].items()
        }
        outputs = {name: {key: spec[key] for key in ("columns", "task")} for name, spec in values["outputs"].items()}
        kept = {key: values[key] for key in ("data", "seed", "pretrained")}
        return {**kept, "inputs": inputs, "outputs": outputs, **({"network": True} if self.features else {})}

    def check(self, recipe: Recipe) -> None:
        """Check that a recipe reads the inputs of the store.

        Raises:
            RecipeError: it prepares an input of the store in another way, or has members that cannot read features.
        """
        where = str(self.store.folder.root)
        names = [name for name in recipe.inputs if name in self.recipe.inputs]
        check_same(dict(_input_keys(self.recipe, names)), dict(_input_keys(recipe, names)), where)
        if recipe.members and self.features:
            raise RecipeError(
                "members",
                f"the store {where} holds features of the network for {', '.join(map(repr, sorted(self.features)))}, "
                "which other members cannot read. Prepare the table with a recipe that has members",
            )

    def rows(self, preparation: Preparation, table: Table, errors: CellErrors, folder: Path) -> PreparedTable:
        """The prepared rows of the table.

        errors: receives the cells that cannot be used
        folder: folder for the items that are prepared from the table

        Raises:
            RecipeError, DataError: as `check`; a file of the store or a cell cannot be read.
        """
        recipe = preparation.recipe
        self.check(recipe)
        modalities, limits = preparation.modalities, recipe.data.limits
        found = {name: self.input(name, one, limits) for name, one in modalities.items()}
        stored = {name: one for name, one in found.items() if one is not None}
        self.add_errors({column for name in stored for column in modalities[name].columns}, errors)
        rest = [name for name in modalities if name not in stored]
        own = preparation.for_recipe(recipe.with_inputs(rest)) if rest else preparation.targets_only()
        prepared = own.prepare(table, errors, folder=folder, cache=self.cache)
        inputs = {name: stored[name] if name in stored else prepared.inputs[name] for name in modalities}
        return replace(prepared, inputs=inputs, row_groups=self._rows.row_groups if stored else None)

    def input(self, name: str, modality: Modality, limits: LimitOptions) -> PreparedInput | None:
        """The rows of an input; None if a fitted modality would prepare other items than those of the store."""
        own = self._preparation.modalities.get(name)
        identity = modality.fingerprint(limits)
        if own is None or identity is None or identity != own.fingerprint(self.recipe.data.limits):
            return None
        return self._rows.inputs[name]

    def add_errors(self, columns: set[str], errors: CellErrors) -> None:
        """Add the cells of some columns that could not be used."""
        for error in self.store.cell_errors():
            if error.column in columns:
                errors.add(error)

    @cached_property
    def _preparation(self) -> Preparation:
        return self.store.preparation.load(self.recipe)

    @cached_property
    def _rows(self) -> PreparedTable:
        """All rows: loaded as a whole, or streamed, as in `StoredRows.rows`."""
        most = self.recipe.data.shuffle_groups
        if self.store.num_groups > most:
            return self.store.stream(self._preparation, self.table, most)
        self._folder = TemporaryDirectory(prefix="polymodal-")
        return self.store.load(self._preparation, self.table, Path(self._folder.name))


def is_features(source: PreparedInput | None) -> bool:
    """Whether an input consists of features of frozen layers."""
    return source is not None and isinstance(source.items, FeatureItems)


def _input_keys(recipe: Recipe, names: list[str]) -> Iterator[tuple[str, Any]]:
    values: Mapping[str, Any] = recipe.to_dict()["inputs"]
    for name in names:
        yield f"inputs.{name}.columns", values[name]["columns"]
        yield from ((f"inputs.{name}.modality.{key}", value) for key, value in values[name]["modality"].items())
