"""The texts that a model writes: of whole tables block by block, and of one row piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch

from polymodal.core.errors import DataError, RecipeError, nearest
from polymodal.data.table.cell_errors import Faults
from polymodal.data.table.table import Table
from polymodal.generation.config import changed_writing
from polymodal.generation.output import Written
from polymodal.generation.stream import stream
from polymodal.inference.inference import PREDICTION_BATCH, write_rows
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation
from polymodal.runtime.compute import Machine
from polymodal.tasks.generation import generation_task


class TextModel(Protocol):
    """What writing needs of a model: its network, what prepares rows for it, and how it is computed."""

    @property
    def network(self) -> Network: ...

    @property
    def preparation(self) -> Preparation: ...

    @property
    def machine(self) -> Machine: ...


def stream_texts(
    model: TextModel, table: Table, faults: Faults, output: str | None, changes: dict[str, Any]
) -> Iterator[list[list[Written]]]:
    """The texts of each row of `table`, block by block, as `Model.stream_texts`."""
    name = text_output(model.preparation, output)
    task = generation_task(model.preparation.tasks, name)
    writing = changed_writing(task.writing, changes, f"outputs.{name}.task.writing")
    for block in model.preparation.blocks(table, faults, size=PREDICTION_BATCH):
        prepared = model.preparation.prepare_block(block)
        yield write_rows(
            model.network, model.preparation, name, prepared, writing, machine=model.machine, numbers=block.rows
        )


def stream_tokens(model: TextModel, table: Table, output: str | None, changes: dict[str, Any]) -> Iterator[str]:
    """The pieces of the text of the one row of `table`, as `Model.stream_tokens`."""
    name = text_output(model.preparation, output)
    if len(table) != 1:
        raise DataError(f"one row is streamed at a time, and there are {len(table)}", file=table.name)
    task = generation_task(model.preparation.tasks, name)
    writing = changed_writing(task.writing, changes, f"outputs.{name}.task.writing")
    (block,) = model.preparation.blocks(table, Faults(strict=True))
    prepared = model.preparation.prepare_block(block)
    with torch.inference_mode(), model.machine.active():
        model.network.eval()
        batch = model.preparation.batch(prepared, np.arange(1))
        steps = writing.max_tokens or task.most
        draft = model.network.draft(name, model.network.views(batch), batch, steps)
        try:
            pieces = stream(draft, writing, task.codec, steps)
        except RecipeError as error:
            raise error.under(f"outputs.{name}.task.writing") from None
    return _computed(pieces, model.machine)


def _computed(pieces: Iterator[str], machine: Machine) -> Iterator[str]:
    """The pieces, each computed as `machine` says; between them, the caller computes in its own way."""
    while True:
        with torch.inference_mode(), machine.active():
            piece = next(pieces, None)
        if piece is None:
            return
        yield piece


def text_output(preparation: Preparation, output: str | None = None) -> str:
    """The name of the text output that is meant.

    Raises:
        RecipeError: there is none of that name, or, without a name, none or several.
    """
    writes = [name for name, task in preparation.tasks.items() if task.writes]
    if output is not None and output not in writes:
        raise RecipeError(f"outputs.{output}", f"the model writes no such text; {nearest(output, writes)}")
    if output is None and len(writes) != 1:
        raise RecipeError("outputs", f"say which text to write: {', '.join(writes) or 'the model writes none'}")
    return output or writes[0]
