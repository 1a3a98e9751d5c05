"""Labels that are probably wrong, by confident learning on out-of-fold predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polymodal.core.errors import RecipeError
from polymodal.data.table.table import Table
from polymodal.evaluation.ground_truth import GroundTruth
from polymodal.model.model import Model
from polymodal.recipe.ensemble import EnsembleOptions
from polymodal.recipe.recipe import Recipe
from polymodal.workflows.cross_validation import cross_validate

#: Spaces of outputs with labels.
SPACES = ("categorical", "binary")


@dataclass(frozen=True)
class LabelIssues:
    """The labels of one output that were checked, the most doubtful first.

    Of multilabel rows, each pair of a row and a label is checked: its class is whether the row has the label.

    rows: `[n]` row numbers; given, suggested: `[n]` text of the label of the table, and of the more probable one
    label_probability, suggested_probability: `[n]` out-of-fold probabilities of both
    flagged: `[n]` bool, whether the label is probably wrong
    error_rate: fraction of flagged labels, an estimate of the fraction of wrong labels
    """

    rows: np.ndarray
    given: list[str]
    suggested: list[str]
    label_probability: np.ndarray
    suggested_probability: np.ndarray
    flagged: np.ndarray
    error_rate: float


def find_label_issues(model: Model, table: Table, *, folds: int = 5, progress: bool = False) -> dict[str, LabelIssues]:
    """Check the labels of each output of classes or labels.

    The recipe of the model is trained again in folds of the table, so each label is judged by a model that has not seen
    it. Members of the model are fitted again too; networks take as long as a cross-validation.

    Raises:
        RecipeError: no output has classes or labels.
        DataError: a target column is missing, or there are too few rows for the folds.
    """
    outputs = [name for name, task in model.tasks.items() if task.space in SPACES and task.grid is None]
    if not outputs:
        raise RecipeError("find", "the model has no output of classes or labels, so there are no labels to check")
    recipe = _training_recipe(model.recipe)
    found = cross_validate(table, recipe=recipe, folds=folds, progress=progress)
    truth = GroundTruth(recipe, table)
    issues = {}
    for name in outputs:
        (value, present), task = truth.truth.targets[name], truth.tasks[name]
        rows = np.flatnonzero(present & np.isfinite(found.distributions[name]).all(1))
        distribution = found.distributions[name][rows]
        if task.space == "categorical":
            issues[name] = _issues(rows, distribution, value[rows].astype(np.int64), list(task.classes))
        else:
            issues[name] = _label_pairs(rows, distribution, value[rows].astype(np.int64), list(task.classes))
    return issues


def confident_classes(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The class `[rows]` that a row confidently has; its own label if it confidently has none.

    A row confidently has a class if its probability is at least the mean probability of this class over the rows with
    this label; of several such classes, it has the most probable one (Northcutt, Jiang & Chuang, "Confident Learning:
    Estimating Uncertainty in Dataset Labels", 2021).

    probabilities: `[rows, classes]`, out of fold; labels: `[rows]` class indices

    Example:
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9], [0.95, 0.05]])
        >>> confident_classes(p, np.array([0, 0, 1, 1, 1])).tolist()
        [0, 0, 1, 1, 0]
    """
    count = probabilities.shape[1]
    sizes = np.bincount(labels, minlength=count)
    own = np.bincount(labels, probabilities[np.arange(len(labels)), labels], minlength=count)
    thresholds = np.where(sizes > 0, own / np.maximum(sizes, 1), np.inf)
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    return np.where(confident.max(1) >= 0, confident.argmax(1), labels)


def _issues(rows: np.ndarray, probabilities: np.ndarray, labels: np.ndarray, names: list[str]) -> LabelIssues:
    """The issues of labels `[n]` with probabilities `[n, classes]`."""
    classes = confident_classes(probabilities, labels)
    places = np.arange(len(rows))
    others = probabilities.copy()
    others[places, labels] = -1
    suggested = np.where(classes != labels, classes, others.argmax(1))
    own, other = probabilities[places, labels], probabilities[places, suggested]
    order = np.lexsort((own - other, classes == labels))
    return LabelIssues(
        rows[order],
        [names[label] for label in labels[order]],
        [names[label] for label in suggested[order]],
        own[order],
        other[order],
        (classes != labels)[order],
        float(np.mean(classes != labels)) if len(labels) else 0.0,
    )


def _label_pairs(rows: np.ndarray, probabilities: np.ndarray, values: np.ndarray, names: list[str]) -> LabelIssues:
    """The issues of every pair of a row and a label."""
    each = []
    for column, name in enumerate(names):
        p = probabilities[:, column]
        each.append(_issues(rows, np.stack([1 - p, p], 1), values[:, column], [f"not {name}", name]))
    joined: dict[str, Any] = {
        key: np.concatenate([getattr(one, key) for one in each])
        for key in ("rows", "label_probability", "suggested_probability", "flagged")
    }
    given, suggested = ([text for one in each for text in getattr(one, key)] for key in ("given", "suggested"))
    order = np.lexsort((joined["label_probability"] - joined["suggested_probability"], ~joined["flagged"]))
    return LabelIssues(
        **{key: values[order] for key, values in joined.items()},
        given=[given[place] for place in order],
        suggested=[suggested[place] for place in order],
        error_rate=float(np.mean([one.error_rate for one in each])),
    )


def _training_recipe(recipe: Recipe) -> Recipe:
    """The recipe of a model for folds: without scores that are not needed, a time limit, a split column, and a teacher
    that may be gone."""
    training = recipe.training.model_copy(update={"distillation": type(recipe.training.distillation)()})
    evaluation = recipe.evaluation.model_copy(update={"bootstrap_samples": 0, "unimodal_scores": "none"})
    ensemble = recipe.ensemble if recipe.members else EnsembleOptions()
    data = recipe.data.model_copy(update={"split": recipe.data.split.model_copy(update={"column": None})})
    changed = {"training": training, "evaluation": evaluation, "time_limit": None, "ensemble": ensemble, "data": data}
    return recipe.model_copy(update=changed)
