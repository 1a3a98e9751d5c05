"""A saved model, or an ensemble of them, as the teacher of a smaller one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from polymodal.core.errors import ArtifactError, RecipeError
from polymodal.data.partition import Split
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table
from polymodal.evaluation.class_alignment import reorder_classes, have_same_classes
from polymodal.inference.predictions import Predictions
from polymodal.model.distributions import to_raw_values
from polymodal.model.loading import load
from polymodal.model.run_record import TeacherRecord
from polymodal.recipe.training import DistillationOptions
from polymodal.tasks.base import Task
from polymodal.training.distillation import TeacherTargets

PATH = "training.distillation.teacher"


def predict_teacher_targets(
    options: DistillationOptions, train: Split[Table], tasks: dict[str, Task]
) -> tuple[TeacherTargets, TeacherRecord]:
    """What the teacher in the directory `options.teacher` decides for the training rows, and what the run records.

    The teacher may read other inputs than the student, and its decisions are those of the rows it was perhaps trained
    on itself: rows without a target, which it never learned from, are taught too.

    Raises:
        RecipeError: there is no model in the directory, or it decides other outputs or classes.
        DataError: a column that the teacher reads is not in the table.
    """
    folder = Path(options.teacher or "")
    try:
        teacher = load(folder)
    except ArtifactError as error:
        raise RecipeError(PATH, str(error)) from None
    _check_tasks(tasks)
    for name, task in tasks.items():
        theirs = teacher.tasks.get(name)
        if theirs is None:
            raise RecipeError(PATH, f"the teacher decides {', '.join(teacher.tasks)}, not {name}")
        if not have_same_classes(theirs, task):
            raise RecipeError(
                PATH,
                f"for {name} the teacher decides {theirs.options.name} of {theirs.classes}, this model "
                f"{task.options.name} of {task.classes}",
            )
    teacher.open(train.table)
    blocks = [block for _, block in teacher.stream(train.table, CellErrors())]
    decisions = {}
    for name, task in tasks.items():
        decided = np.concatenate([block[name] for block in blocks])[train.rows]
        values = to_raw_values(task, reorder_classes(decided, teacher.tasks[name], task))
        decisions[name] = Predictions(values, {}, {})
    return TeacherTargets.from_predictions(decisions, train.rows, options), TeacherRecord(model=str(folder))


def _check_tasks(tasks: dict[str, Task]) -> None:
    for name, task in tasks.items():
        if task.is_generative:
            raise RecipeError(PATH, f"{name} is a text; to learn from a teacher's texts, train on what it predicts")
