"""Compare the best multimodal network of a search with the best unimodal candidate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polymodal.evaluation import paired_bootstrap
from polymodal.evaluation.intervals import Resampling
from polymodal.tuning.baselines import baseline_name
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.frozen_baselines import BASELINE_MODELS, FrozenFeatureBaselines


@dataclass(frozen=True)
class UnimodalComparison:
    """The best multimodal network and the best unimodal candidate, compared on the same rows in the first metric.

    difference: improvement of the multimodal network (greater is better), with a paired interval `low`, `high` and a
        two-sided p-value
    """

    multimodal: str
    unimodal: str
    difference: float
    low: float
    high: float
    p_value: float


def compare_with_unimodal(
    models: FrozenFeatureBaselines, output: str, candidates: list[Candidate]
) -> UnimodalComparison | None:
    """Compare the best multimodal network with the best unimodal candidate (network or baseline); None if one of them
    is missing. Both are chosen by their score on the same rows."""
    folds = models.folds
    metric, task = folds.tasks[output].metrics[0], folds.tasks[output]
    rows = np.arange(len(folds.table))
    baseline_names = {baseline_name(kind, (name,)) for kind in BASELINE_MODELS for name in models.inputs}

    def score(one: Candidate) -> float:
        value = folds.reference.value(output, metric, one.distributions[output], rows)
        return value if metric.greater_is_better else -value

    baseline_names |= {baseline_name(kind, (name,)) for kind in BASELINE_MODELS for name in models.features.words}
    usable = [one for one in candidates if one.num_folds == len(folds) and np.isfinite(one.score)]
    multimodal = [one for one in usable if one.recipe is not None and len(one.recipe["inputs"]) > 1]
    unimodal = [
        one
        for one in usable
        if one.name in baseline_names
        or one.kind == "unimodal"
        or (one.recipe is not None and len(one.recipe["inputs"]) == 1)
    ]
    if not multimodal or not unimodal:
        return None
    best, other = max(multimodal, key=score), max(unimodal, key=score)
    value, present = folds.reference.truth.targets[output]
    weight, groups, options = folds.reference.truth.weight, folds.reference.groups, folds.recipe.evaluation
    comparison = paired_bootstrap.paired_difference(
        metric,
        best.distributions[output][present],
        other.distributions[output][present],
        task.truth(value[present]),
        np.ones(int(present.sum())) if weight is None else weight[present].astype(np.float64),
        Resampling(
            options.bootstrap_samples,
            options.confidence_level,
            folds.recipe.seed,
            None if groups is None else groups[present],
        ),
    )
    interval = (comparison.value, comparison.low, comparison.high)
    difference, low, high = interval if metric.greater_is_better else (-interval[0], -interval[2], -interval[1])
    return UnimodalComparison(best.name, other.name, difference, low, high, comparison.p_value)
