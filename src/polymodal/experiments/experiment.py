"""An experiment: the fitted preparation and the prepared splits of a run."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from polymodal.core.errors import DataError, RecipeError
from polymodal.core.formatting import split_name
from polymodal.core.progress import Progress
from polymodal.core.writing import write_text
from polymodal.data.leakage import SharedItems, shared_between, shared_items
from polymodal.data.partition import Split
from polymodal.data.store.shared_inputs import read_inputs, write_inputs
from polymodal.data.table.cell_errors import CellError, CellErrors
from polymodal.data.table.table import Table
from polymodal.distributed.world import SINGLE, World
from polymodal.evaluation.targets import check_targets
from polymodal.experiments.stored_inputs import StoredInputs
from polymodal.experiments.stored_rows import StoredRows
from polymodal.nn.network import Network
from polymodal.preparation.feature_cache import FeatureCache
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.preparation.usable_cells import bad_column_sentences, check_training_cells, unlearned_sentences
from polymodal.recipe.recipe import Recipe
from polymodal.training.source_model import SourceModel

#: The file with the unusable cells of a table that processes share.
ERRORS_FILE = "cell_errors.json"


@dataclass(frozen=True)
class Experiment:
    """A fitted preparation and its prepared splits (`train`, `validation` and optionally `test`).

    tables: the unprepared rows of the splits
    cell_errors: unusable cells
    features: cached features of frozen encoder layers
    teacher: the same experiment with privileged inputs, if the recipe has any; this experiment then excludes them
    bad_columns: sentences about the columns with many unusable cells
    world: the processes that train together; all have prepared the same rows
    """

    preparation: Preparation
    tables: dict[str, Split[Table]]
    splits: dict[str, Split[PreparedTable]]
    cell_errors: CellErrors
    features: FeatureCache
    teacher: Experiment | None = None
    bad_columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    world: World = SINGLE

    @property
    def recipe(self) -> Recipe:
        """The complete recipe."""
        return self.preparation.recipe

    def with_recipe(self, recipe: Recipe) -> Experiment:
        """The same prepared rows for a recipe with the same preparation and all or some of the inputs."""
        names = list(recipe.inputs)
        splits = {name: Split(split.table.select_inputs(names), split.rows) for name, split in self.splits.items()}
        return replace(self, preparation=self.preparation.for_recipe(recipe), splits=splits)

    def with_world(self, world: World) -> Experiment:
        """The same experiment for training by several processes, with its teacher."""
        teacher = None if self.teacher is None else self.teacher.with_world(world)
        return replace(self, world=world, teacher=teacher)

    def feature_splits(self, network: Network, progress: Progress) -> dict[str, Split[PreparedTable]]:
        """The splits with cached features instead of items, for every input whose encoder has frozen layers.

        See `preparation.feature_cache`.
        """
        prepared = {id(split.table): split.table for split in self.splits.values()}
        train = self.splits["train"].table.inputs if "train" in self.splits else {}
        inputs = [train, *(table.inputs for table in prepared.values())]
        modalities = self.preparation.modalities
        _, *encoded = self.features.encode_tables(network, modalities, inputs, self.recipe, progress)
        changed = {key: replace(table, inputs=one) for (key, table), one in zip(prepared.items(), encoded, strict=True)}
        return {name: Split(changed[id(split.table)], split.rows) for name, split in self.splits.items()}

    def shared_between_splits(self) -> list[SharedItems]:
        """Items that occur in two splits, by input; see `data.leakage`."""
        first = next(iter(self.splits.values())).table
        if all(split.table is first for split in self.splits.values()):
            return shared_items(first.inputs, {name: split.rows for name, split in self.splits.items()})
        return shared_between(
            {
                name: {key: one.select_rows(split.rows) for key, one in split.table.inputs.items()}
                for name, split in self.splits.items()
            }
        )

    def check_targets(self, splits: Collection[str]) -> None:
        """Check that each of `splits` has a usable target, unless objectives are trained too.

        Raises:
            DataError: no target of a split is usable, or all its sample weights are 0.
        """
        if self.recipe.objectives:
            return
        for name, split in self.splits.items():
            if name in splits:
                table = self.tables[name].table
                errors = [error for error in self.cell_errors.errors if error.table == table.name]
                kind = f"{split_name(name)} row"
                check_targets(self.preparation.tasks, split, kind, table.name, errors)


def prepare_experiment(
    recipe: Recipe,
    tables: Mapping[str, Split[Table]],
    *,
    folder: Path,
    cache: Path | None,
    progress: Progress,
    stored: StoredRows | StoredInputs | None = None,
    shared: Path | None = None,
) -> Experiment:
    """Fit the preparation on the training split, then prepare every table once.

    Inputs that match a saved model (`training.init_from`) use its fitted modalities.

    folder: folder for prepared tensors
    cache: folder for decoded media and features; None disables caching across runs
    stored: a store with the fitted preparation and the prepared rows of the training table, or with its inputs
    shared: with several processes, the `folder` of the first process of this machine, which prepares the inputs; the
        others map its files

    Raises:
        DataError: the training rows have no usable cell of an input, a target or a prompt.
    """
    if recipe.privileged and recipe.training.distillation.teacher is not None:
        raise RecipeError(
            "training.distillation.teacher",
            "privileged inputs train their own teacher: remove the teacher or the privileged inputs",
        )
    _check_teachable(recipe, tables["validation"].table)
    with progress.task("learn vocabularies and statistics", None):
        own = stored.preparation() if isinstance(stored, StoredRows) else None
        preparation = own or _fitted(recipe, tables["train"], cache)
    student = recipe.with_inputs([name for name in recipe.inputs if name not in recipe.privileged])
    bare = preparation.for_recipe(student) if recipe.privileged else preparation
    cell_errors, prepared = CellErrors(recipe.data.strict), {}
    own_errors, bad_columns = {}, dict[str, tuple[str, ...]]()
    for name, split in tables.items():
        if id(split.table) not in prepared:
            used, before = preparation if name != "test" else bare, len(cell_errors.errors)
            table_folder = folder / f"table-{name}"
            if stored is not None and name == "train":
                with progress.task(f"open the prepared rows of {split.table.name}", None):
                    prepared[id(split.table)] = stored.rows(preparation, split.table, cell_errors, table_folder)
            elif shared is None or shared == folder:
                with progress.task(f"prepare {split.table.name}", len(split.table)) as advance:
                    prepared[id(split.table)] = used.prepare(
                        split.table, cell_errors, folder=table_folder, cache=cache, advance=advance
                    )
                if shared == folder:
                    _write_table(table_folder, prepared[id(split.table)], cell_errors.errors[before:])
            else:
                prepared[id(split.table)] = _read_table(used, split.table, cell_errors, shared / f"table-{name}")
            own_errors[id(split.table)] = cell_errors.errors[before:]
            for column, sentences in bad_column_sentences(split.table, own_errors[id(split.table)]).items():
                bad_columns[column] = bad_columns.get(column, ()) + sentences
    train = tables["train"]
    check_training_cells(preparation, train, prepared[id(train.table)], own_errors[id(train.table)])
    bad_columns = {**unlearned_sentences(preparation), **bad_columns}
    splits = {name: Split(prepared[id(split.table)], split.rows) for name, split in tables.items()}
    whole = Experiment(preparation, dict(tables), splits, cell_errors, FeatureCache(cache), bad_columns=bad_columns)
    return replace(whole.with_recipe(student), teacher=whole) if recipe.privileged else whole


def _fitted(recipe: Recipe, train: Split[Table], cache: Path | None) -> Preparation:
    """The preparation of a recipe, fitted to the training rows or taken from a saved model."""
    preparation, start = Preparation(recipe), SourceModel.from_recipe(recipe)
    known = start.load_modalities(preparation) if start is not None else []
    preparation.fit(train.table, train.rows, cache=cache, known=known)
    if start is not None:
        start.load_tasks(preparation)
    return preparation


def prepare_together(
    recipe: Recipe,
    tables: Mapping[str, Split[Table]],
    *,
    folder: Path,
    cache: Path | None,
    progress: Progress,
    world: World,
    stored: StoredRows | StoredInputs | None = None,
) -> Experiment:
    """The result of `prepare_experiment` in all processes. The first process of each machine prepares the inputs."""
    first = world.gather(str(folder))[world.rank - world.local_rank]
    shared = None if world.size == 1 else Path(first)
    with world.in_turn():
        experiment = prepare_experiment(
            recipe, tables, folder=folder, cache=cache, progress=progress, stored=stored, shared=shared
        )
    return experiment.with_world(world)


def _write_table(folder: Path, prepared: PreparedTable, errors: Sequence[CellError]) -> None:
    """Share a prepared table with the other processes of this machine."""
    write_inputs(folder, prepared.inputs)
    write_text(folder / ERRORS_FILE, json.dumps([asdict(error) for error in errors]))


def _read_table(preparation: Preparation, table: Table, cell_errors: CellErrors, folder: Path) -> PreparedTable:
    """A table of which another process has prepared the inputs."""
    own = preparation.targets_only().prepare(table, CellErrors(), folder=None, cache=None)
    for error in json.loads((folder / ERRORS_FILE).read_text(encoding="utf-8")):
        cell_errors.errors.append(CellError(**error))
    return replace(own, inputs=read_inputs(folder))


def _check_teachable(recipe: Recipe, valid: Table) -> None:
    """Raises DataError if the validation rows lack a column of a privileged input."""
    for name in recipe.privileged:
        for column in recipe.inputs[name].columns:
            if column not in valid.columns:
                raise DataError(
                    f"the validation table lacks this column of the privileged input {name!r}. Add the column, or give "
                    "no validation table to split validation rows off the training table",
                    column=column,
                    file=valid.name,
                )
