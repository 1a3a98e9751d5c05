"""Correction of selection bias: the score of the best of many candidates is optimistic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polymodal.tuning.candidate import Candidate
from polymodal.tuning.folds import Folds
from polymodal.tuning.selection import completed_candidates, greedy_counts, weighted_average

#: Number of bootstrap resamples on which the selection is repeated.
BOOTSTRAP_SAMPLES = 200
#: The greedy selection is repeated on fewer resamples and fewer candidates, since it computes about 100 scores.
ENSEMBLE_BOOTSTRAP_SAMPLES = 60
MAX_ENSEMBLE_CANDIDATES = 8


@dataclass(frozen=True)
class CorrectedScore:
    """A score corrected for selection bias, in the direction of the metric.

    value, low, high: mean and 95 % interval over the bootstrap resamples
    """

    value: float
    low: float
    high: float


def correct_selection_bias(
    candidates: Sequence[Candidate], folds: Folds, seed: int = 0, *, size: int = 6
) -> dict[str, CorrectedScore]:
    """Corrected scores of the selection procedures `best` (best candidate) and `ensemble` (greedy selection).

    Rows are drawn with replacement (by groups, if the recipe has a group column). The selection is made on the drawn
    rows and scored on the rows that were not drawn, for many resamples (Tsamardinos et al., "Bootstrapping the
    out-of-sample predictions for efficient and accurate cross-validation", 2018). No model is trained again. The result
    is empty if no candidate is complete.
    """
    complete = completed_candidates(candidates, folds)
    if not complete:
        return {}
    generator = np.random.default_rng(seed)
    pools = {"best": complete, "ensemble": complete[:MAX_ENSEMBLE_CANDIDATES]}
    scores_by_procedure: dict[str, list[float]] = {name: [] for name in pools}
    for number in range(BOOTSTRAP_SAMPLES):
        drawn, out_of_bag = _draw(folds, generator)
        if len(out_of_bag) == 0:
            continue
        scores = [folds.score(one.distributions, drawn) for one in complete]
        best = complete[int(np.nanargmax(scores))] if np.isfinite(scores).any() else complete[0]
        scores_by_procedure["best"].append(folds.score(best.distributions, out_of_bag))
        if number < ENSEMBLE_BOOTSTRAP_SAMPLES:
            pool = [one for _, one in sorted(zip(scores, complete, strict=True), key=lambda pair: -pair[0])]
            parts = [one.distributions for one in pool[:MAX_ENSEMBLE_CANDIDATES]]
            counts = greedy_counts(parts, folds, size=size, rows=drawn)
            weights = [count / sum(counts.values()) for count in counts.values()]
            scores_by_procedure["ensemble"].append(
                folds.score(weighted_average([parts[index] for index in counts], weights, folds), out_of_bag)
            )
    return {name: _summary(values, folds) for name, values in scores_by_procedure.items()}


def _draw(folds: Folds, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap rows (drawn with replacement), and the rows that were not drawn."""
    groups = folds.reference.groups
    groups = np.arange(len(folds.fold_of)) if groups is None else groups
    names, index = np.unique(groups, return_inverse=True)
    order = np.argsort(index, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(index))])
    chosen = generator.integers(0, len(names), len(names))
    drawn = np.concatenate([order[starts[one] : starts[one + 1]] for one in chosen])
    return drawn, np.flatnonzero(~np.isin(index, chosen))


def _summary(values: list[float], folds: Folds) -> CorrectedScore:
    sign = 1 if folds.metric.greater_is_better else -1
    finite = sign * np.array([value for value in values if np.isfinite(value)])
    if len(finite) == 0:
        return CorrectedScore(float("nan"), float("nan"), float("nan"))
    low, high = np.percentile(finite, [2.5, 97.5])
    return CorrectedScore(float(finite.mean()), float(low), float(high))
