"""Scoring of a trained model on the validation and test splits of its experiment."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from polymodal.core.formatting import join_words
from polymodal.core.progress import Progress
from polymodal.data.partition import Split
from polymodal.data.table.table import Table
from polymodal.evaluation.data_sets import ByDataSet, score_data_sets
from polymodal.evaluation.evaluate import Scores, add_unimodal_scores, class_details, evaluate
from polymodal.evaluation.objective_scores import score_objectives
from polymodal.experiments.experiment import Experiment
from polymodal.experiments.train import train_unimodal
from polymodal.inference.ensemble_predictor import EnsemblePredictor
from polymodal.inference.predictions import Predictions
from polymodal.model.model import Model
from polymodal.preparation.preparation import PreparedTable


@dataclass(frozen=True)
class SplitScores:
    """One split and its scores.

    cells, split: the unprepared and the prepared rows
    scores: by output (or objective) and metric, as in `metrics.json`
    predictions: by output
    detail: confusion matrix and per-class scores by output
    data_sets: the scores of each data set, if the table has several
    """

    cells: Split[Table]
    split: Split[PreparedTable]
    scores: Scores
    predictions: dict[str, Predictions]
    detail: dict[str, Any]
    data_sets: ByDataSet


@dataclass(frozen=True)
class UnimodalModel:
    """A model of one input, its experiment, and its predictions of the validation rows by output."""

    experiment: Experiment
    model: Model
    predictions: dict[str, Predictions]


@dataclass(frozen=True)
class ScoredModel:
    """A scored model: its scores by split, and the networks of one input that were trained for comparison."""

    splits: dict[str, SplitScores]
    unimodal: dict[str, UnimodalModel]


def score_model(experiment: Experiment, model: Model, *, progress: Progress, deadline: float = math.inf) -> ScoredModel:
    """Score the model on the validation and test splits, with baselines and unimodal scores.

    deadline: the time (`time.perf_counter()`) after which no model of one input is trained; a notice names those
    """
    splits, predictor = predictable_splits(experiment, model, progress), model.row_predictor
    options, seed, tasks = model.recipe.evaluation, model.recipe.seed, experiment.preparation.tasks
    found: dict[str, SplitScores] = {}
    for name in ("validation", "test"):
        if name not in splits:
            continue
        split = splits[name]
        with progress.task(f"score {name}", None):
            scores, predictions = evaluate(predictor, split, options, seed=seed)
        if model.ensemble is None:
            scores |= score_objectives(model.predictor, split, model.recipe)
        if options.unimodal_scores == "train" and len(model.recipe.inputs) > 1:
            _add_members_of_one_input(model, split, scores)  # while the features of these rows are at hand
        cells = experiment.tables[name]
        by_data_set = score_data_sets(tasks, predictions, split, cells.table.data_sets, options, seed=seed)
        detail = class_details(tasks, predictions, split)
        found[name] = SplitScores(cells, experiment.splits[name], scores, predictions, detail, by_data_set)
    unimodal: dict[str, UnimodalModel] = {}
    if options.unimodal_scores == "train" and len(model.recipe.inputs) > 1 and model.recipe.outputs:
        trained = {} if model.ensemble is None else model.ensemble.unimodal
        for name in (missing := [name for name in model.recipe.inputs if name not in trained]):
            if experiment.world.agree(time.perf_counter() < deadline):
                unimodal[name] = _score_unimodal(experiment, model, name, found, progress, deadline)
        if left_out := [name for name in missing if name not in unimodal]:
            notice = f"the time limit left no time to score {join_words(left_out)} alone"
            model.run = replace(model.run, notices=(*model.run.notices, notice))
    model.metrics = {name: one.scores for name, one in found.items()}
    return ScoredModel(found, unimodal)


def _add_members_of_one_input(model: Model, split: Split[PreparedTable], scores: Scores) -> None:
    """Add the scores of the members that read only one input, which are trained already."""
    predictor = model.row_predictor
    if isinstance(predictor, EnsemblePredictor):
        for name in predictor.ensemble.unimodal:
            predictions = predictor.predict_unimodal(split, name)
            add_unimodal_scores(scores, name, predictor.preparation.tasks, predictions, split)


def _score_unimodal(
    experiment: Experiment,
    model: Model,
    name: str,
    found: Mapping[str, SplitScores],
    progress: Progress,
    deadline: float,
) -> UnimodalModel:
    """Train a model of one input, add its scores to the scores of the model, and return it."""
    unimodal, unimodal_model = train_unimodal(experiment, model, name, progress=progress, deadline=deadline)
    splits = predictable_splits(unimodal, unimodal_model, progress)
    predictor = unimodal_model.row_predictor
    predicted = {part: predictor.predict(splits[part]) for part in found}
    for part, one in found.items():
        add_unimodal_scores(one.scores, name, unimodal.preparation.tasks, predicted[part], splits[part])
    return UnimodalModel(unimodal, unimodal_model, predicted["validation"])


def predictable_splits(experiment: Experiment, model: Model, progress: Progress) -> dict[str, Split[PreparedTable]]:
    """The splits as `model.row_predictor` reads them: with cached features of frozen layers for a single network."""
    return experiment.splits if model.ensemble is not None else experiment.feature_splits(model.network, progress)
