"""Conversion between predicted distributions and raw values of an output."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymodal.core.errors import DataError
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table
from polymodal.model.protocol import PredictsRows
from polymodal.recipe.data import LimitOptions
from polymodal.tasks.base import Task


def distributions(model: PredictsRows, table: Table, *, strict: bool = False) -> dict[str, np.ndarray]:
    """`predict_proba` of a model by output, also for a single output."""
    found = model.predict_proba(table, strict=strict)
    return found if isinstance(found, dict) else {next(iter(model.tasks)): found}


def unwrap_single_output(by_output: dict[str, Any]) -> Any:
    """The value of the only output; with several outputs, the dict itself."""
    return next(iter(by_output.values())) if len(by_output) == 1 else by_output


def to_raw_values(task: Task, distribution: np.ndarray) -> Tensor:
    """A distribution `[rows, k]` as raw values of the task, `[rows, k]` fp32: the inverse of `Task.distribution`.

    The values are log-probabilities, logits, or standardized numbers.

    Raises:
        DataError: the task cannot standardize a number.
    """
    if task.space == "categorical":
        return torch.from_numpy(np.log(np.maximum(distribution, np.finfo(np.float32).tiny))).float()
    if task.space == "binary":
        yes = np.maximum(distribution, np.finfo(np.float32).tiny)
        no = np.maximum(1 - distribution, np.finfo(np.float64).eps / 2)
        return torch.from_numpy(np.log(yes) - np.log(no)).float()
    if task.needs_positions:
        return task.raw_values(distribution)
    columns = {name: distribution[:, index].tolist() for index, name in enumerate(task.columns)}
    rows = np.arange(len(distribution))
    value, present = task.prepare(RowBlock(columns, rows, None, "predictions", CellErrors(), LimitOptions()))
    if not present.all():
        bad = distribution[~present][0].tolist()
        raise DataError(
            f"a member predicts {bad}, which is outside the range of the first member", column=task.columns[0]
        )
    return torch.from_numpy(value)
