"""A saved model, or an ensemble of them, as the teacher of a smaller one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from polymodal.core.errors import ArtefactError, RecipeError
from polymodal.data.partition import Split
from polymodal.data.table.cell_errors import Faults
from polymodal.data.table.table import Table
from polymodal.evaluation.class_alignment import aligned, same_classes
from polymodal.inference.decisions import Decisions
from polymodal.model.distributions import decision_values
from polymodal.model.loading import load
from polymodal.model.run_record import TeacherRecord
from polymodal.recipe.training import DistillationOptions
from polymodal.tasks.base import Task
from polymodal.training.distillation import Lessons

PATH = "training.distillation.teacher"


def saved_teacher(
    options: DistillationOptions, train: Split[Table], tasks: dict[str, Task]
) -> tuple[Lessons, TeacherRecord]:
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
    except ArtefactError as error:
        raise RecipeError(PATH, str(error)) from None
    _check_decides(tasks)
    for name, task in tasks.items():
        theirs = teacher.tasks.get(name)
        if theirs is None:
            raise RecipeError(PATH, f"the teacher decides {', '.join(teacher.tasks)}, not {name}")
        if not same_classes(theirs, task):
            raise RecipeError(
                PATH,
                f"for {name} the teacher decides {theirs.options.name} of {theirs.classes}, this model "
                f"{task.options.name} of {task.classes}",
            )
    teacher.open(train.table)
    blocks = [block for _, block in teacher.stream(train.table, Faults())]
    decisions = {}
    for name, task in tasks.items():
        decided = np.concatenate([block[name] for block in blocks])[train.rows]
        values = decision_values(task, aligned(decided, teacher.tasks[name], task))
        decisions[name] = Decisions(values, {}, {})
    return Lessons.of(decisions, train.rows, options), TeacherRecord(model=str(folder))


def _check_decides(tasks: dict[str, Task]) -> None:
    for name, task in tasks.items():
        if task.writes:
            raise RecipeError(PATH, f"{name} is a text; to learn from a teacher's texts, train on what it predicts")
