"""The validation score by which epochs are compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polymodal.preparation import PreparedTable
from polymodal.tasks.base import Task
from polymodal.training.inference import Decisions, mean_task_loss

LOSS_SHARE = 1e-3  # the loss decides only between epochs whose metrics are (nearly) equal


@dataclass(frozen=True)
class Validation:
    """score: greater is better. metrics and losses: by output (`answer.accuracy`; `answer`)."""

    score: float
    metrics: dict[str, float]
    losses: dict[str, float]


def validate(
    tasks: dict[str, Task], decisions: dict[str, Decisions], prepared: PreparedTable, rows: np.ndarray
) -> Validation:
    """Score the decisions of `rows`: the mean over outputs of the skill in each task's first metric.

    Skill is the metric itself where greater is better, else one minus its ratio to the score of the best constant
    answer; a small share of the loss breaks ties, which are common on small validation sets. An output of which no
    validation row has a target is left out.
    """
    metrics: dict[str, float] = {}
    losses: dict[str, float] = {}
    skills: list[float] = []
    for name, task in tasks.items():
        value, present = prepared.targets[name][0][rows], prepared.targets[name][1][rows]
        if not present.any():
            continue
        loss = mean_task_loss(task, decisions[name], value, present)
        distribution = task.distribution(decisions[name].values)[present]
        truth, weight = task.truth(value[present]), np.ones(int(present.sum()))
        metric = task.metrics[0]
        score = metric.score(distribution, truth, weight)
        metrics[f"{name}.{metric.name}"], losses[name] = score, loss
        skill = score
        if not metric.greater_is_better:
            constant = np.broadcast_to(task.constant(), distribution.shape)
            floor = metric.score(constant, truth, weight)
            skill = 1 - score / floor if floor > 0 else -score
        skills.append((skill if np.isfinite(skill) else 0.0) - LOSS_SHARE * loss)
    return Validation(float(np.mean(skills)) if skills else 0.0, metrics, losses)
