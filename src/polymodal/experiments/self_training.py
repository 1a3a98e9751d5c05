"""Self-training with pseudo-labels: a classifier labels rows that it predicts with high confidence, and is retrained.

Self-training (Yarowsky, "Unsupervised Word Sense Disambiguation Rivaling Supervised Methods", 1995; for networks: Lee,
"Pseudo-Label", 2013), with two safeguards. First, probabilities are calibrated on the validation rows, and a label is
only assigned above a confidence threshold that guarantees the wanted precision on these rows
(`confidence_calibration`). Second, the number of labels per class is limited by the class frequency (similar to Zou et
al., "Domain Adaptation for Semantic Segmentation via Class-Balanced Self-Training", 2018), so that easy classes do not
dominate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from polymodal.core.errors import DataError, RecipeError, did_you_mean
from polymodal.data.partition import Split
from polymodal.data.table.concat import ConcatTable
from polymodal.data.table.table import Table, non_null
from polymodal.distributed.world import World
from polymodal.experiments.confidence_calibration import (
    PRECISION_CONFIDENCE_LEVEL,
    ConfidenceThreshold,
    class_tensor,
    find_threshold,
    min_validation_rows,
    predict_with_confidence,
)
from polymodal.experiments.experiment import Experiment
from polymodal.inference.predictor import Predictor
from polymodal.model.run_record import PseudoLabelRecord, PseudoLabelRound
from polymodal.preparation.preparation import PreparedTable
from polymodal.recipe.recipe import Recipe
from polymodal.recipe.training import PseudoLabelOptions
from polymodal.tasks.classification import ClassificationTask
from polymodal.training.distillation import TeacherTargets
from polymodal.training.temperature import fit_temperature
from polymodal.training.trainer import Trainer
from polymodal.training.validation import Validation, validate

ROUNDS_KEY = "training.pseudo_labels.rounds"
#: Maximum epochs of a round, unless the recipe has more.
MAX_ROUND_EPOCHS = 200


class SelfTrainingJob(Protocol):
    """The training job of several rounds; see `train.TrainingJob`."""

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
        """A trainer with a new network, for the schedule of `recipe` and the labels of `train`."""


@dataclass(frozen=True)
class LabelAssignment:
    """Pseudo-labels: rows of the table, and the class index of each row."""

    rows: np.ndarray
    classes: np.ndarray

    def agreed(self, world: World) -> LabelAssignment:
        """The assignment of process 0."""
        found = world.agree_tensors({"rows": torch.from_numpy(self.rows), "classes": torch.from_numpy(self.classes)})
        return LabelAssignment(found["rows"].numpy(), found["classes"].numpy())

    def same(self, other: LabelAssignment) -> bool:
        """Whether both hold the same labels of the same rows."""
        return np.array_equal(self.rows, other.rows) and np.array_equal(self.classes, other.classes)


NO_LABELS = LabelAssignment(np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True)
class SelfTrainingEval:
    """Results of a trained model on the validation rows: scores, temperature, and confidence threshold.

    threshold: None if no threshold reaches the wanted precision
    rows: validation rows with a target
    """

    validation: Validation
    temperature: float
    threshold: ConfidenceThreshold | None
    rows: int


def check_pseudo_labels(recipe: Recipe) -> None:
    """Raises RecipeError if the recipe enables pseudo-labels and its outputs do not support them."""
    if recipe.training.pseudo_labels.rounds == 0:
        return
    for name, spec in recipe.outputs.items():
        if spec.task is not None and spec.task.name != "classification":
            raise RecipeError(
                ROUNDS_KEY, f"pseudo-labels need the task classification, and outputs.{name} has {spec.task.name}"
            )
    if len(recipe.outputs) != 1:
        raise RecipeError(
            ROUNDS_KEY, f"pseudo-labels need exactly one output, and the recipe has {len(recipe.outputs)}"
        )
    if recipe.privileged:
        raise RecipeError(
            ROUNDS_KEY, "the teacher of the privileged inputs already labels rows without a label; use one of the two"
        )


def with_unlabeled(
    recipe: Recipe, splits: dict[str, Split[Table]], table: Table, unlabeled: Table
) -> dict[str, Split[Table]]:
    """The splits with all rows of `unlabeled` added to the training rows, in one table with the rows of `table`.

    Raises:
        RecipeError: the recipe does not use rows without a label.
        DataError: the rows have a label, or lack an input column.
    """
    training = recipe.training
    if not (training.pseudo_labels.rounds or recipe.objectives or training.distillation.teacher):
        raise RecipeError(
            ROUNDS_KEY, "the recipe does not use unlabeled rows: set this to 1 or more, or add objectives or a teacher"
        )
    for column in (column for spec in recipe.inputs.values() for column in spec.columns):
        if column not in unlabeled.columns:
            hint = did_you_mean(column, unlabeled.columns)
            raise DataError(f"an input needs this column; {hint}", column=column, file=unlabeled.name)
    for column in (column for spec in recipe.outputs.values() for column in spec.columns):
        if column in unlabeled.columns and non_null(unlabeled, column, np.arange(len(unlabeled))).any():
            raise DataError(
                "these rows have the target, so they are labeled: add them to the training table",
                column=column,
                file=unlabeled.name,
            )
    sets = (
        dict(zip(table.data_sets, table.tables, strict=True)) if isinstance(table, ConcatTable) else {table.name: table}
    )
    name = "unlabeled"
    while name in sets:
        name += "_"
    joined = ConcatTable({**sets, name: unlabeled})
    moved: dict[str, Split[Table]] = {
        key: Split[Table](joined, one.rows) if one.table is table else one for key, one in splits.items()
    }
    return moved | {"train": Split[Table](joined, np.append(splits["train"].rows, np.arange(len(table), len(joined))))}


def train_in_rounds(job: SelfTrainingJob) -> tuple[Trainer, float, PseudoLabelRecord]:
    """Train in rounds with pseudo-labels. Return the trainer of the best round, the seconds of all rounds, and the
    record.

    Training rows with an empty target are labeled. Rows with an unusable target stay unlabeled. Each later round has
    its own folder in the folder of the run, so an interrupted run can resume. Without a teacher and objectives, rows
    without a label are left out of training.

    Each round takes about as many steps as the epochs of the recipe over all training rows.

    Raises:
        RecipeError: the recipe does not have exactly one classification output.
    """
    experiment, folder, recipe = job.experiment, job.folder, job.experiment.recipe
    check_pseudo_labels(recipe)
    options = recipe.training.pseudo_labels
    ((name, task),) = experiment.preparation.tasks.items()
    assert isinstance(task, ClassificationTask)
    cells, train = experiment.tables["train"], experiment.splits["train"]
    empty = cells.rows[~non_null(cells.table, task.columns[0], cells.rows)]
    labeled_only = job.teacher_targets is None and not recipe.objectives
    given, before, seconds = NO_LABELS, NO_LABELS, 0.0
    rounds: list[PseudoLabelRound] = []
    kept: tuple[Trainer, SelfTrainingEval, int] | None = None
    entry = PseudoLabelRound(0)
    for number in range(options.rounds + 1):
        split = with_pseudo_labels(train, name, given, options, labeled_only=labeled_only)
        round_folder = folder / f"round-{number}" if folder is not None and number else folder
        if round_folder is not None:
            round_folder.mkdir(parents=True, exist_ok=True)
        shown = f"{job.title}, round {number} of {options.rounds}" if number else job.title
        trainer = job.trainer(scale_schedule(recipe, len(train), len(split)), split, round_folder, shown)
        seconds += trainer.run(resume=job.resume).seconds
        evaluation = evaluate_round(trainer, name, options.min_precision)
        rounds.append(
            replace(entry, validation=evaluation.validation.metrics, validation_score=evaluation.validation.score)
        )
        if kept is None or evaluation.validation.score > kept[1].validation.score:
            kept = trainer, evaluation, number
        if number == options.rounds:
            break
        before, given = given, assign_labels(trainer, evaluation, empty, task, options).agreed(experiment.world)
        entry = round_record(number + 1, evaluation, given, before, task, options)
        if not len(given.rows) or given.same(before):
            rounds.append(replace(entry, reason=entry.reason or "the same rows were assigned the same labels"))
            break
    assert kept is not None
    return kept[0], seconds, PseudoLabelRecord(name, len(empty), PRECISION_CONFIDENCE_LEVEL, kept[2], tuple(rounds))


def with_pseudo_labels(
    train: Split[PreparedTable], name: str, given: LabelAssignment, options: PseudoLabelOptions, *, labeled_only: bool
) -> Split[PreparedTable]:
    """The training rows with pseudo-labels, weighted by `options.weight`. The arrays of `train` do not change.

    labeled_only: leave out rows without a label
    """
    prepared = train.table
    value, present = (array.copy() for array in prepared.targets[name])
    weight = np.ones(prepared.rows, np.float32) if prepared.weight is None else prepared.weight.copy()
    value[given.rows], present[given.rows] = given.classes, True
    weight[given.rows] *= options.weight
    rows = train.rows[present[train.rows]] if labeled_only else train.rows
    changed = replace(prepared, targets={**prepared.targets, name: (value, present)}, weight=weight)
    return Split(changed, rows if len(rows) else train.rows)


def scale_schedule(recipe: Recipe, all_rows: int, rows: int) -> Recipe:
    """The recipe with epochs over `rows` that take the same number of steps as its epochs over `all_rows`.

    The early stopping patience is scaled by the same factor.
    """
    training = recipe.training
    epochs, batch, patience = training.epochs or 0, training.batch_size or 1, training.early_stopping_patience or 1
    steps = epochs * math.ceil(all_rows / batch)
    max_epochs = max(epochs, MAX_ROUND_EPOCHS)
    longer = min(max_epochs, math.ceil(steps / math.ceil(rows / batch)))
    waits = math.ceil(patience * longer / max(1, epochs))
    return recipe.model_copy(
        update={"training": training.model_copy(update={"epochs": longer, "early_stopping_patience": waits})}
    )


def evaluate_round(trainer: Trainer, name: str, min_precision: float) -> SelfTrainingEval:
    """Evaluate the trained model on the validation rows."""
    valid = trainer.valid
    predictions = _predictor(trainer).predict(valid)
    value, present = (array[valid.rows] for array in valid.table.targets[name])
    validation = validate(trainer.preparation.tasks, predictions, valid)
    if not present.any():
        return SelfTrainingEval(validation, 1.0, None, 0)
    values, target = predictions[name].values[present], class_tensor(value[present])
    temperature = fit_temperature(values, target)
    scored = trainer.preparation.tasks[name].scored_rows(value, present)  # unknown classes are wrong
    predicted, confidence = predict_with_confidence(predictions[name].values[scored], temperature)
    found = find_threshold(confidence, predicted == value[scored], min_precision)
    return SelfTrainingEval(validation, temperature, found, int(scored.sum()))


def assign_labels(
    trainer: Trainer,
    evaluation: SelfTrainingEval,
    empty: np.ndarray,
    task: ClassificationTask,
    options: PseudoLabelOptions,
) -> LabelAssignment:
    """The pseudo-labels of a trained model for rows of `empty`, in the order of the table."""
    if evaluation.threshold is None or not len(empty):
        return NO_LABELS
    predictions = _predictor(trainer).predict(Split(trainer.train.table, empty))
    (values,) = (one.values for one in predictions.values())
    predicted, confidence = predict_with_confidence(values, evaluation.temperature)
    kept = np.flatnonzero(confidence >= evaluation.threshold.confidence)
    if options.class_balanced:
        kept = kept[np.argsort(-confidence[kept], kind="stable")]
        max_labels = np.ceil(task.frequencies * len(kept))
        kept = np.concatenate([kept[predicted[kept] == c][: int(max_labels[c])] for c in range(task.output_size)])
    kept = np.sort(kept)
    return LabelAssignment(empty[kept], predicted[kept])


def _predictor(trainer: Trainer) -> Predictor:
    return Predictor(trainer.network, trainer.preparation, trainer.compute)


def round_record(
    number: int,
    evaluation: SelfTrainingEval,
    given: LabelAssignment,
    before: LabelAssignment,
    task: ClassificationTask,
    options: PseudoLabelOptions,
) -> PseudoLabelRound:
    """The record of the labels of a round and of their expected precision."""
    counts = np.bincount(given.classes, minlength=task.output_size).tolist()
    old = dict(zip(before.rows.tolist(), before.classes.tolist(), strict=True))
    new = dict(zip(given.rows.tolist(), given.classes.tolist(), strict=True))
    entry = PseudoLabelRound(
        number,
        num_labels=len(given.rows),
        labels_by_class=dict(zip(task.classes, counts, strict=True)),
        num_changed=sum(old.get(row) != new.get(row) for row in old.keys() | new.keys()),
        temperature=evaluation.temperature,
    )
    found = evaluation.threshold
    if found is not None:
        reason = None if len(given.rows) else "no row without a label reaches the confidence threshold"
        return replace(
            entry,
            threshold=found.confidence,
            precision=found.precision,
            precision_low=found.precision_low,
            reason=reason,
        )
    reason = f"no confidence threshold reaches a precision of {options.min_precision:.0%}"
    needed = min_validation_rows(options.min_precision)
    if evaluation.rows < needed:
        reason += f": {evaluation.rows} validation rows are too few, at least {needed} are needed"
    return replace(entry, reason=reason)
