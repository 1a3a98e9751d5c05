"""Ensemble selection: greedy selection and stacking on out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from polymodal.evaluation.greedy_selection import greedy_selection
from polymodal.model.distributions import to_raw_values
from polymodal.nn.fusion.combiner import Combiner
from polymodal.tasks.base import Task
from polymodal.tuning.candidate import Candidate, Distributions
from polymodal.tuning.folds import Folds

#: Maximum number of picks of the greedy selection; a candidate can be picked several times, which increases its weight.
MAX_PICKS = 12
#: Maximum number of stacked candidates, since each adds weights that are fitted on the same rows.
MAX_STACKED = 5


@dataclass(frozen=True)
class EnsembleSelection:
    """An ensemble of candidates.

    method: `weighted` (weighted average of probabilities or numbers, weights by greedy selection) or `stack`
    members: the candidates, best first; weights: their weights, which sum to 1 (equal for `stack`)
    distributions: out-of-fold distributions of the ensemble, by output
    score: `Folds.score` over all rows; best_single_score: that of the best single candidate
    """

    method: Literal["weighted", "stack"]
    members: list[Candidate]
    weights: list[float]
    distributions: Distributions
    score: float
    best_single_score: float


def completed_candidates(candidates: Sequence[Candidate], folds: Folds) -> list[Candidate]:
    """The trials that were run on every fold, best first; on ties, the fastest to train first."""
    result = [
        one for one in candidates if one.kind == "trial" and one.num_folds == len(folds) and np.isfinite(one.score)
    ]
    return sorted(result, key=lambda one: (-one.score, one.seconds))


def select_ensemble(candidates: Sequence[Candidate], folds: Folds, *, size: int = 6) -> EnsembleSelection | None:
    """The ensemble of at most `size` candidates with the best out-of-fold score; None if no candidate is complete.

    The greedy selection (`evaluation.greedy_selection`) starts with the best candidate, so its score is never below
    that of the best single candidate. Stacking of the members (Wolpert, "Stacked
    Generalization", 1992), fitted on the rows of the other folds, is used instead if its score is higher.
    """
    complete = completed_candidates(candidates, folds)
    if not complete:
        return None
    members, weights, averaged = greedy_ensemble(complete, folds, size=size)
    score, best = folds.score(averaged), complete[0].score
    if len(members) > 1:
        top = members[:MAX_STACKED]
        stacked = stack_out_of_fold([one.distributions for one in top], folds)
        if folds.score(stacked) > score:
            return EnsembleSelection("stack", top, [1 / len(top)] * len(top), stacked, folds.score(stacked), best)
    return EnsembleSelection("weighted", members, weights, averaged, score, best)


def greedy_ensemble(
    candidates: Sequence[Candidate], folds: Folds, *, size: int
) -> tuple[list[Candidate], list[float], Distributions]:
    """Greedy selection among complete candidates: the members in descending order of weight, their weights, and their
    weighted average."""
    ordered = sorted(candidates, key=lambda one: (-one.score, one.seconds))
    counts = greedy_counts([one.distributions for one in ordered], folds, size=size)
    chosen = sorted(counts, key=lambda index: (-counts[index], index))
    members = [ordered[index] for index in chosen]
    weights = [counts[index] / sum(counts.values()) for index in chosen]
    return members, weights, weighted_average([one.distributions for one in members], weights, folds)


def greedy_counts(
    distributions: Sequence[Distributions], folds: Folds, *, size: int, rows: np.ndarray | None = None
) -> dict[int, int]:
    """How often the greedy selection picks each index of `distributions` (best first), on `rows` (None: all)."""
    return greedy_selection(
        distributions,
        lambda total, one, share: weighted_average([total, one], [1 - share, share], folds),
        lambda averaged: folds.score(averaged, rows),
        max_members=size,
        max_picks=MAX_PICKS,
    )


def weighted_average(distributions: Sequence[Distributions], weights: Sequence[float], folds: Folds) -> Distributions:
    """The weighted average of probabilities, or of numbers on the scale of the task, by output."""
    result = {}
    for name, task in folds.tasks.items():
        parts = [one[name] for one in distributions]
        if task.space == "real":
            values = sum(weight * _values(task, part) for weight, part in zip(weights, parts, strict=True))
            result[name] = task.distribution(values)  # type: ignore[arg-type]  # sum of tensors
        else:
            result[name] = np.tensordot(np.asarray(weights), np.stack(parts), 1)
    return result


def stack_out_of_fold(distributions: Sequence[Distributions], folds: Folds) -> Distributions:
    """Stacked predictions: each fold is predicted by a linear layer that was fitted on the rows of the other folds."""
    result = folds.reference.empty()
    for name, task in folds.tasks.items():
        values = [_values(task, one[name]) for one in distributions]
        target, present = folds.reference.truth.targets[name]
        for fold in range(len(folds)):
            combiner = Combiner("stack", [str(index) for index in range(len(values))])
            combiner.prepare({name: task.output_size})
            fit_combiner(combiner, name, task, values, target, present & (folds.fold_of != fold))
            rows = torch.from_numpy(folds.fold_of == fold)
            present_weights = [torch.ones(int(rows.sum()))] * len(values)
            with torch.no_grad():
                combined = combiner([value[rows] for value in values], present_weights, task.space, name)
            result[name][rows.numpy()] = task.distribution(combined)
    return result


def fit_combiner(
    combiner: Combiner, name: str, task: Task, values: Sequence[torch.Tensor], target: np.ndarray, rows: np.ndarray
) -> None:
    """Fit a combiner on the predictions `values [all rows, k]` of each member, on `rows` (bool) with known targets."""
    known = torch.from_numpy(rows)
    truth = torch.from_numpy(target[rows])
    combiner.calibrate(
        {branch: value[known] for branch, value in zip(combiner.branches, values, strict=True)},
        {branch: torch.ones(len(truth)) for branch in combiner.branches},
        lambda combined: task.loss(combined, truth).mean(),
        task.space,
        name,
    )


def _values(task: Task, distribution: np.ndarray) -> torch.Tensor:
    return to_raw_values(task, distribution)
