"""From rows to batches: every input's modality and every output's task, fitted once on training rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polymodal.core.errors import DataError, RecipeError
from polymodal.core.registry import build
from polymodal.core.types import Batch, InputBatch, TargetBatch
from polymodal.data.partition import groups_of
from polymodal.data.store.items import PreparedInput
from polymodal.data.store.writer import PreparedWriter
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table
from polymodal.modalities.base import Modality
from polymodal.preparation.feature_cache import FeatureItems
from polymodal.recipe.recipe import Recipe
from polymodal.tasks.text_targets import pad, mask_targets
from polymodal.tasks.base import Task

BLOCK_ROWS = 4096
#: Bytes of prepared items that one block may come to, unless its fewest rows do already.
MAX_BLOCK_BYTES = 256 * 2**20
MIN_BLOCK_ROWS = 16

Advance = Callable[[int], None]


@dataclass(frozen=True)
class PreparedTable:
    """All rows of one table, prepared: inputs, targets `(value, present)` by output, and sample weights.

    prompts: by output, the prompt of each row (None where it cannot be used), for outputs that have prompts
    data_set: `[rows]`, the number of the data set that each row is of, where the table is made of several
    groups: `[rows]`, the number of the group (`data.split.group`) that each row is of, where rows are grouped
    """

    inputs: dict[str, PreparedInput]
    targets: dict[str, tuple[np.ndarray, np.ndarray]]
    weight: np.ndarray | None
    rows: int
    prompts: dict[str, np.ndarray] = field(default_factory=dict)
    data_set: np.ndarray | None = None
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return self.rows

    def only(self, names: list[str]) -> PreparedTable:
        """The same rows and targets with some of the inputs."""
        return replace(self, inputs={name: self.inputs[name] for name in names})


@dataclass(frozen=True)
class ItemCorruption:
    """One input's items damaged as a batch is made, for tests of robustness: see `Modality.corrupt`."""

    input: str
    kind: str
    strength: float
    generator: np.random.Generator


class Preparation:
    """The modalities and tasks of a complete recipe. `fit` sees training rows only; `prepare` takes any rows."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
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
        """The columns that prediction reads: of the inputs, and of the prompts of texts that are written."""
        read = [column for modality in self.modalities.values() for column in modality.columns]
        return _unique([*read, *(column for task in self.tasks.values() for column in task.prompt_columns)])

    @property
    def target_columns(self) -> list[str]:
        return _unique(column for task in self.tasks.values() for column in task.columns)

    @property
    def max_block_rows(self) -> int:
        """The most rows that are prepared at once: `BLOCK_BYTES` of items, as large as they can get."""
        row = sum(modality.row_bytes() for modality in self.modalities.values())
        return int(np.clip(MAX_BLOCK_BYTES / max(row, 1.0), MIN_BLOCK_ROWS, BLOCK_ROWS))

    def fit(self, table: Table, rows: np.ndarray, *, cache: Path | None = None, known: Collection[str] = ()) -> None:
        """Learn vocabularies and statistics from `rows` of `table`, block by block; media are decoded into `cache`.

        known: inputs whose modality has learned already, from other rows

        Faults met here are not recorded (the same cells are met again, and recorded, in `prepare`).
        """
        for modality in (one for name, one in self.modalities.items() if name not in known):
            modality.fit(self._blocks(table, rows, modality.columns, CellErrors(), cache))
        for name, task in self.tasks.items():
            try:
                columns = _unique([*task.columns, *task.prompt_columns])
                task.fit(self._blocks(table, rows, columns, CellErrors(), None))
            except RecipeError as error:
                raise error.with_prefix(f"outputs.{name}.task") from None

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

        folder: where prepared items are written and memory-mapped; None keeps them in memory
        cache: where decoded media are kept, by content, for this and other runs; None keeps none
        advance: called with the number of rows done since the last call

        Raises:
            DataError: a column is missing, a sample weight is unusable, or (strict) a cell is.
        """
        writers = {
            name: PreparedWriter(folder / f"input{place}" if folder else None)
            for place, name in enumerate(self.modalities)
        }
        targets: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in self.tasks}
        prompts: dict[str, list[np.ndarray]] = {}
        weights: list[np.ndarray] = []
        for block in self.blocks(table, cell_errors, cache=cache, targets=True):
            one = self.prepare_block(block, targets=True)
            for name, prepared in one.inputs.items():
                writers[name].append(prepared)
            for name, pair in one.targets.items():
                targets[name].append(pair)
            for name, found in one.prompts.items():
                prompts.setdefault(name, []).append(found)
            if one.weight is not None:
                weights.append(one.weight)
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
            groups=groups_of(self.recipe, table),
        )

    def blocks(
        self,
        table: Table,
        cell_errors: CellErrors,
        *,
        cache: Path | None = None,
        targets: bool = False,
        size: int = BLOCK_ROWS,
    ) -> Iterator[RowBlock]:
        """All rows of `table` in blocks that hold the columns of the inputs, and of targets and weights if asked.

        size: the most rows of a block; there are fewer where items are so large that a block would outgrow memory
        """
        columns = self.input_columns
        if targets:
            columns = _unique([*columns, *self.target_columns, *filter(None, [self.recipe.data.weight_column])])
        return self._blocks(table, np.arange(len(table)), columns, cell_errors, cache, size)

    def prepare_block(self, block: RowBlock, *, targets: bool = False) -> PreparedTable:
        """One block prepared by itself, in memory."""
        weight = self.recipe.data.weight_column if targets else None
        inputs = {name: modality.prepare(block) for name, modality in self.modalities.items()}
        prompts = {name: found for name, task in self.tasks.items() if (found := task.prompts(block)) is not None}
        prepared = {name: task.prepare(block) for name, task in self.tasks.items()} if targets else {}
        for name, found in prompts.items():
            if name in prepared:  # an answer to a prompt that cannot be used is not learned
                value, present = prepared[name]
                prepared[name] = (mask_targets(value, np.array([one is None for one in found], dtype=bool)), present)
        weights = _sample_weights(block, weight) if weight else None
        return PreparedTable(inputs, prepared, weights, len(block), prompts)

    def batch(
        self, prepared: PreparedTable, rows: np.ndarray, *, augment: bool = False, corruption: ItemCorruption | None = None
    ) -> Batch:
        """The batch of `rows` of a prepared table, or of its features. Rows that share an item hold it once."""
        inputs = {}
        for name, modality in self.modalities.items():
            source = prepared.inputs[name]
            items = source.index[rows]
            present = items >= 0
            distinct, index = _distinct(items, present)
            if isinstance(source.items, FeatureItems):
                data = source.items.tensors(distinct, changed=augment)
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

    def only(self, recipe: Recipe) -> Preparation:
        """This preparation for a recipe with some of its inputs; what was fitted is shared."""
        some = Preparation(recipe)
        some.modalities, some.tasks = {name: self.modalities[name] for name in recipe.inputs}, self.tasks
        return some

    def inputs_only(self, names: list[str]) -> Preparation:
        """This preparation for some of its inputs and without targets. What was fitted is shared."""
        bare = Preparation(self.recipe.only(names).model_copy(update={"outputs": {}}))
        bare.modalities = {name: self.modalities[name] for name in names}
        return bare

    def targets_only(self) -> Preparation:
        """This preparation without inputs: it prepares targets and weights alone. What was fitted is shared."""
        bare = Preparation(self.recipe.model_copy(update={"inputs": {}}))
        bare.tasks = self.tasks
        return bare

    def shapes(self) -> dict[str, dict[str, Any]]:
        return {name: modality.shape() for name, modality in self.modalities.items()}

    def save(self, folder: Path) -> dict[str, Any]:
        """Write tokenizers and the like into `folder`; return the rest, JSON-ready."""
        inputs = {}
        for i, (name, modality) in enumerate(self.modalities.items()):
            place = folder / f"input{i}"
            place.mkdir(parents=True, exist_ok=True)
            inputs[name] = modality.save(place)
            if not any(place.iterdir()):
                place.rmdir()
        for i, task in enumerate(self.tasks.values()):
            place = folder / f"output{i}"
            place.mkdir(parents=True, exist_ok=True)
            task.write_files(place)
            if not any(place.iterdir()):
                place.rmdir()
        return {"inputs": inputs, "outputs": {name: task.save() for name, task in self.tasks.items()}}

    def load(self, folder: Path, state: dict[str, Any]) -> None:
        """Take back what `save` wrote."""
        for i, (name, modality) in enumerate(self.modalities.items()):
            modality.load(folder / f"input{i}", state["inputs"][name])
        for i, (name, task) in enumerate(self.tasks.items()):
            task.read_files(folder / f"output{i}")
            task.load(state["outputs"][name])

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
        return table.blocks(rows, columns, faults=cell_errors, limits=limits, cache=cache, size=size)


def _distinct(items: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct items of some rows, sorted, and each row's place among them (0 where missing)."""
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
            raise DataError(f"a sample weight must be a number of 0 or more, not {cell!r}", row=row, column=column)
        weights[position] = cell
    return weights


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
