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
    label: index of the class whose probability it holds; `ANSWER` for the prediction, `CONFIDENCE` for its probability
    """

    output: str
    label: int


#: `PredictionColumn.label` of a prediction, and of the probability of the predicted class.
ANSWER, CONFIDENCE = -2, -1


def prediction_columns(tasks: Mapping[str, Task], *, probabilities: bool) -> dict[PredictionColumn, str]:
    """The name of each column: `y` for an output, `y.probability` for its confidence, `y.red` for the class `red`.

    If two columns would have the same name, for example of a class `probability`, the output keeps its name, then the
    confidence does, and the others are called `y.class.probability`. The confidence of an output `y`, beside an output
    `y.probability`, is `y.answer.probability`. The names do not depend on `probabilities`.

    probabilities: with the columns of the classes
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
    return {
        column: names[column]
        for output in tasks
        for column in sorted(one for one in names if one.output == output)
        if probabilities or column.label < 0
    }
