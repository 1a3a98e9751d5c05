"""Image generation of a model for whole tables, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table
from polymodal.generation.image_sampling import ImageSamplingConfig, override_sampling
from polymodal.inference.batching import PREDICTION_BATCH_SIZE
from polymodal.inference.predictor import Predictor
from polymodal.preparation.preparation import Preparation
from polymodal.tasks.image_generation import ImageGenerationTask


def stream_images(
    predictor: Predictor, table: Table, cell_errors: CellErrors, output: str | None, changes: dict[str, Any]
) -> Iterator[np.ndarray]:
    """The generated images `[rows, num_return_sequences, size, size, 3]` uint8 of `table`, block by block; see
    `Model.generate_images`."""
    preparation = predictor.preparation
    name, config = image_output(preparation, output), image_sampling(preparation, output, changes)
    for block in preparation.blocks(table, cell_errors, size=PREDICTION_BATCH_SIZE):
        prepared = preparation.prepare_block(block)
        yield predictor.generate_images(prepared, name, config, row_numbers=block.rows)


def image_sampling(preparation: Preparation, output: str | None, changes: dict[str, Any]) -> ImageSamplingConfig:
    """The configuration of generation of an image output, with `changes`.

    Raises:
        RecipeError: the output or an option does not exist, or the options are inconsistent.
    """
    name = image_output(preparation, output)
    task = preparation.tasks[name]
    assert isinstance(task, ImageGenerationTask)
    return override_sampling(task.options.generation, changes, f"outputs.{name}.task.generation")


def image_output(preparation: Preparation, output: str | None = None) -> str:
    """The name of the image output; default: the only one.

    Raises:
        RecipeError: there is no image output of this name, or, without a name, there are none or several.
    """
    names = [name for name, task in preparation.tasks.items() if task.space == "image"]
    if output is not None and output not in names:
        raise RecipeError(f"outputs.{output}", f"the model has no such image output; {did_you_mean(output, names)}")
    if output is None and len(names) != 1:
        raise RecipeError(
            "outputs", f"set `output` to one of the image outputs: {', '.join(names) or 'the model has none'}"
        )
    return output or names[0]
