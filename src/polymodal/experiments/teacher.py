"""A saved model or ensemble as the teacher of a new model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from polymodal.core.errors import ArtifactError, RecipeError
from polymodal.data.partition import Split
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table
from polymodal.evaluation.class_alignment import have_same_classes, reorder_classes
from polymodal.inference.predictions import Predictions
from polymodal.model.distributions import to_raw_values
from polymodal.model.loading import load
from polymodal.model.run_record import TeacherRecord
from polymodal.recipe.training import DistillationOptions
from polymodal.tasks.base import Task
from polymodal.training.distillation import TeacherTargets

TEACHER_KEY = "training.distillation.teacher"


def predict_teacher_targets(
    options: DistillationOptions, train: Split[Table], tasks: dict[str, Task]
) -> tuple[TeacherTargets, TeacherRecord]:
    """The predictions of the teacher in `options.teacher` for the training rows, and the record for `run.json`.

    The teacher may have other inputs than the student. It also predicts rows without a target. It may have been trained
    on some of the rows.

    Raises:
        RecipeError: the directory holds no model, or the model has other outputs or classes.
        DataError: an input column of the teacher is not in the table.
    """
    folder = Path(options.teacher or "")
    try:
        teacher = load(folder)
    except ArtifactError as error:
        raise RecipeError(TEACHER_KEY, str(error)) from None
    _check_tasks(tasks)
    for name, task in tasks.items():
        theirs = teacher.tasks.get(name)
        if theirs is None:
            raise RecipeError(TEACHER_KEY, f"the teacher predicts {', '.join(teacher.tasks)}, not {name}")
        if not have_same_classes(theirs, task):
            raise RecipeError(
                TEACHER_KEY,
                f"output {name}: the teacher predicts {theirs.options.name} of {theirs.classes}, this model "
                f"{task.options.name} of {task.classes}",
            )
    teacher.open(train.table)
    blocks = [block for _, block in teacher.stream(train.table, CellErrors())]
    predictions = {}
    for name, task in tasks.items():
        predicted = np.concatenate([block[name] for block in blocks])[train.rows]
        values = to_raw_values(task, reorder_classes(predicted, teacher.tasks[name], task))
        predictions[name] = Predictions(values, {}, {})
    return TeacherTargets.from_predictions(predictions, train.rows, options), TeacherRecord(model=str(folder))


def _check_tasks(tasks: dict[str, Task]) -> None:
    for name, task in tasks.items():
        if task.is_generative:
            raise RecipeError(
                TEACHER_KEY,
                f"distillation does not support the {task.space} output {name}; train on the {task.space}s that the "
                "teacher generates",
            )
