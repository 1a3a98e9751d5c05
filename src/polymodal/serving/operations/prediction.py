"""Predictions of rows, with probabilities where the model has them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from polymodal.data.table.cell_errors import CellErrors
from polymodal.serving.operations.base import Operation, with_bad_cells
from polymodal.serving.rows import Row
from polymodal.serving.served_model import ServedModel
from polymodal.tasks.base import Task


@dataclass(frozen=True)
class PredictRows(Operation):
    """The answer of a row: for each output the predicted `value`. For one class of several, its `probability`; for
    classes and labels, `probabilities`: a list of each `value` and its `probability`.

    probabilities: whether the answers list the probabilities of all classes
    """

    probabilities: bool = True

    def compute(self, served: ServedModel, rows: list[Row]) -> list[Any]:
        model, errors = served.load(), CellErrors()
        answers: list[dict[str, Any]] = []
        for numbers, distributions in model.stream(model.open(rows), errors):
            block: list[dict[str, Any]] = [{} for _ in numbers]
            for name, distribution in distributions.items():
                for row, answer in zip(block, self._answers(model.tasks[name], distribution), strict=True):
                    row[name] = answer
            answers += block
        return with_bad_cells(answers, errors)

    def joins(self, served: ServedModel) -> bool:
        return not served.draws_texts

    def _answers(self, task: Task, distribution: np.ndarray) -> list[dict[str, Any]]:
        answers = [{"value": json_value(value)} for value in task.predict(distribution)]
        if not task.has_probabilities or task.grid is not None:  # events have scores of their own
            return answers
        labels = [json_value(label) for label in task.class_labels]
        for answer, shares in zip(answers, distribution.tolist(), strict=True):
            if task.space == "categorical":
                answer["probability"] = json_value(max(shares))
            if self.probabilities:
                answer["probabilities"] = [
                    {"value": label, "probability": json_value(share)}
                    for label, share in zip(labels, shares, strict=True)
                ]
        return answers


def json_value(value: Any) -> Any:
    """A value for JSON, which has no NaN and no infinity: they are null.

    Example:
        >>> json_value([np.float32(0.5), float("nan"), "a"])
        [0.5, None, 'a']
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): json_value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(inner) for inner in value]
    return value
