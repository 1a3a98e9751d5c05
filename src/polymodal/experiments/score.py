"""Scoring of a trained model on the validation and test splits of its experiment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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


def score_model(experiment: Experiment, model: Model, *, progress: Progress) -> dict[str, SplitScores]:
    """Score the model on the validation and test splits, with baselines and unimodal scores."""
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
        cells = experiment.tables[name]
        by_data_set = score_data_sets(tasks, predictions, split, cells.table.data_sets, options, seed=seed)
        detail = class_details(tasks, predictions, split)
        found[name] = SplitScores(cells, experiment.splits[name], scores, predictions, detail, by_data_set)
    if options.unimodal_scores == "train" and len(model.recipe.inputs) > 1 and model.recipe.outputs:
        for name in model.recipe.inputs:
            _score_unimodal(experiment, model, name, found, progress)
    model.metrics = {name: one.scores for name, one in found.items()}
    return found


def _score_unimodal(
    experiment: Experiment, model: Model, name: str, found: Mapping[str, SplitScores], progress: Progress
) -> None:
    """Add the scores of a model of one input to the scores of the model. Members of one input are trained already."""
    own = model.row_predictor
    if isinstance(own, EnsemblePredictor) and name in own.ensemble.unimodal:
        for one in found.values():
            predictions = own.predict_unimodal(one.split, name)
            add_unimodal_scores(one.scores, name, experiment.preparation.tasks, predictions, one.split)
        return
    unimodal, unimodal_model = train_unimodal(experiment, model, name, progress=progress)
    splits = predictable_splits(unimodal, unimodal_model, progress)
    predictor = unimodal_model.row_predictor
    for part, one in found.items():
        predictions = predictor.predict(splits[part])
        add_unimodal_scores(one.scores, name, unimodal.preparation.tasks, predictions, splits[part])


def predictable_splits(experiment: Experiment, model: Model, progress: Progress) -> dict[str, Split[PreparedTable]]:
    """The splits as `model.row_predictor` reads them: with cached features of frozen layers for a single network."""
    return experiment.splits if model.ensemble is not None else experiment.feature_splits(model.network, progress)
