"""The pool: every row that may be suggested, as the model sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from polymodal.core.errors import DataError, RecipeError, nearest
from polymodal.core.types import Batch
from polymodal.data.partition import Split
from polymodal.data.table.block import Block
from polymodal.data.table.cell_errors import Faults
from polymodal.data.table.table import Table, filled
from polymodal.evaluation.class_alignment import aligned
from polymodal.inference.batching import PREDICTION_BATCH, batches, bounded
from polymodal.model.distributions import decision_values
from polymodal.model.ensemble import Ensemble
from polymodal.model.model import Model
from polymodal.tasks.base import Task


@dataclass(frozen=True)
class Pool:
    """Rows without a label that the model can read.

    rows: `[n]`, their numbers in the table
    vectors: `[n, width]`, the fused vector of each; of an ensemble those of its members side by side
    labelled: `[m, width]`, the vectors of the rows of the table that have a label
    task: what is decided; None where no output is asked about
    decided: `[n, k]`, the distribution of each row (None without a task)
    members: `[members, n, k]`, what each member of an ensemble decides: probabilities, or numbers in units of the
        training rows' standard deviation; None of a single model
    blank: rows that have no input at all
    """

    rows: np.ndarray
    vectors: np.ndarray
    labelled: np.ndarray
    task: Task | None
    decided: np.ndarray | None
    members: np.ndarray | None
    blank: int


@dataclass(frozen=True)
class Seen:
    """What one model makes of every row of a table: distributions `[rows, k]` by output, fused vectors
    `[rows, width]`, and whether the row has any input, `[rows]`."""

    decided: dict[str, np.ndarray]
    vectors: np.ndarray
    present: np.ndarray


def make_pool(model: Model | Ensemble, table: Table, faults: Faults, *, output: str | None, target: str | None) -> Pool:
    """Look at every row of `table`; rows with a label, a cell that cannot be used (in `faults`), or no input are out.

    output: the output that is asked about; None where the strategy asks about none
    target: the column that tells whether a row has a label; silent: those of the output, or of all outputs
    """
    known = labelled_rows(model, table, output, target)
    members = model.members if isinstance(model, Ensemble) else [model]
    before = len(faults.found)
    seen = [look(member, table, faults) for member in members]
    faults.found[before:] = dict.fromkeys(faults.found[before:])
    bad = np.zeros(len(table), dtype=bool)
    bad[[fault.row for fault in faults.found[before:]]] = True
    present = np.any([one.present for one in seen], axis=0)
    rows = np.flatnonzero(~known & ~bad & present)
    vectors = seen[0].vectors if len(seen) == 1 else np.concatenate([_scaled(one.vectors) for one in seen], axis=1)
    task = None if output is None else model.tasks[output]
    decided, each = None, None
    if task is not None and output is not None:
        decided = seen[0].decided[output][rows]
    if isinstance(model, Ensemble) and task is not None and output is not None:
        own = [
            {name: aligned(one.decided[name], member.tasks[name], of) for name, of in model.tasks.items()}
            for one, member in zip(seen, members, strict=True)
        ]
        decided = model.combine(own)[output][rows]
        numbers = [one[output] if task.space != "real" else decision_values(task, one[output]).numpy() for one in own]
        each = np.stack(numbers)[:, rows]
    blank = int((~known & ~bad & ~present).sum())
    return Pool(rows, vectors[rows], vectors[known & ~bad & present], task, decided, each, blank)


def labelled_rows(model: Model | Ensemble, table: Table, output: str | None, target: str | None) -> np.ndarray:
    """Which rows have a value in every target column, `[rows]` bool; none where the table lacks such a column.

    Raises:
        DataError: `target` is not a column of the table.
    """
    if target is not None and target not in table.columns:
        raise DataError(f"there is no such column; {nearest(target, table.columns)}", column=target, file=table.name)
    tasks = [task for name, task in model.tasks.items() if output in (None, name)]
    columns = [target] if target is not None else [column for task in tasks for column in task.columns]
    if not columns or not set(columns) <= set(table.columns):
        return np.zeros(len(table), dtype=bool)
    return np.asarray(np.all([filled(table, column, np.arange(len(table))) for column in columns], axis=0))


def asked_output(model: Model | Ensemble, output: str | None) -> str:
    """The output whose answers are asked about.

    Raises:
        RecipeError: there is none of this name, there are several to choose from, or it gives no distribution.
    """
    names = list(model.tasks)
    if output is None and len(names) != 1:
        problem = f"the model decides {', '.join(names)}; say which to ask about" if names else "the model decides none"
        raise RecipeError("output", problem)
    name = output or names[0]
    if name not in names:
        raise RecipeError("output", f"there is no output {name!r}; {nearest(name, names)}")
    if model.tasks[name].writes or model.tasks[name].grid is not None:
        kind = model.tasks[name].options.name
        raise RecipeError("output", f"{name!r} is of {kind}, of which rows are chosen by coreset or typical alone")
    return name


def look(model: Model, table: Table, faults: Faults) -> Seen:
    """Every row of `table` as `model` sees it, block by block; cells that cannot be used go to `faults`.

    Of a model without outputs, whose fusion learned nothing, the vectors are embeddings of the rows (`Model.embed`).
    """
    parts = [_seen(model, block) for block in model.preparation.blocks(table, faults, size=PREDICTION_BATCH)]
    decided = {name: np.concatenate([one.decided[name] for one in parts]) for name in parts[0].decided}
    vectors, present = (np.concatenate([getattr(one, name) for one in parts]) for name in ("vectors", "present"))
    return Seen(decided, vectors, present)


def _seen(model: Model, block: Block) -> Seen:
    prepared = model.preparation.prepare_block(block)
    split, predictor = Split.whole(prepared), model.predictor
    if not model.tasks:
        embedded = predictor.embed(split)["row"]
        return Seen({}, np.nan_to_num(embedded), np.isfinite(embedded).all(1))
    index = [source.index >= 0 for source in prepared.inputs.values()]
    present = np.any(index, axis=0) if index else np.ones(len(split), dtype=bool)
    visited = list(batches(split, bounded(PREDICTION_BATCH, prepared, model.network)))
    back = np.argsort(np.concatenate(visited), kind="stable")
    found = [_decided(model, predictor.batch(prepared, places)) for places in visited]
    decided = {name: np.concatenate([one[name] for one, _ in found])[back] for name in found[0][0]}
    return Seen(decided, np.concatenate([vectors for _, vectors in found])[back], present)


def _decided(model: Model, batch: Batch) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What is decided for a batch by output, and the views of its rows, weighted and side by side."""
    network, tasks = model.network, model.tasks
    with model.predictor.running():
        views = network.views(batch)
        outputs = network.decide(views, batch)
        vectors = torch.cat([view.pooled.float() * view.weight.float().unsqueeze(1) for view in views], dim=1)
    found = {
        name: tasks[name].distribution(one.values.float()) for name, one in outputs.items() if not tasks[name].writes
    }
    return found, vectors.cpu().numpy()


def _scaled(vectors: np.ndarray) -> np.ndarray:
    """Vectors with a mean squared length of 1, so that no member's count for more than another's."""
    return np.asarray(vectors / max(float(np.sqrt((vectors**2).sum(1).mean())), 1e-12))
