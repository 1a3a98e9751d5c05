"""From rows to batches: the modality of every input and the task of every output, fitted on training rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polymodal.core.errors import DataError, RecipeError
from polymodal.core.registry import build
from polymodal.core.types import Batch, InputBatch, TargetBatch
from polymodal.data.group_sampler import RowGroups
from polymodal.data.partition import groups_of
from polymodal.data.store.items import PreparedInput
from polymodal.data.store.writer import PreparedWriter
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.cell_kinds import CellKind, cell_kind
from polymodal.data.table.table import Table
from polymodal.modalities.base import Modality
from polymodal.modalities.media import MediaModality
from polymodal.preparation.feature_cache import FeatureItems
from polymodal.preparation.saved_state import SavedPreparation
from polymodal.preparation.training_root import TrainingRoot
from polymodal.recipe.recipe import Recipe
from polymodal.tasks.base import Task
from polymodal.tasks.text_targets import mask_targets, pad

BLOCK_ROWS = 4096
#: Maximum bytes of prepared items in one block of more than `MIN_BLOCK_ROWS` rows.
MAX_BLOCK_BYTES = 256 * 2**20
MIN_BLOCK_ROWS = 16

Advance = Callable[[int], None]


@dataclass(frozen=True)
class PreparedTable:
    """All rows of one table, prepared: inputs, targets `(value, present)` by output, and sample weights.

    prompts: the prompt of each row (None if unusable) by output, for outputs with prompts
    data_set: `[rows]`, the index of the data set of each row; None for a single data set
    groups: `[rows]`, the index of the group (`data.split.group_column`) of each row; None without groups
    unusable_targets: by output, `[rows]` bool: rows whose target cell cannot be used, in contrast to empty cells
    row_groups: the row groups of items that are read when a batch needs them; None if all items are at hand
    """

    inputs: dict[str, PreparedInput]
    targets: dict[str, tuple[np.ndarray, np.ndarray]]
    weight: np.ndarray | None
    rows: int
    prompts: dict[str, np.ndarray] = field(default_factory=dict)
    data_set: np.ndarray | None = None
    groups: np.ndarray | None = None
    unusable_targets: dict[str, np.ndarray] = field(default_factory=dict)
    row_groups: RowGroups | None = None

    def __len__(self) -> int:
        return self.rows

    def select_inputs(self, names: list[str]) -> PreparedTable:
        """The same rows and targets with only the inputs `names`."""
        return replace(self, inputs={name: self.inputs[name] for name in names})


@dataclass(frozen=True)
class ItemCorruption:
    """A corruption of the items of one input, applied when a batch is made; see `Modality.corrupt`."""

    input: str
    kind: str
    strength: float
    generator: np.random.Generator


class Preparation:
    """The modalities and tasks of a complete recipe. `fit` uses only training rows; `prepare` accepts any rows.

    training_root: the root of media paths in training; None without media inputs or a root
    column_kinds: the kind of each column in the training table. Every other table is read with these kinds, so that a
        cell means the same in every file
    """

    def __init__(self, recipe: Recipe, training_root: TrainingRoot | None = None) -> None:
        self.recipe, self.training_root = recipe, training_root
        self.column_kinds: dict[str, CellKind] = {}
        self.modalities: dict[str, Modality] = {
            name: build("modality", spec.modality, f"inputs.{name}", columns=spec.columns)
            for name, spec in recipe.inputs.items()
        }
        self.tasks: dict[str, Task] = {
            name: build("task", spec.task, f"outputs.{name}", columns=spec.columns)
            for name, spec in recipe.outputs.items()
        }

    @property
    def input_columns(self) -> list[str]:
        """The columns that prediction needs: those of the inputs and of the prompts of text outputs."""
        read = [column for modality in self.modalities.values() for column in modality.columns]
        return _unique([*read, *(column for task in self.tasks.values() for column in task.prompt_columns)])

    @property
    def modality_of_column(self) -> dict[str, Modality]:
        """The modality that reads each column of an input; the first one if several inputs share a column."""
        found: dict[str, Modality] = {}
        for modality in self.modalities.values():
            for column in modality.columns:
                found.setdefault(column, modality)
        return found

    @property
    def target_columns(self) -> list[str]:
        """The columns of the targets."""
        return _unique(column for task in self.tasks.values() for column in task.columns)

    @property
    def max_block_rows(self) -> int:
        """The maximum number of rows of a block: `MAX_BLOCK_BYTES` of items of maximum size."""
        row = sum(modality.row_bytes() for modality in self.modalities.values())
        return int(np.clip(MAX_BLOCK_BYTES / max(row, 1.0), MIN_BLOCK_ROWS, BLOCK_ROWS))

    def fit(
        self,
        table: Table,
        rows: np.ndarray,
        *,
        input_rows: np.ndarray | None = None,
        cache: Path | None = None,
        known: Collection[str] = (),
    ) -> None:
        """Fit vocabularies and statistics on `rows` of `table`, block by block. Decoded media are stored in `cache`.

        input_rows: the rows to which the inputs are fitted; default: `rows`
        known: inputs whose modality is already fitted

        Unusable cells are not recorded here, because `prepare` reads and records the same cells.
        """
        self._set_column_kinds(table)
        if any(isinstance(modality, MediaModality) for modality in self.modalities.values()):
            self.training_root = TrainingRoot.of(table)
        some = rows if input_rows is None else input_rows
        for name, modality in self.modalities.items():
            if name in known:
                continue
            try:
                modality.fit(self._blocks(table, some, modality.columns, CellErrors(), cache))
            except RecipeError as error:
                raise error.with_prefix(f"inputs.{name}.modality") from None
        for name, task in self.tasks.items():
            try:
                columns = _unique([*task.columns, *task.prompt_columns])
                task.fit(self._blocks(table, rows, columns, CellErrors(), None))
            except RecipeError as error:
                raise error.with_prefix(f"outputs.{name}.task") from None

    def _set_column_kinds(self, table: Table) -> None:
        """Keep the column kinds of the training table. Columns of inputs that are already fitted keep theirs."""
        split = self.recipe.data.split
        others = [self.recipe.data.weight_column, split.group_column, split.column]
        for column in _unique([*self.input_columns, *self.target_columns, *filter(None, others)]):
            if column in table.columns and column not in self.column_kinds:
                self.column_kinds[column] = cell_kind(table.column_type(column))

    def prepare(
        self,
        table: Table,
        cell_errors: CellErrors,
        *,
        folder: Path | None,
        cache: Path | None,
        advance: Advance | None = None,
    ) -> PreparedTable:
        """Prepare every row of `table` for training or scoring, block by block.

        folder: folder of memory-mapped files with the prepared items; None keeps the items in memory
        cache: folder of decoded media, shared by all runs; None disables the cache
        advance: called with the number of rows processed since the last call

        Raises:
            DataError: a column is missing, a sample weight is unusable, or (strict) a cell is unusable.
        """
        writers = {
            name: PreparedWriter(folder / f"input{index}" if folder else None)
            for index, name in enumerate(self.modalities)
        }
        targets: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in self.tasks}
        prompts: dict[str, list[np.ndarray]] = {}
        weights: list[np.ndarray] = []
        unusable: dict[str, list[np.ndarray]] = {name: [] for name in self.tasks}
        for block in self.blocks(table, cell_errors, cache=cache, targets=True):
            part = self.prepare_block(block, targets=True)
            for name, prepared in part.inputs.items():
                writers[name].append(prepared)
            for name, pair in part.targets.items():
                targets[name].append(pair)
                unusable[name].append(part.unusable_targets[name])
            for name, found in part.prompts.items():
                prompts.setdefault(name, []).append(found)
            if part.weight is not None:
                weights.append(part.weight)
            if advance:
                advance(len(block))
        return PreparedTable(
            inputs={name: writer.finish() for name, writer in writers.items()},
            targets={
                name: (
                    np.concatenate([value for value, _ in parts]),
                    np.concatenate([known for _, known in parts]),
                )
                for name, parts in targets.items()
            },
            weight=np.concatenate(weights) if weights else None,
            rows=len(table),
            prompts={name: np.concatenate(parts) for name, parts in prompts.items()},
            data_set=table.data_set,
            groups=groups_of(self.recipe, table.read_with(self.column_kinds)),
            unusable_targets={name: np.concatenate(parts) for name, parts in unusable.items()},
        )

    def blocks(
        self,
        table: Table,
        cell_errors: CellErrors,
        *,
        rows: np.ndarray | None = None,
        cache: Path | None = None,
        targets: bool = False,
        size: int = BLOCK_ROWS,
    ) -> Iterator[RowBlock]:
        """Rows of `table` in blocks with the columns of the inputs, and optionally of targets and sample weights.

        rows: row numbers `[n]`; default: all
        size: maximum number of rows of a block; smaller for large items
        """
        columns = self.input_columns
        if targets:
            columns = _unique([*columns, *self.target_columns, *filter(None, [self.recipe.data.weight_column])])
        chosen = np.arange(len(table)) if rows is None else rows
        return self._blocks(table, chosen, columns, cell_errors, cache, size)

    def prepare_block(self, block: RowBlock, *, targets: bool = False) -> PreparedTable:
        """Prepare one block in memory."""
        weight = self.recipe.data.weight_column if targets else None
        inputs = {name: modality.prepare(block) for name, modality in self.modalities.items()}
        prompts = {name: found for name, task in self.tasks.items() if (found := task.prompts(block)) is not None}
        prepared, unusable = {}, {}
        for name, task in self.tasks.items() if targets else ():
            before = len(block.errors.errors)
            prepared[name] = task.prepare(block)
            wrong = [error.row for error in block.errors.errors[before:]]
            unusable[name] = np.isin(block.rows, wrong)
        for name, found in prompts.items():
            if (
                name in prepared and self.tasks[name].is_generative
            ):  # the target of an unusable prompt is excluded from the loss
                value, present = prepared[name]
                prepared[name] = (mask_targets(value, np.array([one is None for one in found], dtype=bool)), present)
        weights = _sample_weights(block, weight) if weight else None
        return PreparedTable(inputs, prepared, weights, len(block), prompts, unusable_targets=unusable)

    def batch(
        self,
        prepared: PreparedTable,
        rows: np.ndarray,
        *,
        augment: bool = False,
        corruption: ItemCorruption | None = None,
    ) -> Batch:
        """The batch of `rows` of a prepared table, or of its cached features. A shared item is included once."""
        inputs = {}
        for name, modality in self.modalities.items():
            source = prepared.inputs[name]
            items = source.index[rows]
            present = items >= 0
            distinct, index = _distinct(items, present)
            if isinstance(source.items, FeatureItems):
                data = source.items.tensors(distinct, augment=augment)
            else:
                taken = source.items.take(distinct)
                if corruption is not None and corruption.input == name and len(distinct):
                    taken = modality.corrupt(taken, corruption.kind, corruption.strength, corruption.generator)
                data = modality.collate(taken)
                if augment:
                    data = modality.augment(data)
            inputs[name] = InputBatch(data, torch.from_numpy(index), torch.from_numpy(present))
        targets = {
            name: TargetBatch(self.tasks[name].collate(value[rows]), torch.from_numpy(known[rows]))
            for name, (value, known) in prepared.targets.items()
        }
        prompts = {name: pad(value[rows]) for name, value in prepared.prompts.items()}
        weight = None if prepared.weight is None else torch.from_numpy(prepared.weight[rows])
        return Batch(inputs, targets, torch.from_numpy(np.asarray(rows)), weight, prompts)

    def for_recipe(self, recipe: Recipe) -> Preparation:
        """This preparation for a recipe with some of its inputs. Fitted modalities and tasks are shared."""
        some = Preparation(recipe, self.training_root)
        some.modalities, some.tasks = {name: self.modalities[name] for name in recipe.inputs}, self.tasks
        some.column_kinds = self.column_kinds
        return some

    def inputs_only(self, names: list[str]) -> Preparation:
        """This preparation with only the inputs `names` and without targets. Fitted modalities are shared."""
        recipe = self.recipe.with_inputs(names).model_copy(update={"outputs": {}})
        bare = Preparation(recipe, self.training_root)
        bare.modalities = {name: self.modalities[name] for name in names}
        bare.column_kinds = self.column_kinds
        return bare

    def targets_only(self) -> Preparation:
        """This preparation without inputs, for targets and sample weights. Fitted tasks are shared."""
        bare = Preparation(self.recipe.model_copy(update={"inputs": {}}))
        bare.tasks = self.tasks
        bare.column_kinds = self.column_kinds
        return bare

    def shapes(self) -> dict[str, dict[str, Any]]:
        """The shape of each input, the arguments of its encoder."""
        return {name: modality.shape() for name, modality in self.modalities.items()}

    def save(self, folder: Path) -> dict[str, Any]:
        """Write tokenizer files into `folder`; return the remaining state, JSON-ready."""
        inputs = {}
        for i, (name, modality) in enumerate(self.modalities.items()):
            subfolder = folder / f"input{i}"
            subfolder.mkdir(parents=True, exist_ok=True)
            inputs[name] = modality.save(subfolder)
            if not any(subfolder.iterdir()):
                subfolder.rmdir()
        for i, task in enumerate(self.tasks.values()):
            subfolder = folder / f"output{i}"
            subfolder.mkdir(parents=True, exist_ok=True)
            task.write_files(subfolder)
            if not any(subfolder.iterdir()):
                subfolder.rmdir()
        tasks = {name: task.save() for name, task in self.tasks.items()}
        root = {} if self.training_root is None else {"root": asdict(self.training_root)}
        return {"columns": self.column_kinds, "inputs": inputs, "outputs": tasks, **root}

    def load(self, folder: Path) -> None:
        """Restore the state in a model directory.

        Raises:
            ArtifactError: a file does not hold what was saved.
        """
        saved = SavedPreparation(folder)
        self.column_kinds = dict(saved.state.columns)
        root = saved.state.root
        self.training_root = None if root is None else TrainingRoot.from_dict(root)
        for i, (name, modality) in enumerate(self.modalities.items()):
            saved.load_modality(modality, name, i)
        for i, (name, task) in enumerate(self.tasks.items()):
            saved.load_task(task, name, i)

    def _blocks(
        self,
        table: Table,
        rows: np.ndarray,
        columns: list[str],
        cell_errors: CellErrors,
        cache: Path | None,
        size: int = BLOCK_ROWS,
    ) -> Iterator[RowBlock]:
        limits = self.recipe.data.limits
        size = min(size, self.max_block_rows)
        advice = "" if self.training_root is None else self.training_root.advice(table)
        table = table.read_with(self.column_kinds)
        for block in table.blocks(rows, columns, errors=cell_errors, limits=limits, cache=cache, size=size):
            yield replace(block, root_advice=advice) if advice else block


def _distinct(items: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sorted distinct items of some rows, and the position of each row's item among them (0 if missing)."""
    if present.all():
        distinct, index = np.unique(items, return_inverse=True)
        return distinct, index.astype(np.int64, copy=False)
    index = np.zeros(len(items), np.int64)
    distinct, index[present] = np.unique(items[present], return_inverse=True)
    return distinct, index


def _sample_weights(block: RowBlock, column: str) -> np.ndarray:
    weights = np.empty(len(block), np.float32)
    for position, cell in enumerate(block.cells(column)):
        usable = isinstance(cell, int | float) and np.isfinite(cell) and cell >= 0
        if not usable:
            row = int(block.rows[position])
            raise DataError(f"a sample weight must be a number >= 0, not {cell!r}", row=row, column=column)
        weights[position] = cell
    return weights


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
