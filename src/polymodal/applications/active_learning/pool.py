"""The pool of unlabeled rows: their features and predictions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch

from polymodal.core.errors import DataError, RecipeError, did_you_mean
from polymodal.core.types import Batch
from polymodal.data.partition import Split
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table, non_null
from polymodal.estimators.dense_columns import DenseColumns
from polymodal.evaluation.class_alignment import reorder_classes
from polymodal.features.feature_table import FeatureTable
from polymodal.inference.batching import PREDICTION_BATCH_SIZE, iter_batches, limit_batch_size
from polymodal.inference.ensemble_predictor import EnsemblePredictor
from polymodal.model.distributions import to_raw_values
from polymodal.model.ensemble import Ensemble
from polymodal.model.model import Model
from polymodal.tasks.base import Task


@dataclass(frozen=True)
class Pool:
    """The unlabeled rows of a table that have at least one input.

    rows: `[n]`, row numbers in the table
    features: `[n, width]`, the fused feature vectors of a network, or the features of the estimators of a model with
        several members; for an ensemble, those of its models concatenated
    labeled_features: `[m, width]`, the feature vectors of the labeled rows of the table
    task: the task of the output that the strategy uses; None if it uses no output
    predictions: `[n, k]`, the predicted distributions; None without a task
    member_predictions: `[members, n, k]`, the predictions of each member of an ensemble or of a model that combines
        members: probabilities, or numbers in units of the standard deviation of the training rows; None for a single
        member
    num_empty: number of unlabeled rows without any input
    num_models: number of models that were trained separately, of which each member predicts for itself; 1 for a model
        whose members are combined with weights
    """

    rows: np.ndarray
    features: np.ndarray
    labeled_features: np.ndarray
    task: Task | None
    predictions: np.ndarray | None
    member_predictions: np.ndarray | None
    num_empty: int
    num_models: int


@dataclass(frozen=True)
class TablePredictions:
    """Predictions of one model for every row of a table.

    predictions: the distributions `[rows, k]` of each output
    features: `[rows, width]`, the vectors of the rows
    present: `[rows]` bool, whether the row has any input
    members: by output, `[members, rows, k]`, the predictions of the members that are combined
    """

    predictions: dict[str, np.ndarray]
    features: np.ndarray
    present: np.ndarray
    members: dict[str, np.ndarray] = field(default_factory=dict)


def make_pool(
    model: Model | Ensemble, table: Table, cell_errors: CellErrors, *, output: str | None, target: str | None
) -> Pool:
    """Predict every row of `table`, and leave out rows with a label, with a bad cell, or without any input.

    output: the output that the strategy uses; None if it uses no output
    target: rows with a value in this column are labeled; default: the target columns of `output`, or of all outputs
    """
    labeled = labeled_rows(model, table, output, target)
    members = model.members if isinstance(model, Ensemble) else [model]
    before = len(cell_errors.errors)
    tables = [predict_table(member, table, cell_errors) for member in members]
    cell_errors.errors[before:] = dict.fromkeys(cell_errors.errors[before:])
    bad = np.zeros(len(table), dtype=bool)
    bad[[error.row for error in cell_errors.errors[before:]]] = True
    present = np.any([table.present for table in tables], axis=0)
    rows = np.flatnonzero(~labeled & ~bad & present)
    features = (
        tables[0].features
        if len(tables) == 1
        else np.concatenate([_unit_scale(predicted.features) for predicted in tables], axis=1)
    )
    task = None if output is None else model.tasks[output]
    predictions, member_predictions = None, None
    if task is not None and output is not None:
        predictions = tables[0].predictions[output][rows]
        if output in tables[0].members:
            member_predictions = tables[0].members[output][:, rows]
    if isinstance(model, Ensemble) and task is not None and output is not None:
        by_member = [
            {
                name: reorder_classes(predicted.predictions[name], member.tasks[name], of)
                for name, of in model.tasks.items()
            }
            for predicted, member in zip(tables, members, strict=True)
        ]
        predictions = model.combine(by_member)[output][rows]
        values = [
            one[output] if task.space != "real" else to_raw_values(task, one[output]).numpy() for one in by_member
        ]
        member_predictions = np.stack(values)[:, rows]
    num_empty = int((~labeled & ~bad & ~present).sum())
    return Pool(
        rows=rows,
        features=features[rows],
        labeled_features=features[labeled & ~bad & present],
        task=task,
        predictions=predictions,
        member_predictions=member_predictions,
        num_empty=num_empty,
        num_models=len(members),
    )


def labeled_rows(model: Model | Ensemble, table: Table, output: str | None, target: str | None) -> np.ndarray:
    """`[rows]` bool, True for rows with a value in every target column; all False if the table lacks such a column.

    Raises:
        DataError: `target` is not a column of the table.
    """
    if target is not None and target not in table.columns:
        raise DataError(
            f"there is no such column; {did_you_mean(target, table.columns)}", column=target, file=table.name
        )
    tasks = [task for name, task in model.tasks.items() if output in (None, name)]
    columns = [target] if target is not None else [column for task in tasks for column in task.columns]
    if not columns or not set(columns) <= set(table.columns):
        return np.zeros(len(table), dtype=bool)
    return np.asarray(np.all([non_null(table, column, np.arange(len(table))) for column in columns], axis=0))


def resolve_output(model: Model | Ensemble, output: str | None) -> str:
    """The name of the output that the strategy uses.

    Raises:
        RecipeError: the model has no such output, has several and none is named, or the output has no class
            distribution or number per row.
    """
    names = list(model.tasks)
    if output is None and len(names) != 1:
        problem = (
            f"the model has several outputs ({', '.join(names)}); choose one" if names else "the model has no outputs"
        )
        raise RecipeError("output", problem)
    name = output or names[0]
    if name not in names:
        raise RecipeError("output", f"the model has no output {name!r}; {did_you_mean(name, names)}")
    if model.tasks[name].is_generative or model.tasks[name].has_several_predictions:
        kind = model.tasks[name].options.name
        raise RecipeError(
            "output", f"the output {name!r} has the task {kind}, which supports only the strategies coreset and typical"
        )
    return name


def predict_table(model: Model, table: Table, cell_errors: CellErrors) -> TablePredictions:
    """Predict every row of `table` with `model`, block by block.

    If the model has no outputs, its fusion is not trained, so the features are the row embeddings of `Model.embed`.
    """
    prepared = model.preparation.blocks(table, cell_errors, size=PREDICTION_BATCH_SIZE)
    if model.ensemble is not None:
        return _predict_members(model, EnsemblePredictor(model.ensemble, model.preparation, model.compute), prepared)
    blocks = [_predict_block(model, block) for block in prepared]
    predictions = {name: np.concatenate([one.predictions[name] for one in blocks]) for name in blocks[0].predictions}
    features = np.concatenate([one.features for one in blocks])
    present = np.concatenate([one.present for one in blocks])
    return TablePredictions(predictions, features, present)


def _predict_members(model: Model, predictor: EnsemblePredictor, blocks: Iterable[RowBlock]) -> TablePredictions:
    """The predictions of a model with several members. The vectors of the rows are the features that its estimators
    read, as columns of comparable scale."""
    tables: list[FeatureTable] = []
    predictions: dict[str, list[np.ndarray]] = {name: [] for name in model.tasks}
    members: dict[str, list[np.ndarray]] = {name: [] for name in committee_outputs(model)}
    for block in blocks:
        split = Split.all_rows(model.preparation.prepare_block(block))
        tables.append(predictor.features(split))
        for name, one in predictor.predict(split).items():
            predictions[name].append(model.tasks[name].distribution(one.values))
        for name, parts in members.items():
            parts.append(np.stack(list(predictor.weighted_members(split, name).values())))
    features = FeatureTable.concatenate(tables)
    return TablePredictions(
        {name: np.concatenate(parts) for name, parts in predictions.items()},
        DenseColumns(model.recipe.seed).fit(features, np.ones(len(features))),
        np.any(list(features.present.values()), axis=0),
        {name: np.concatenate(parts, axis=1) for name, parts in members.items()},
    )


def committee_outputs(model: Model) -> list[str]:
    """The outputs that several members of a model predict together."""
    combinations = {} if model.ensemble is None else model.ensemble.combinations
    return [name for name, one in combinations.items() if len(one.weights) > 1]


def _predict_block(model: Model, block: RowBlock) -> TablePredictions:
    prepared = model.preparation.prepare_block(block)
    split, predictor = Split.all_rows(prepared), model.predictor
    if not model.tasks:
        embedded = predictor.embed(split)["row"]
        return TablePredictions({}, np.nan_to_num(embedded), np.isfinite(embedded).all(1))
    index = [source.index >= 0 for source in prepared.inputs.values()]
    present = np.any(index, axis=0) if index else np.ones(len(split), dtype=bool)
    positions = list(iter_batches(split, limit_batch_size(PREDICTION_BATCH_SIZE, prepared, model.network)))
    order = np.argsort(np.concatenate(positions), kind="stable")
    results = [_predict_batch(model, predictor.batch(prepared, rows)) for rows in positions]
    predictions = {name: np.concatenate([one[name] for one, _ in results])[order] for name in results[0][0]}
    return TablePredictions(predictions, np.concatenate([features for _, features in results])[order], present)


def _predict_batch(model: Model, batch: Batch) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The predictions for a batch by output, and its pooled fusion vectors, weighted and concatenated."""
    network, tasks = model.network, model.tasks
    with model.predictor.running():
        branches = network.encode_and_fuse(batch)
        outputs = network.decode(branches, batch)
        vectors = torch.cat([view.pooled.float() * view.weight.float().unsqueeze(1) for view in branches], dim=1)
    found = {
        name: tasks[name].distribution(one.values.float())
        for name, one in outputs.items()
        if not tasks[name].is_generative
    }
    return found, vectors.cpu().numpy()


def _unit_scale(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors to a mean squared length of 1, so that all ensemble members have the same influence."""
    return np.asarray(vectors / max(float(np.sqrt((vectors**2).sum(1).mean())), 1e-12))
