"""The validation score that selects the best epoch, and the end of training when it cannot improve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from polymodal.data.partition import Split
from polymodal.inference.predictions import Predictions, mean_task_loss
from polymodal.preparation.preparation import PreparedTable
from polymodal.tasks.base import Task
from polymodal.training.records import Epoch
from polymodal.training.temperature import best_temperature

#: Validation is solved after this many epochs without an error on at least this many rows.
SOLVED_EPOCHS, SOLVED_ROWS = 3, 1000


def loss_weight(rows: int) -> float:
    """The weight of the loss in the validation score, given the number of validation rows.

    A metric such as accuracy is discrete and noisy on few rows; the loss uses the probabilities. The weight is 0.25 for
    up to 100 rows and then falls with the noise: 0.08 for 1,000 rows, 0.025 for 10,000 rows.
    """
    return min(0.25, 2.5 / math.sqrt(max(1, rows)))


def calibrated_loss(task: Task, predictions: Predictions, target: np.ndarray, present: np.ndarray) -> float:
    """The mean loss of class or label predictions at the temperature that minimizes it on these rows; of numbers, the
    mean loss.

    A network that goes on training after its predictions are right becomes overconfident: its loss rises while its
    predictions still improve. A temperature corrects this, and so must not decide which epoch is best (Guo et al.,
    "On Calibration of Modern Neural Networks", 2017, figure 3).
    """
    if task.space not in ("categorical", "binary"):
        return mean_task_loss(task, predictions, target, present)
    values = predictions.values[torch.from_numpy(present)]
    known = task.collate(target[present])
    return best_temperature(lambda temperature: float(task.loss(values / temperature, known).mean()))[1]


@dataclass(frozen=True)
class Validation:
    """score: greater is better. metrics and losses: by output (`answer.accuracy`; `answer`)."""

    score: float
    metrics: dict[str, float]
    losses: dict[str, float]


def validate(tasks: dict[str, Task], predictions: dict[str, Predictions], split: Split[PreparedTable]) -> Validation:
    """Score the predictions of a split: the mean over outputs of the skill in the first metric of each task.

    The skill is the metric if greater is better; otherwise one minus the ratio of the metric to its baseline, the score
    of the best constant prediction. The weighted loss, relative to the baseline loss, is subtracted (`loss_weight`).
    It is the loss at the best temperature (`calibrated_loss`), while `losses` has that of the network as it is.
    Outputs without a target in the validation rows are skipped.
    """
    metrics: dict[str, float] = {}
    losses: dict[str, float] = {}
    skills: list[float] = []
    for name, task in tasks.items():
        value, present = (array[split.rows] for array in split.table.targets[name])
        if not present.any():
            continue
        loss = mean_task_loss(task, predictions[name], value, present)
        if task.is_generative:
            metrics[f"{name}.perplexity"] = math.exp(min(loss, 700.0))
        if (
            task.is_generative and not task.generates_for_selection
        ):  # generating every text would take as long as training
            losses[name] = loss
            skills.append(-loss / max(task.baseline_loss(), 1e-6))
            continue
        scored = task.scored_rows(value, present)
        distribution = task.distribution(predictions[name].values)[scored]
        truth, weight = task.truth(value[scored]), np.ones(int(scored.sum()))
        metric = task.metrics[0]
        score = metric.score(distribution, truth, weight)
        metrics[f"{name}.{metric.name}"], losses[name] = score, loss
        skill = score
        if not metric.greater_is_better:
            constant_predictions = task.baseline_predictions(len(distribution))
            baseline = metric.score(constant_predictions, truth, weight)
            skill = 1 - score / baseline if baseline > 0 else -score
        skill = skill if np.isfinite(skill) else 0.0
        if not task.is_generative:
            calibrated = calibrated_loss(task, predictions[name], value, present)
            skill -= loss_weight(int(present.sum())) * calibrated / max(task.baseline_loss(), 1e-6)
        skills.append(skill)
    return Validation(float(np.mean(skills)) if skills else 0.0, metrics, losses)


def is_solved(tasks: Mapping[str, Task], epochs: Sequence[Epoch], split: Split[PreparedTable]) -> bool:
    """Whether validation cannot improve: the first metric of every task has had its best possible value for the last
    `SOLVED_EPOCHS` epochs, on at least `SOLVED_ROWS` rows.

    With no error on n rows, the error rate is below 3 / n with a confidence of 95% (the rule of three; Hanley &
    Lippman-Hand, "If Nothing Goes Wrong, Is Everything All Right?", 1983), here below 0.3%. On fewer rows a perfect
    score says less, and the loss still chooses among epochs, so training goes on.
    """
    recent = epochs[-SOLVED_EPOCHS:]
    if not tasks or len(recent) < SOLVED_EPOCHS:
        return False
    for name, task in tasks.items():
        metric, (value, present) = task.metrics[0], (array[split.rows] for array in split.table.targets[name])
        best = metric.bounds[1] if metric.greater_is_better else metric.bounds[0]
        reached = [entry.validation.get(f"{name}.{metric.name}") == best for entry in recent]
        if not all(reached) or task.scored_rows(value, present).sum() < SOLVED_ROWS:
            return False
    return True
