"""Which candidates decide together: greedy selection of an ensemble, and stacking, on out-of-fold answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from polymodal.model.distributions import to_raw_values
from polymodal.nn.fusion.combiner import Combiner
from polymodal.tasks.base import Task
from polymodal.tuning.candidate import Candidate, Distributions
from polymodal.tuning.folds import Folds

#: Picks of the greedy selection at most; a candidate may be picked again, which raises its weight.
MAX_PICKS = 12
#: Candidates that are stacked: each adds weights that the same rows must tell.
MAX_STACKED = 5


@dataclass(frozen=True)
class EnsembleSelection:
    """An ensemble of candidates.

    method: `weighted` (average of probabilities or numbers, weights by greedy selection) or `stack`
    members: the candidates, the best first; weights: the share of each, which sum to 1 (equal for `stack`)
    distributions: out-of-fold answers of the ensemble, by output
    score: over all rows, as `Folds.score`; best: that of the best single member
    """

    method: Literal["weighted", "stack"]
    members: list[Candidate]
    weights: list[float]
    distributions: Distributions
    score: float
    best: float


def completed_candidates(candidates: Sequence[Candidate], folds: Folds) -> list[Candidate]:
    """The networks that were run on every fold, the best first; of equals the quicker to train."""
    found = [one for one in candidates if one.kind == "trial" and one.num_folds == len(folds) and np.isfinite(one.score)]
    return sorted(found, key=lambda one: (-one.score, one.seconds))


def select_ensemble(candidates: Sequence[Candidate], folds: Folds, *, size: int = 6) -> EnsembleSelection | None:
    """The ensemble of at most `size` candidates that decides best out of fold; None where no candidate is whole.

    Greedy selection with replacement (Caruana et al., "Ensemble Selection from Libraries of Models", 2004): from the
    best candidate on, add the one with which the average scores highest, and keep the best average that was met. So
    its score is never below that of the best single candidate. Stacking (Wolpert, "Stacked Generalization", 1992) of
    the members, fitted on the rows of the other folds, is taken instead where it scores higher still.
    """
    usable = completed_candidates(candidates, folds)
    if not usable:
        return None
    members, weights, mixed = greedy_ensemble(usable, folds, size=size)
    score, best = folds.score(mixed), usable[0].score
    if len(members) > 1:
        top = members[:MAX_STACKED]
        stacked = stack_out_of_fold([one.distributions for one in top], folds)
        if folds.score(stacked) > score:
            return EnsembleSelection("stack", top, [1 / len(top)] * len(top), stacked, folds.score(stacked), best)
    return EnsembleSelection("weighted", members, weights, mixed, score, best)


def greedy_ensemble(
    candidates: Sequence[Candidate], folds: Folds, *, size: int
) -> tuple[list[Candidate], list[float], Distributions]:
    """The members that the greedy selection picks among candidates of every fold, the heaviest first, their weights,
    and their mean."""
    ordered = sorted(candidates, key=lambda one: (-one.score, one.seconds))
    counts = greedy_counts([one.distributions for one in ordered], folds, size=size)
    chosen = sorted(counts, key=lambda place: (-counts[place], place))
    members = [ordered[place] for place in chosen]
    weights = [counts[place] / sum(counts.values()) for place in chosen]
    return members, weights, weighted_average([one.distributions for one in members], weights, folds)


def greedy_counts(
    distributions: Sequence[Distributions], folds: Folds, *, size: int, rows: np.ndarray | None = None
) -> dict[int, int]:
    """How often each place of `distributions` (the best first) is picked, on `rows` (None: all).

    Picking goes on where a step gains nothing, since a small share of something weak may take two steps; the counts
    are those of the best moment.
    """
    counts = {0: 1}
    total = dict(distributions[0])
    best, best_counts = folds.score(total, rows), dict(counts)
    for picks in range(1, MAX_PICKS):
        found = []
        for place, one in enumerate(distributions):
            if place not in counts and len(counts) == size:
                continue
            mixed = weighted_average([total, one], [picks / (picks + 1), 1 / (picks + 1)], folds)
            found.append((folds.score(mixed, rows), -place, mixed))
        score, place, total = max(found, key=lambda each: each[:2])
        counts[-place] = counts.get(-place, 0) + 1
        if score > best:
            best, best_counts = score, dict(counts)
    return best_counts


def weighted_average(distributions: Sequence[Distributions], weights: Sequence[float], folds: Folds) -> Distributions:
    """The weighted mean of probabilities, or of numbers on their task's own scale, by output."""
    found = {}
    for name, task in folds.tasks.items():
        parts = [one[name] for one in distributions]
        if task.space == "real":
            values = sum(weight * _values(task, part) for weight, part in zip(weights, parts, strict=True))
            found[name] = task.distribution(values)  # type: ignore[arg-type]  # sum of tensors
        else:
            found[name] = np.tensordot(np.asarray(weights), np.stack(parts), 1)
    return found


def stack_out_of_fold(distributions: Sequence[Distributions], folds: Folds) -> Distributions:
    """Each fold's rows decided by a linear layer over all decisions that was fitted on the rows of the other folds."""
    found = folds.reference.empty()
    for name, task in folds.tasks.items():
        values = [_values(task, one[name]) for one in distributions]
        target, present = folds.reference.truth.targets[name]
        for fold in range(len(folds)):
            combiner = Combiner("stack", [str(place) for place in range(len(values))])
            combiner.prepare({name: task.output_size})
            fit_combiner(combiner, name, task, values, target, present & (folds.fold_of != fold))
            rows = torch.from_numpy(folds.fold_of == fold)
            here = [torch.ones(int(rows.sum()))] * len(values)
            with torch.no_grad():
                decided = combiner([value[rows] for value in values], here, task.space, name)
            found[name][rows.numpy()] = task.distribution(decided)
    return found


def fit_combiner(
    combiner: Combiner, name: str, task: Task, values: Sequence[torch.Tensor], target: np.ndarray, rows: np.ndarray
) -> None:
    """Fit the combination of decided `values [all rows, k]` of each member on `rows` (bool) that have the target."""
    known = torch.from_numpy(rows)
    truth = torch.from_numpy(target[rows])
    combiner.calibrate(
        {view: value[known] for view, value in zip(combiner.views, values, strict=True)},
        {view: torch.ones(len(truth)) for view in combiner.views},
        lambda decided: task.loss(decided, truth).mean(),
        task.space,
        name,
    )


def _values(task: Task, distribution: np.ndarray) -> torch.Tensor:
    return to_raw_values(task, distribution)
