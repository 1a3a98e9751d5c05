"""Text generation of a model: for whole tables block by block, and for one row token by token."""

from __future__ import annotations

from collections.abc import Generator, Iterator
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
    """The generated texts of each row of `table`, block by block; see `Model.stream_texts`."""
    preparation = predictor.preparation
    name = text_output(preparation, output)
    task = generative_task(preparation.tasks, name)
    config = override_config(task.generation_config, changes, f"outputs.{name}.task.generation")
    for block in preparation.blocks(table, cell_errors, size=PREDICTION_BATCH_SIZE):
        yield predictor.generate(preparation.prepare_block(block), name, config, row_numbers=block.rows)


def stream_tokens(
    predictor: Predictor, table: Table, output: str | None, changes: dict[str, Any]
) -> Generator[str, None, GenerationOutput]:
    """The generated text of the single row of `table`, token by token; see `Model.stream_tokens`."""
    preparation, network = predictor.preparation, predictor.network
    name = text_output(preparation, output)
    if len(table) != 1:
        raise DataError(f"streaming needs exactly one row, and the data has {len(table)}", file=table.name)
    task = generative_task(preparation.tasks, name)
    config = override_config(task.generation_config, changes, f"outputs.{name}.task.generation")
    (block,) = preparation.blocks(table, CellErrors(strict=True))
    prepared = preparation.prepare_block(block)
    with predictor.running():
        batch = predictor.batch(prepared, np.arange(1))
        steps = config.max_new_tokens or task.max_new_tokens
        state = network.init_state(name, network.encode_and_fuse(batch), batch, steps)
        try:
            chunks = stream(state, config, task.tokenizer, steps)
        except RecipeError as error:
            raise error.with_prefix(f"outputs.{name}.task.generation") from None
    return _run_with_settings(chunks, predictor)


def _run_with_settings(
    chunks: Generator[str, None, GenerationOutput], predictor: Predictor
) -> Generator[str, None, GenerationOutput]:
    """Compute each text chunk with the predictor's settings. Between chunks, the settings of the caller apply."""
    while True:
        with predictor.running():
            try:
                chunk = next(chunks)
            except StopIteration as end:
                output: GenerationOutput = end.value
                return output
        yield chunk


def text_output(preparation: Preparation, output: str | None = None) -> str:
    """The name of the text output; default: the only one.

    Raises:
        RecipeError: there is no text output of this name, or, without a name, there are none or several.
    """
    names = [name for name, task in preparation.tasks.items() if task.space == "text"]
    if output is not None and output not in names:
        raise RecipeError(f"outputs.{output}", f"the model has no such text output; {did_you_mean(output, names)}")
    if output is None and len(names) != 1:
        raise RecipeError(
            "outputs", f"set `output` to one of the text outputs: {', '.join(names) or 'the model has none'}"
        )
    return output or names[0]
