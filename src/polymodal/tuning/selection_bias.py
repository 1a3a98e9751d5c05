"""What the best of many is worth: its score after taking away what the choice itself flatters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polymodal.tuning.candidate import Candidate
from polymodal.tuning.folds import Folds
from polymodal.tuning.selection import weighted_average, greedy_counts, completed_candidates

#: Times that the choice is made again on drawn rows.
BOOTSTRAP_SAMPLES = 200
#: The greedy selection is repeated on fewer draws, among the best few: it costs a hundred scores each time.
ENSEMBLE_BOOTSTRAP_SAMPLES = 60
MAX_ENSEMBLE_CANDIDATES = 8


@dataclass(frozen=True)
class CorrectedScore:
    """A score that the choice does not flatter, in the metric's own direction.

    value, low, high: mean and 95 % interval over the draws
    """

    value: float
    low: float
    high: float


def correct_selection_bias(candidates: Sequence[Candidate], folds: Folds, seed: int = 0, *, size: int = 6) -> dict[str, CorrectedScore]:
    """The scores of `best` (choose the best candidate) and `ensemble` (choose greedily) as procedures.

    Rows are drawn with replacement (whole groups where the recipe names a group); the choice is made on the drawn rows
    and scored on the rows that were not drawn, many times (Tsamardinos et al., "Bootstrapping the out-of-sample
    predictions for efficient and accurate cross-validation", 2018). No model is trained again. Empty where no
    candidate is whole.
    """
    usable = completed_candidates(candidates, folds)
    if not usable:
        return {}
    draw = np.random.default_rng(seed)
    pools = {"best": usable, "ensemble": usable[:MAX_ENSEMBLE_CANDIDATES]}
    found: dict[str, list[float]] = {name: [] for name in pools}
    for number in range(BOOTSTRAP_SAMPLES):
        drawn, left = _draw(folds, draw)
        if len(left) == 0:
            continue
        scores = [folds.score(one.distributions, drawn) for one in usable]
        best = usable[int(np.nanargmax(scores))] if np.isfinite(scores).any() else usable[0]
        found["best"].append(folds.score(best.distributions, left))
        if number < ENSEMBLE_BOOTSTRAP_SAMPLES:
            pool = [one for _, one in sorted(zip(scores, usable, strict=True), key=lambda pair: -pair[0])]
            parts = [one.distributions for one in pool[:MAX_ENSEMBLE_CANDIDATES]]
            counts = greedy_counts(parts, folds, size=size, rows=drawn)
            weights = [count / sum(counts.values()) for count in counts.values()]
            found["ensemble"].append(folds.score(weighted_average([parts[place] for place in counts], weights, folds), left))
    return {name: _summary(values, folds) for name, values in found.items()}


def _draw(folds: Folds, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows drawn with replacement, and those that were not drawn."""
    groups = folds.reference.groups
    groups = np.arange(len(folds.fold_of)) if groups is None else groups
    names, place = np.unique(groups, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(place))])
    chosen = draw.integers(0, len(names), len(names))
    drawn = np.concatenate([order[starts[one] : starts[one + 1]] for one in chosen])
    return drawn, np.flatnonzero(~np.isin(place, chosen))


def _summary(values: list[float], folds: Folds) -> CorrectedScore:
    sign = 1 if folds.metric.greater_is_better else -1
    own = sign * np.array([value for value in values if np.isfinite(value)])
    if len(own) == 0:
        return CorrectedScore(float("nan"), float("nan"), float("nan"))
    low, high = np.percentile(own, [2.5, 97.5])
    return CorrectedScore(float(own.mean()), float(low), float(high))
