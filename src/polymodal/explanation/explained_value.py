"""The number of a prediction that is explained: the log-odds or probability of a class, or a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.tasks.base import Task

Scale = Literal["log_odds", "probability", "number"]

#: The step of the derivative of a number in units of its column with respect to the standardized number.
_STEP = 1e-4


@dataclass(frozen=True)
class ExplainedValue:
    """Which number of the predictions of an output is explained.

    target: position among the values of a prediction; None: the most probable class or label of each row
    """

    output: str
    task: Task
    scale: Scale
    target: int | None

    def positions(self, values: Tensor) -> np.ndarray:
        """The position of the explained value of each row, `[rows]`, from its raw prediction `[rows, k]`."""
        if self.target is not None:
            return np.full(len(values), self.target)
        return np.asarray(self.task.distribution(values).argmax(axis=1))

    def of(self, values: Tensor, positions: np.ndarray) -> np.ndarray:
        """The explained number of each row, `[rows]` float64, from its raw prediction `[rows, k]`."""
        rows = np.arange(len(values))
        if self.scale != "log_odds":
            return np.asarray(self.task.distribution(values)[rows, positions])
        logits, at = values.detach().double().cpu(), torch.from_numpy(positions)[:, None]
        own = logits.gather(1, at)[:, 0]
        if self.task.space == "binary":
            return own.numpy()
        return (own - logits.scatter(1, at, -torch.inf).logsumexp(dim=1)).numpy()

    def slopes(self, values: Tensor, position: int) -> Tensor:
        """The derivative of the explained number at `position` with respect to the raw prediction, `[rows, k]`."""
        at = np.full(len(values), position)
        slopes = torch.zeros_like(values)
        if self.scale == "number":
            step = torch.zeros_like(values, dtype=torch.float64)
            step[:, position] = _STEP
            higher, lower = self.of(values.double() + step, at), self.of(values.double() - step, at)
            slopes[:, position] = torch.from_numpy((higher - lower) / (2 * _STEP)).to(values)
            return slopes
        if self.task.space == "categorical":
            others = values.clone()
            others[:, position] = -torch.inf
            slopes = -others.softmax(dim=1)
        slopes[:, position] = 1
        if self.scale == "probability":
            probability = torch.from_numpy(self.of(values, at)).to(values)[:, None]
            slopes = slopes * probability * (1 - probability)
        return slopes


def explained_value(
    tasks: Mapping[str, Task], output: str | None, target: Any = None, scale: Scale | None = None
) -> ExplainedValue:
    """The number that is explained.

    output: default: the first output
    target: a class, a label, or the column of a number; default: the most probable class or label of each row
    scale: default: `log_odds` of classes and labels, `number` of numbers

    Raises:
        RecipeError: there is no such output or target, the scale does not fit the output, or the output has no
            probabilities or numbers (texts, events in time, embeddings).
    """
    output = checked_output(tasks, output)
    task = tasks[output]
    if task.is_generative or task.is_embedding or task.grid is not None:
        raise RecipeError(
            "output", f"{output!r} predicts no class, label or number; only predictions of these are explained"
        )
    fitting: tuple[Scale, ...] = ("log_odds", "probability") if task.has_probabilities else ("number",)
    if scale is not None and scale not in fitting:
        raise RecipeError("scale", f"{scale} does not fit the output {output!r}; use {' or '.join(fitting)}")
    return ExplainedValue(output, task, scale or fitting[0], _position(task, target))


def checked_output(tasks: Mapping[str, Task], output: str | None) -> str:
    """The output, by default the first.

    Raises:
        RecipeError: there is no such output, or none at all.
    """
    if not tasks:
        raise RecipeError("output", "the model has no output")
    output = output or next(iter(tasks))
    if output not in tasks:
        raise RecipeError("output", f"there is no output {output!r}; {did_you_mean(output, tasks)}")
    return output


def _position(task: Task, target: Any) -> int | None:
    labels = task.class_labels
    if target is None:
        if len(labels) > 1 and not task.has_probabilities:
            raise RecipeError("target", f"the output has several numbers; set one of {', '.join(map(repr, labels))}")
        return None if task.has_probabilities else 0
    same = [at for at, label in enumerate(labels) if type(label) is type(target) and label == target]
    named = [at for at, name in enumerate(task.classes) if name == str(target)]
    if not same and not named:
        raise RecipeError("target", f"{target!r} is not predicted; {did_you_mean(str(target), task.classes)}")
    return (same or named)[0]
