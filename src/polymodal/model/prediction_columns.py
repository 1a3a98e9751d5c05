"""Names of the columns of predictions: no two are the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from polymodal.tasks.base import Task


@dataclass(frozen=True, order=True)
class PredictionColumn:
    """A column of predictions.

    output: the output that it belongs to
    label: index of the class whose probability it holds; `ANSWER` for the prediction, `CONFIDENCE` for its probability,
        `SET` for the conformal set, `LOW` and `HIGH` for the ends of the conformal interval
    """

    output: str
    label: int


#: `PredictionColumn.label` of a prediction, of the probability of the predicted class, and of conformal sets.
ANSWER, CONFIDENCE, SET, LOW, HIGH = -9, -8, -3, -2, -1


def prediction_columns(
    tasks: Mapping[str, Task], *, probabilities: bool, sets: bool = False
) -> dict[PredictionColumn, str]:
    """The name of each column: `y` for an output, `y.probability` for its confidence, `y.red` for the class `red`.

    If two columns would have the same name, for example of a class `probability`, the output keeps its name, then the
    confidence does, and the others are called `y.class.probability`. The confidence of an output `y`, beside an output
    `y.probability`, is `y.answer.probability`. The names do not depend on `probabilities` and `sets`.

    probabilities: with the columns of the classes
    sets: with the columns `y.set` of conformal sets, and `y.low` and `y.high` of intervals; `y.conformal.set` if a
        class is called `set`
    """
    confidences = {
        PredictionColumn(name, CONFIDENCE): "probability" for name, task in tasks.items() if task.space == "categorical"
    }
    labels = {
        PredictionColumn(name, index): str(label)
        for name, task in tasks.items()
        if task.has_probabilities and task.grid is None  # events have their own score
        for index, label in enumerate(task.classes)
    }
    names = {PredictionColumn(name, ANSWER): name for name in tasks}
    for group, infix in ((confidences, ".answer"), (labels, ".class")):
        short = {column: f"{column.output}.{last}" for column, last in group.items()}
        count = Counter([*names.values(), *short.values()])
        names |= {column: name for column, name in short.items() if count[name] == 1}
        taken = set(names.values())
        for column, last in group.items():
            if column not in names:
                start = f"{column.output}{infix}"
                while f"{start}.{last}" in taken:
                    start += infix
                names[column] = f"{start}.{last}"
                taken.add(names[column])
    for column, last in _set_columns(tasks).items() if sets else ():
        start = column.output
        while f"{start}.{last}" in names.values():
            start += ".conformal"
        names[column] = f"{start}.{last}"
    return {
        column: names[column]
        for output in tasks
        for column in sorted(one for one in names if one.output == output)
        if probabilities or column.label < 0
    }


def _set_columns(tasks: Mapping[str, Task]) -> dict[PredictionColumn, str]:
    """The last parts of the names of columns with conformal sets."""
    found: dict[PredictionColumn, str] = {}
    for name, task in tasks.items():
        ends = {LOW: "low", HIGH: "high"} if task.space == "real" else {SET: "set"}
        found |= {PredictionColumn(name, label): last for label, last in ends.items()}
    return found
