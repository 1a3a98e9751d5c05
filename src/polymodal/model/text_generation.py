"""The texts that a model writes: of whole tables block by block, and of one row piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from polymodal.core.errors import DataError, RecipeError, did_you_mean
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table
from polymodal.generation.config import override_config
from polymodal.generation.output import GenerationOutput
from polymodal.generation.streaming import stream
from polymodal.inference.batching import PREDICTION_BATCH_SIZE
from polymodal.inference.predictor import Predictor
from polymodal.preparation.preparation import Preparation
from polymodal.tasks.generative import generative_task


def stream_texts(
    predictor: Predictor, table: Table, cell_errors: CellErrors, output: str | None, changes: dict[str, Any]
) -> Iterator[list[list[GenerationOutput]]]:
    """The texts of each row of `table`, block by block, as `Model.stream_texts`."""
    preparation = predictor.preparation
    name = text_output(preparation, output)
    task = generative_task(preparation.tasks, name)
    writing = override_config(task.writing, changes, f"outputs.{name}.task.writing")
    for block in preparation.blocks(table, cell_errors, size=PREDICTION_BATCH_SIZE):
        yield predictor.generate(preparation.prepare_block(block), name, writing, row_numbers=block.rows)


def stream_tokens(predictor: Predictor, table: Table, output: str | None, changes: dict[str, Any]) -> Iterator[str]:
    """The pieces of the text of the one row of `table`, as `Model.stream_tokens`."""
    preparation, network = predictor.preparation, predictor.network
    name = text_output(preparation, output)
    if len(table) != 1:
        raise DataError(f"one row is streamed at a time, and there are {len(table)}", file=table.name)
    task = generative_task(preparation.tasks, name)
    writing = override_config(task.writing, changes, f"outputs.{name}.task.writing")
    (block,) = preparation.blocks(table, CellErrors(strict=True))
    prepared = preparation.prepare_block(block)
    with predictor.running():
        batch = predictor.batch(prepared, np.arange(1))
        steps = writing.max_new_tokens or task.most
        draft = network.draft(name, network.views(batch), batch, steps)
        try:
            pieces = stream(draft, writing, task.codec, steps)
        except RecipeError as error:
            raise error.with_prefix(f"outputs.{name}.task.writing") from None
    return _computed(pieces, predictor)


def _computed(pieces: Iterator[str], predictor: Predictor) -> Iterator[str]:
    """The pieces, each computed in the predictor's way; between them, the caller computes in its own."""
    while True:
        with predictor.running():
            piece = next(pieces, None)
        if piece is None:
            return
        yield piece


def text_output(preparation: Preparation, output: str | None = None) -> str:
    """The name of the text output that is meant.

    Raises:
        RecipeError: there is none of that name, or, without a name, none or several.
    """
    writes = [name for name, task in preparation.tasks.items() if task.is_generative]
    if output is not None and output not in writes:
        raise RecipeError(f"outputs.{output}", f"the model writes no such text; {did_you_mean(output, writes)}")
    if output is None and len(writes) != 1:
        raise RecipeError("outputs", f"say which text to write: {', '.join(writes) or 'the model writes none'}")
    return output or writes[0]
