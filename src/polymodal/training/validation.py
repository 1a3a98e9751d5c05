"""The validation score by which epochs are compared."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from polymodal.data.partition import Split
from polymodal.inference.predictions import Predictions, mean_task_loss
from polymodal.preparation.preparation import PreparedTable
from polymodal.tasks.base import Task


def loss_weight(rows: int) -> float:
    """How much the loss counts beside the metric when epochs are compared on so many validation rows.

    A metric such as accuracy moves in steps of one row and is noisy on few rows; the loss uses the probabilities. So
    the loss counts a quarter on up to 100 rows, then falls as the noise does: 0.08 at 1,000 rows, 0.025 at 10,000.
    """
    return min(0.25, 2.5 / math.sqrt(max(1, rows)))


@dataclass(frozen=True)
class Validation:
    """score: greater is better. metrics and losses: by output (`answer.accuracy`; `answer`)."""

    score: float
    metrics: dict[str, float]
    losses: dict[str, float]


def validate(tasks: dict[str, Task], decisions: dict[str, Predictions], split: Split[PreparedTable]) -> Validation:
    """Score the decisions of a split: the mean over outputs of the skill in each task's first metric.

    Skill is the metric itself where greater is better, else one minus its ratio to the score of the best constant
    answer. From it a share of the loss is taken off, in units of the loss at chance (`loss_share`). An output of
    which no validation row has a target is left out.
    """
    metrics: dict[str, float] = {}
    losses: dict[str, float] = {}
    skills: list[float] = []
    for name, task in tasks.items():
        value, present = (array[split.rows] for array in split.table.targets[name])
        if not present.any():
            continue
        loss = mean_task_loss(task, decisions[name], value, present)
        if task.is_generative:
            metrics[f"{name}.perplexity"] = math.exp(min(loss, 700.0))
        if task.is_generative and not task.generates_for_selection:  # writing every text would take as long as training
            losses[name] = loss
            skills.append(-loss / max(task.baseline_loss(), 1e-6))
            continue
        distribution = task.distribution(decisions[name].values)[present]
        truth, weight = task.truth(value[present]), np.ones(int(present.sum()))
        metric = task.metrics[0]
        score = metric.score(distribution, truth, weight)
        metrics[f"{name}.{metric.name}"], losses[name] = score, loss
        skill = score
        if not metric.greater_is_better:
            constant = task.baseline_predictions(len(distribution))
            floor = metric.score(constant, truth, weight)
            skill = 1 - score / floor if floor > 0 else -score
        share = 0.0 if task.is_generative else loss_weight(int(present.sum())) / max(task.baseline_loss(), 1e-6)
        skills.append((skill if np.isfinite(skill) else 0.0) - share * loss)
    return Validation(float(np.mean(skills)) if skills else 0.0, metrics, losses)
