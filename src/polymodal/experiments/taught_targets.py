"""Targets of estimators that learn from a teacher: the targets of the table mixed with its predictions."""

from __future__ import annotations

import numpy as np

from polymodal.data.partition import Split
from polymodal.estimators.base import EstimatorTarget
from polymodal.experiments.experiment import Experiment
from polymodal.experiments.member_rows import KnownTarget, MemberRows
from polymodal.experiments.teacher import predict_teacher_targets
from polymodal.inference.combination import to_probabilities
from polymodal.model.run_record import TeacherRecord
from polymodal.tasks.base import Task

#: A class with a smaller share of the target of a row is left out.
MIN_SHARE = 0.01


class TaughtTargets:
    """The predictions of the teacher of an experiment for the rows on which members are compared.

    The target of a row is (1 - w) y + w t, with the target y, the prediction t of the teacher, and the weight w of
    `training.distillation`; t alone, with the weight w, in a row without a target (Hinton, Vinyals & Dean, "Distilling
    the Knowledge in a Neural Network", 2015). A row of classes counts once for each class, with the share of the class
    as its weight.
    """

    def __init__(self, experiment: Experiment, rows: MemberRows) -> None:
        """
        Raises:
            RecipeError: the directory of the teacher holds no model, or the model has other outputs or classes.
            DataError: an input column of the teacher is not in the table.
        """
        options, tasks = experiment.recipe.training.distillation, experiment.preparation.tasks
        self.weight, self.record = options.weight, TeacherRecord(model=options.teacher)
        tables = [experiment.tables[name].table for name in ("train", "validation")]
        parts = []
        for table, part in zip(tables, rows.parts, strict=False):
            targets, _ = predict_teacher_targets(options, Split(table, part.rows), tasks)
            parts.append(targets.values)
        self._values = {name: np.concatenate([one[name].numpy() for one in parts]) for name in tasks}

    def target(self, rows: MemberRows, name: str, task: Task) -> tuple[np.ndarray, EstimatorTarget]:
        """The positions of the rows that are fitted, in ascending order, and their targets. A position occurs once for
        each class."""
        own = rows.known_target(name, task)
        taught = to_probabilities(self._values[name], task.space)
        weight = own.weight * np.where(own.known, 1.0, self.weight)
        if task.space != "categorical":
            values = np.where(own.known[:, None], own.values, 0.0)
            mixed = np.where(own.known[:, None], (1 - self.weight) * values + self.weight * taught, taught)
            positions = np.flatnonzero(weight > 0)
            return positions, EstimatorTarget(
                task.space, task.output_size, mixed[positions], weight[positions], _taken(rows.groups(), positions)
            )
        shares = self._shares(own, taught)
        class_weights = np.asarray(task.weights)  # type: ignore[attr-defined]
        positions, classes = np.nonzero(shares * weight[:, None] * class_weights)
        counts = weight[positions] * class_weights[classes] * shares[positions, classes]
        groups = _taken(np.arange(len(rows)) if rows.groups() is None else rows.groups(), positions)
        return positions, EstimatorTarget("categorical", task.output_size, classes.astype(np.int64), counts, groups)

    def _shares(self, own: KnownTarget, taught: np.ndarray) -> np.ndarray:
        """The share of each class in the target of each row, `[rows, classes]`."""
        truth = np.zeros_like(taught)
        rows = np.flatnonzero(own.known)
        truth[rows, own.values[rows]] = 1
        shares = np.where(own.known[:, None], (1 - self.weight) * truth + self.weight * taught, taught)
        shares[shares < MIN_SHARE] = 0
        return np.asarray(shares / shares.sum(1, keepdims=True))


def _taken(groups: np.ndarray | None, positions: np.ndarray) -> np.ndarray | None:
    return None if groups is None else groups[positions]
