"""Embeddings of the rows of a table, by the predictor of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.data.partition import Split
from polymodal.data.table.cell_errors import CellErrors, warn_cell_errors
from polymodal.inference.predictor import Predictor
from polymodal.model.rows import open_rows
from polymodal.nn.layers.embedding_head import l2_normalize


def embed_rows(
    predictor: Predictor, data: Any, input: str | None, dim: int | None, root: Path | str | None, *, strict: bool
) -> np.ndarray:
    """The embedding of each row of `data`: float32 `[rows, dim]`. For arguments and errors, see `Model.embed`."""
    cell_errors = CellErrors(strict)
    vectors = embed_table(predictor, data, input, dim, root, cell_errors)
    warn_cell_errors(cell_errors.errors)
    return vectors


def embed_table(
    predictor: Predictor,
    data: Any,
    input: str | None,
    dim: int | None,
    root: Path | str | None,
    cell_errors: CellErrors,
) -> np.ndarray:
    """`embed_rows` that adds unusable cells to `cell_errors` and does not warn."""
    names = None if input is None else [input]
    inputs = predictor.preparation.recipe.inputs
    if input is not None and input not in inputs:
        raise RecipeError("input", f"unknown input {input!r}; {did_you_mean(input, inputs)}")
    if names is not None:
        predictor = predictor.for_inputs(names)
    preparation = predictor.preparation
    parts: list[np.ndarray] = []
    for block in preparation.blocks(
        open_rows(data, root, preparation.input_columns, preparation.modality_of_column), cell_errors
    ):
        parts += predictor.embed(Split.all_rows(preparation.prepare_block(block)), names).values()
    vectors = np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)
    if dim is None or not len(vectors):
        return vectors
    if not 1 <= dim <= vectors.shape[1]:
        raise RecipeError("dim", f"the embedding has {vectors.shape[1]} numbers, so dim cannot be {dim}")
    shorter: np.ndarray = l2_normalize(torch.from_numpy(vectors[:, :dim])).numpy()
    return shorter
