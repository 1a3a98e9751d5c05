"""Pseudo-labels: a classifier labels the rows that it is sure of, and is trained again with them.

Self-training (Yarowsky, "Unsupervised Word Sense Disambiguation Rivaling Supervised Methods", 1995; for networks: Lee,
"Pseudo-Label", 2013), with two guards. The probabilities are calibrated on the validation rows, and only such labels
are given as those rows show to be right as often as is wanted (`confidence_calibration`). And each class gives its
share at most (in the spirit of Zou et al., "Domain Adaptation for Semantic Segmentation via Class-Balanced
Self-Training", 2018), so that classes that are easy to tell do not crowd out the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from polymodal.core.errors import DataError, RecipeError, did_you_mean
from polymodal.data.partition import Split
from polymodal.data.table.concat import ConcatTable
from polymodal.data.table.table import Table, non_null
from polymodal.experiments.confidence_calibration import (
    PRECISION_CONFIDENCE_LEVEL,
    ConfidenceThreshold,
    class_tensor,
    predict_with_confidence,
    min_validation_rows,
    fit_temperature,
    find_threshold,
)
from polymodal.experiments.experiment import Experiment
from polymodal.inference.predictor import Predictor
from polymodal.model.run_record import PseudoLabelRound, PseudoLabelRecord
from polymodal.preparation.preparation import PreparedTable
from polymodal.recipe.recipe import Recipe
from polymodal.recipe.training import PseudoLabelOptions
from polymodal.tasks.classification import ClassificationTask
from polymodal.training.distillation import TeacherTargets
from polymodal.training.trainer import Trainer
from polymodal.training.validation import Validation, validate

PATH = "training.pseudo_labels.rounds"
#: Most epochs of a round that the recipe's own epochs do not exceed.
MAX_ROUND_EPOCHS = 200


class SelfTrainingJob(Protocol):
    """What is trained in rounds: see `train.TrainingJob`."""

    @property
    def experiment(self) -> Experiment: ...

    @property
    def teacher_targets(self) -> TeacherTargets | None: ...

    @property
    def folder(self) -> Path | None: ...

    @property
    def resume(self) -> bool: ...

    @property
    def title(self) -> str: ...

    def trainer(self, recipe: Recipe, train: Split[PreparedTable], folder: Path | None, title: str) -> Trainer:
        """A trainer with a new network, for a schedule and labels of their own."""


@dataclass(frozen=True)
class LabelAssignment:
    """Labels that were given: rows of the table, and the class number of each."""

    rows: np.ndarray
    classes: np.ndarray

    def same(self, other: LabelAssignment) -> bool:
        return np.array_equal(self.rows, other.rows) and np.array_equal(self.classes, other.classes)


NO_LABELS = LabelAssignment(np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True)
class SelfTrainingEval:
    """What the validation rows say of a trained model: scores, temperature, and the threshold (None: none will do)."""

    validation: Validation
    fit_temperature: float
    find_threshold: ConfidenceThreshold | None
    rows: int


def check_pseudo_labels(recipe: Recipe) -> None:
    """Raises RecipeError where the recipe asks for pseudo-labels and its outputs cannot have them."""
    if recipe.training.pseudo_labels.rounds == 0:
        return
    for name, spec in recipe.outputs.items():
        if spec.task is not None and spec.task.name != "classify":
            raise RecipeError(PATH, f"labels are given for classify, and outputs.{name} is of {spec.task.name}")
    if len(recipe.outputs) != 1:
        raise RecipeError(PATH, f"labels are given for one output, and the recipe has {len(recipe.outputs)}")
    if recipe.privileged:
        raise RecipeError(
            PATH, "the teacher of the privileged inputs teaches the rows without a label already; leave out one of both"
        )


def with_unlabeled(
    recipe: Recipe, splits: dict[str, Split[Table]], table: Table, unlabeled: Table
) -> dict[str, Split[Table]]:
    """The splits with every row of `unlabelled` among the training rows, in one table with those of `table`.

    Raises:
        RecipeError: nothing in the recipe learns from rows without a label.
        DataError: the rows have a label, or lack a column that an input reads.
    """
    training = recipe.training
    if not (training.pseudo_labels.rounds or recipe.objectives or training.distillation.teacher):
        raise RecipeError(PATH, "unlabelled rows are given, and nothing learns from them: set this to 1 or more")
    for column in (column for spec in recipe.inputs.values() for column in spec.columns):
        if column not in unlabeled.columns:
            hint = did_you_mean(column, unlabeled.columns)
            raise DataError(f"an input reads this column; {hint}", column=column, file=unlabeled.name)
    for column in (column for spec in recipe.outputs.values() for column in spec.columns):
        if column in unlabeled.columns and non_null(unlabeled, column, np.arange(len(unlabeled))).any():
            raise DataError(
                "these rows have the target, so they are not unlabelled: put them into the training table",
                column=column,
                file=unlabeled.name,
            )
    sets = dict(zip(table.data_sets, table.tables, strict=True)) if isinstance(table, ConcatTable) else {table.name: table}
    name = "unlabelled"
    while name in sets:
        name += "_"
    joined = ConcatTable({**sets, name: unlabeled})
    moved: dict[str, Split[Table]] = {
        key: Split[Table](joined, one.rows) if one.table is table else one for key, one in splits.items()
    }
    return moved | {"train": Split[Table](joined, np.append(splits["train"].rows, np.arange(len(table), len(joined))))}


def train_in_rounds(job: SelfTrainingJob) -> tuple[Trainer, float, PseudoLabelRecord]:
    """Train, label, and train again; the trainer of the round that validates best, the seconds of all rounds, and what
    the run records.

    A training row without a target is one to label; a target that could not be used is no gap, and its row stays
    without. Each later round has a folder of its own in that of the run, so that a killed run goes on where it stopped.
    Where rows without any label teach nothing (no teacher, no objective), steps without them are saved.

    Each round takes about as many steps as the recipe's epochs take over all training rows.

    Raises:
        RecipeError: the outputs are not one classification.
    """
    experiment, folder, recipe = job.experiment, job.folder, job.experiment.recipe
    check_pseudo_labels(recipe)
    options = recipe.training.pseudo_labels
    ((name, task),) = experiment.preparation.tasks.items()
    assert isinstance(task, ClassificationTask)
    cells, train = experiment.tables["train"], experiment.splits["train"]
    empty = cells.rows[~non_null(cells.table, task.columns[0], cells.rows)]
    alone = job.teacher_targets is None and not recipe.objectives
    given, before, seconds = NO_LABELS, NO_LABELS, 0.0
    rounds: list[PseudoLabelRound] = []
    kept: tuple[Trainer, SelfTrainingEval, int] | None = None
    entry = PseudoLabelRound(0)
    for number in range(options.rounds + 1):
        split = with_pseudo_labels(train, name, given, options, alone=alone)
        place = folder / f"round-{number}" if folder is not None and number else folder
        if place is not None:
            place.mkdir(parents=True, exist_ok=True)
        shown = f"{job.title}, round {number} of {options.rounds}" if number else job.title
        trainer = job.trainer(scale_schedule(recipe, len(train), len(split)), split, place, shown)
        seconds += trainer.run(resume=job.resume).seconds
        evaluation = evaluate_round(trainer, name, options.min_precision)
        rounds.append(replace(entry, valid=evaluation.validation.metrics, validation_score=evaluation.validation.score))
        if kept is None or evaluation.validation.score > kept[1].validation.score:
            kept = trainer, evaluation, number
        if number == options.rounds:
            break
        before, given = given, assign_labels(trainer, evaluation, empty, task, options)
        entry = round_record(number + 1, evaluation, given, before, task, options)
        if not len(given.rows) or given.same(before):
            rounds.append(replace(entry, why=entry.why or "the same rows were given the same labels"))
            break
    assert kept is not None
    return kept[0], seconds, PseudoLabelRecord(name, len(empty), PRECISION_CONFIDENCE_LEVEL, kept[2], tuple(rounds))


def with_pseudo_labels(
    train: Split[PreparedTable], name: str, given: LabelAssignment, options: PseudoLabelOptions, *, alone: bool
) -> Split[PreparedTable]:
    """The training rows with the labels that were given, which count as `options.weight` says; without the rows that
    have no label, if they teach nothing (`alone`). The arrays of `train` stay as they are."""
    prepared = train.table
    value, present = (array.copy() for array in prepared.targets[name])
    weight = np.ones(prepared.rows, np.float32) if prepared.weight is None else prepared.weight.copy()
    value[given.rows], present[given.rows] = given.classes, True
    weight[given.rows] *= options.weight
    rows = train.rows[present[train.rows]] if alone else train.rows
    changed = replace(prepared, targets={**prepared.targets, name: (value, present)}, weight=weight)
    return Split(changed, rows if len(rows) else train.rows)


def scale_schedule(recipe: Recipe, all_rows: int, rows: int) -> Recipe:
    """The recipe with as many epochs over `rows` as make the steps of its epochs over `all_rows`, and its patience
    in proportion."""
    training = recipe.training
    epochs, batch, patience = training.epochs or 0, training.batch_size or 1, training.early_stopping_patience or 1
    steps = epochs * math.ceil(all_rows / batch)
    most = max(epochs, MAX_ROUND_EPOCHS)
    longer = min(most, math.ceil(steps / math.ceil(rows / batch)))
    waits = math.ceil(patience * longer / max(1, epochs))
    return recipe.model_copy(update={"training": training.model_copy(update={"epochs": longer, "patience": waits})})


def evaluate_round(trainer: Trainer, name: str, wanted: float) -> SelfTrainingEval:
    """What the validation rows say of the model that a trainer leaves."""
    valid = trainer.valid
    decisions = _predictor(trainer).predict(valid)
    value, present = (array[valid.rows] for array in valid.table.targets[name])
    validation = validate(trainer.preparation.tasks, decisions, valid)
    if not present.any():
        return SelfTrainingEval(validation, 1.0, None, 0)
    values, target = decisions[name].values[present], class_tensor(value[present])
    heat = fit_temperature(values, target)
    decided, confidence = predict_with_confidence(values, heat)
    found = find_threshold(confidence, decided == target.numpy(), wanted)
    return SelfTrainingEval(validation, heat, found, int(present.sum()))


def assign_labels(trainer: Trainer, evaluation: SelfTrainingEval, empty: np.ndarray, task: ClassificationTask, options: PseudoLabelOptions) -> LabelAssignment:
    """The rows of `empty` that a trained model labels, in the order of the table, and their classes."""
    if evaluation.threshold is None or not len(empty):
        return NO_LABELS
    decisions = _predictor(trainer).predict(Split(trainer.train.table, empty))
    (values,) = (one.values for one in decisions.values())
    decided, confidence = predict_with_confidence(values, evaluation.temperature)
    kept = np.flatnonzero(confidence >= evaluation.threshold.confidence)
    if options.class_balanced:
        kept = kept[np.argsort(-confidence[kept], kind="stable")]
        most = np.ceil(task.shares * len(kept))
        kept = np.concatenate([kept[decided[kept] == c][: int(most[c])] for c in range(task.output_size)])
    kept = np.sort(kept)
    return LabelAssignment(empty[kept], decided[kept])


def _predictor(trainer: Trainer) -> Predictor:
    return Predictor(trainer.network, trainer.preparation, trainer.compute)


def round_record(
    number: int, evaluation: SelfTrainingEval, given: LabelAssignment, before: LabelAssignment, task: ClassificationTask, options: PseudoLabelOptions
) -> PseudoLabelRound:
    """What a round begins with: the labels that were given, and what the validation rows promise of them."""
    counts = np.bincount(given.classes, minlength=task.output_size).tolist()
    old = dict(zip(before.rows.tolist(), before.classes.tolist(), strict=True))
    new = dict(zip(given.rows.tolist(), given.classes.tolist(), strict=True))
    entry = PseudoLabelRound(
        number,
        taken=len(given.rows),
        labels_by_class=dict(zip(task.classes, counts, strict=True)),
        changed=sum(old.get(row) != new.get(row) for row in old.keys() | new.keys()),
        temperature=evaluation.temperature,
    )
    found = evaluation.threshold
    if found is not None:
        why = None if len(given.rows) else "no row without a label is that sure"
        return replace(entry, threshold=found.confidence, precision=found.precision, precision_low=found.precision_low, why=why)
    why = f"no threshold shows that {options.min_precision:.0%} of the labels would be right"
    if evaluation.rows < min_validation_rows(options.min_precision):
        why += f": {evaluation.rows} validation rows are too few, {min_validation_rows(options.min_precision)} are the least"
    return replace(entry, why=why)
