"""Is the best network of a search better than the best that one input gives?"""

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
    """Two candidates on the same rows, in the first metric: `value` is by how much the first is better (greater is
    better), with its paired interval and two-sided p-value."""

    several: str
    single: str
    value: float
    low: float
    high: float
    p_value: float


def compare_with_unimodal(models: FrozenFeatureBaselines, output: str, candidates: list[Candidate]) -> UnimodalComparison | None:
    """The best network of several inputs against the best candidate of one, network or baseline; None where one of the
    two is not there. Both are chosen with these rows in view."""
    folds = models.folds
    metric, task = folds.tasks[output].metrics[0], folds.tasks[output]
    rows = np.arange(len(folds.table))
    alone = {baseline_name(learner, (name,)) for learner in BASELINE_MODELS for name in models.inputs}

    def score(one: Candidate) -> float:
        value = folds.reference.value(output, metric, one.distributions[output], rows)
        return value if metric.greater_is_better else -value

    alone |= {baseline_name(learner, (name,)) for learner in BASELINE_MODELS for name in models.features.words}
    usable = [one for one in candidates if one.folds == len(folds) and np.isfinite(one.score)]
    several = [one for one in usable if one.recipe is not None and len(one.recipe["inputs"]) > 1]
    single = [
        one
        for one in usable
        if one.name in alone or one.kind == "single" or (one.recipe is not None and len(one.recipe["inputs"]) == 1)
    ]
    if not several or not single:
        return None
    best, other = max(several, key=score), max(single, key=score)
    value, present = folds.reference.truth.targets[output]
    weight, groups, options = folds.reference.truth.weight, folds.reference.groups, folds.recipe.evaluation
    found = paired_bootstrap.compare(
        metric,
        best.distributions[output][present],
        other.distributions[output][present],
        task.truth(value[present]),
        np.ones(int(present.sum())) if weight is None else weight[present].astype(np.float64),
        Resampling(
            options.bootstrap_samples, options.confidence_level, folds.recipe.seed, None if groups is None else groups[present]
        ),
    )
    ends = (found.value, found.low, found.high)
    value_, low, high = ends if metric.greater_is_better else (-ends[0], -ends[2], -ends[1])
    return UnimodalComparison(best.name, other.name, value_, low, high, found.p_value)
