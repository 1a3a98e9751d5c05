"""Slices and drift of the rows of tables, by the predictor of a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix

from polymodal.core.errors import DataError, RecipeError, did_you_mean
from polymodal.data.partition import Split
from polymodal.data.table.cell_errors import CellErrors, warn_cell_errors
from polymodal.data.table.table import Table
from polymodal.diagnosis.drift import Drift, drift_tests
from polymodal.diagnosis.slice_candidates import SliceCandidate, cluster_candidates, column_candidates
from polymodal.diagnosis.slices import Slices, find_slices
from polymodal.evaluation.targets import OutputTargets
from polymodal.features.feature_table import FeatureBlock
from polymodal.inference.batching import PREDICTION_BATCH_SIZE
from polymodal.inference.ensemble_predictor import EnsemblePredictor, PredictsSplits
from polymodal.inference.predictor import Predictor
from polymodal.preparation.preparation import PreparedTable
from polymodal.tasks.base import Task
from polymodal.uncertainty.calibration_rows import is_calibrated

#: Clusters of the embedding.
CLUSTERS = 10
#: Columns to which sparse features are projected for a classifier.
PROJECTED = 32


def row_losses(task: Task, distribution: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, str]:
    """The loss of each row `[rows]`, and what it is: whether the class is wrong, the fraction of wrong labels, or the
    absolute error, of several columns in standard deviations of the truth.

    truth: `[rows, ...]`, from `Task.truth`
    """
    if task.space == "categorical":
        return (distribution.argmax(axis=1) != truth).astype(np.float64), "fraction wrong"
    if task.space == "binary":
        wrong = (distribution >= task.threshold) != (truth > 0)
        return np.asarray(wrong.mean(axis=1)), "fraction of labels wrong"
    error = np.abs(distribution - truth)
    if error.shape[1] == 1:
        return error[:, 0], "absolute error"
    return np.asarray(
        (error / np.maximum(truth.std(axis=0), 1e-12)).mean(axis=1)
    ), "absolute error in standard deviations"


def table_candidates(table: Table, columns: Sequence[str], rows: np.ndarray) -> Iterator[SliceCandidate]:
    """The candidates of columns of a table, in `rows`."""
    for column in columns:
        yield from column_candidates(column, table_cells(table, column, rows))


def table_slices(
    predictor: PredictsSplits, table: Table, output: str, columns: Sequence[str] | None, strict: bool
) -> Slices:
    """The slices of `Model.slices`."""
    preparation = predictor.preparation
    task = preparation.tasks[output]
    if not is_calibrated(task):
        raise RecipeError("output", f"{output!r} predicts no class, label or number; only these have slices")
    for column in columns or ():
        if column not in table.columns:
            raise RecipeError("columns", f"there is no column {column!r}; {did_you_mean(column, table.columns)}")
    named = columns if columns is not None else [one for one in table.columns if one not in preparation.target_columns]
    cell_errors = CellErrors(strict)
    losses, rows, vectors, unit = [], [], [], ""
    for block in preparation.blocks(table, cell_errors, size=PREDICTION_BATCH_SIZE, targets=True):
        split = Split.all_rows(preparation.prepare_block(block, targets=True))
        targets = OutputTargets.of(split, output)
        distribution, truth, _ = targets.arrays(task, task.distribution(predictor.predict(split)[output].values))
        loss, unit = row_losses(task, distribution, truth)
        scored = targets.scored(task)
        losses.append(loss)
        rows.append(block.rows[scored])
        if isinstance(predictor, Predictor):
            vectors.append(predictor.embed(split)["row"][scored])
    warn_cell_errors(cell_errors.errors)
    known = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    if not len(known):
        raise DataError(f"no row has a usable target of the output {output!r}", file=table.name)

    def candidates() -> Iterator[SliceCandidate]:
        yield from table_candidates(table, named, known)
        if vectors and columns is None and len(known) > CLUSTERS:
            yield from cluster_candidates(np.concatenate(vectors), CLUSTERS, preparation.recipe.seed)

    return find_slices(np.concatenate(losses), candidates(), output=output, unit=unit, seed=preparation.recipe.seed)


def table_drift(predictor: PredictsSplits, reference: Table, table: Table, strict: bool) -> Drift:
    """The tests of `Model.drift`."""
    preparation = predictor.preparation
    both = reference, table
    cells, features = {}, {}
    for column in preparation.input_columns:
        first, second = (
            table_cells(one.read_with(preparation.column_kinds), column, np.arange(len(one))) for one in both
        )
        name = preparation.modality_of_column[column].options.name
        if name not in ("number", "category", "datetime"):
            first, second = ([None if cell is None else b"" for cell in side] for side in (first, second))
        cells[column] = first, second
    before, after = (table_features(predictor, one, strict) for one in both)
    for name in preparation.modalities:
        if name in before and preparation.modalities[name].options.name not in ("number", "category"):
            features[name] = before[name], after[name]
    joint = [np.concatenate(list(side.values()), axis=1) for side in (before, after)]
    features["all inputs"] = joint[0], joint[1]
    return drift_tests(cells, features, preparation.recipe.seed)


def table_features(predictor: PredictsSplits, table: Table, strict: bool) -> dict[str, np.ndarray]:
    """The features of each input, `[rows, columns]`, NaN if missing: of the estimators, or embeddings of a network."""
    preparation, cell_errors = predictor.preparation, CellErrors(strict)
    parts: dict[str, list[np.ndarray]] = {}
    for block in preparation.blocks(table, cell_errors, size=PREDICTION_BATCH_SIZE):
        split = Split.all_rows(preparation.prepare_block(block))
        for name, values in _features(predictor, split).items():
            parts.setdefault(name, []).append(values)
    warn_cell_errors(cell_errors.errors)
    return {name: np.concatenate(some) for name, some in parts.items()}


def _features(predictor: PredictsSplits, split: Split[PreparedTable]) -> dict[str, np.ndarray]:
    if isinstance(predictor, EnsemblePredictor) and not predictor.predictors:
        found = predictor.features(split)
        return {
            name: np.concatenate([_dense(block) for block in blocks], axis=1)
            for name, blocks in found.blocks.items()
            if blocks
        }
    network = predictor.predictors[0] if isinstance(predictor, EnsemblePredictor) else predictor
    assert isinstance(network, Predictor), "a predictor is of a network or of members"
    return network.embed(split, list(network.preparation.modalities))


def _dense(block: FeatureBlock) -> np.ndarray:
    """A block as dense numbers; sparse columns by a fixed random projection."""
    if isinstance(block.values, csr_matrix):
        draw = np.random.default_rng(0)
        return np.asarray(block.values @ draw.normal(size=(block.values.shape[1], PROJECTED)))
    values = block.values.astype(np.float64)
    return np.where(values < 0, np.nan, values) if block.kind == "category" else values


def table_cells(table: Table, column: str, rows: np.ndarray) -> list[Any]:
    """The cells of a column in `rows [n]` as Python values."""
    found = table.values(column, rows)
    return found.to_pylist() if isinstance(found, pa.ChunkedArray) else list(found)
