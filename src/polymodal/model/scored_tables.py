"""Scores and robustness of a model on the rows of a table with targets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from polymodal.checkpoint.int8 import Int8Linear
from polymodal.core.paths import media_cache_folder, scratch_folder
from polymodal.core.progress import Progress
from polymodal.data.partition import Split
from polymodal.data.store.items import PreparedInput
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors, warn_cell_errors
from polymodal.data.table.table import Table
from polymodal.evaluation.evaluate import evaluate
from polymodal.evaluation.feature_importance import FeatureImportance, feature_importance
from polymodal.evaluation.objective_scores import score_objectives
from polymodal.evaluation.robustness import Robustness, count_passes, measure_robustness
from polymodal.evaluation.targets import add_to_scores, check_targets
from polymodal.evaluation.training_rows import warn_training_rows
from polymodal.inference.ensemble_predictor import PredictsSplits
from polymodal.inference.predictor import Predictor
from polymodal.model.run_record import RunRecord
from polymodal.preparation.feature_cache import FeatureCache
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.recipe.recipe import Recipe


def evaluate_table(
    predictor: PredictsSplits, recipe: Recipe, run: RunRecord, table: Table, strict: bool
) -> dict[str, Any]:
    """The scores of `Model.evaluate`; `run` is the record of the model's training."""
    options = recipe.evaluation
    if options.unimodal_scores == "train":  # no training rows here, so the other inputs are hidden
        options = options.model_copy(update={"unimodal_scores": "mask"})
    trained = count_training_rows(run, predictor.preparation, table)
    warn_training_rows(trained, len(table), table.name)
    with _prepared(predictor.preparation, table, strict) as raw:
        split = with_features(predictor, raw, recipe)
        scores, _ = evaluate(predictor, split, options, seed=recipe.seed)
        if isinstance(predictor, Predictor):
            scores |= score_objectives(predictor, split, recipe)
        return add_to_scores(scores, training_rows=trained)


def measure_table_robustness(
    predictor: PredictsSplits, recipe: Recipe, table: Table, strict: bool, progress: bool
) -> dict[str, Robustness]:
    """The robustness of `Model.robustness`."""
    preparation = predictor.preparation
    with (
        _prepared(preparation, table, strict) as raw,
        Progress(progress).task("remove and corrupt inputs", count_passes(preparation)) as advance,
    ):
        split = with_features(predictor, raw, recipe)
        return measure_robustness(predictor, split, recipe.evaluation, seed=recipe.seed, raw=raw, advance=advance)


def measure_feature_importance(
    predictor: PredictsSplits, recipe: Recipe, table: Table, output: str, num_repeats: int, strict: bool
) -> FeatureImportance:
    """The importance of the columns of `Model.feature_importance`."""
    preparation = predictor.preparation

    def cells(columns: list[str]) -> RowBlock:
        rows, known = np.arange(len(table)), table.read_with(preparation.column_kinds)
        return known.block(rows, columns, errors=CellErrors(), limits=recipe.data.limits)

    with _prepared(preparation, table, strict) as raw:
        split = with_features(predictor, raw, recipe)
        return feature_importance(predictor, split, cells, output, num_repeats=num_repeats, seed=recipe.seed)


def with_features(predictor: PredictsSplits, split: Split[PreparedTable], recipe: Recipe) -> Split[PreparedTable]:
    """The split with the features of frozen layers in place of items: each distinct item is encoded once for all
    passes over the rows, and not at all if the cache has it from training or from an earlier evaluation.

    The features of a network with int8 products are not shared with other runs: the cache identifies features by the
    weights, and they are the same in both kinds of products. A predictor of several members keeps features by itself.
    """
    if not isinstance(predictor, Predictor):
        return split
    network = predictor.network
    has_int8 = any(isinstance(module, Int8Linear) for module in network.modules())
    cache = FeatureCache(None if has_int8 else media_cache_folder())
    modalities, no_training_rows = predictor.preparation.modalities, dict[str, PreparedInput]()
    tables = [no_training_rows, split.table.inputs]
    _, inputs = cache.encode_tables(network, modalities, tables, recipe, Progress(False))
    return Split(replace(split.table, inputs=inputs), split.rows)


def count_training_rows(run: RunRecord, preparation: Preparation, table: Table) -> int:
    """The number of rows of `table` on which the model was trained; see `TrainingRows.count_in`."""
    columns = preparation.input_columns + preparation.target_columns
    return run.training_rows.count_in(table, table.read_with(preparation.column_kinds), columns)


@contextmanager
def _prepared(preparation: Preparation, table: Table, strict: bool) -> Iterator[Split[PreparedTable]]:
    """Prepared rows with targets. A warning at the end lists unusable cells.

    Raises:
        DataError: no row has a usable target, or (strict) a cell is unusable.
    """
    cell_errors = CellErrors(strict)
    with scratch_folder() as folder:
        prepared = preparation.prepare(table, cell_errors, folder=folder, cache=media_cache_folder())
        split = Split.all_rows(prepared)
        check_targets(preparation.tasks, split, "row", table.name, cell_errors.errors)
        yield split
    warn_cell_errors(cell_errors.errors)
