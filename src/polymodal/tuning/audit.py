"""Audit of the inputs: the value of each input by itself, its unique contribution, and what inputs share."""

from __future__ import annotations

import time
from itertools import combinations
from typing import Any, Literal

import numpy as np

from polymodal.core.formatting import join_words
from polymodal.core.progress import Progress
from polymodal.evaluation import paired_bootstrap
from polymodal.evaluation.intervals import Resampling, percentiles, resample_counts
from polymodal.tuning.audit_results import (
    AuditResult,
    EstimateWithInterval,
    InputAudit,
    OutputAudit,
    PairAudit,
    Verdict,
)
from polymodal.tuning.baseline_data import row_gains
from polymodal.tuning.best_vs_unimodal import compare_with_unimodal
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.folds import Folds
from polymodal.tuning.frozen_baselines import FrozenFeatureBaselines

Subset = tuple[str, ...]

#: Maximum number of inputs for which all subsets are evaluated, and for which all pairs are evaluated.
MAX_INPUTS_ALL_SUBSETS, MAX_INPUTS_PAIRS = 4, 6
#: Effects below this fraction of the value of all inputs together are not reported.
MIN_RELEVANT_FRACTION = 0.03
BOOTSTRAP_SAMPLES = 1000


def audit_inputs(
    candidates: list[Candidate], folds: Folds, *, progress: Progress, models: FrozenFeatureBaselines | None = None
) -> AuditResult:
    """Classify each input: informative, redundant, useful only together with other inputs, or uninformative.

    The value of a set S of inputs is the improvement over a constant prediction that a linear model or boosted trees on
    frozen features of S achieve, out of fold:

        v(S) = mean log2 p_S(y) / p_0(y)  (bits; for labels the mean over labels),  or  1 - SSE_S / SSE_0 for numbers

    In each fold, the model is chosen by inner folds of the training rows, among all models on S, on the evaluated
    subsets of S, and the constant prediction. An input can thus be ignored, so that more inputs are never worth less,
    except for the noise of this choice. v is usable information (Xu et al., "A theory of usable information under
    computational constraints", 2020); stronger models may extract more. All subsets are evaluated for up to
    `MAX_INPUTS_ALL_SUBSETS` inputs. For more inputs, only single inputs, pairs (up to `MAX_INPUTS_PAIRS` inputs), all
    but one, and all inputs are evaluated.

    For two inputs, Williams and Beer ("Nonnegative decomposition of multivariate information", 2010) decompose
    v(ij) = R + U_i + U_j + S with v(i) = R + U_i and v(j) = R + U_j, into redundancy R, unique information U and
    synergy S. These are three equations for four terms, so that (as in Liang et al., "Quantifying & Modeling Multimodal
    Interactions", 2023)

        R - S = v(i) + v(j) - v(ij)
        max(0, R - S) <= R <= min(v(i), v(j))
        max(0, S - R) <= S <= v(ij) - max(v(i), v(j))

    Intervals are paired bootstraps over rows (over groups, if the recipe has a group column) of the out-of-fold
    predictions; they do not include the variance of the training rows. A verdict requires an interval that excludes 0,
    with a Bonferroni correction for the number of inputs (or pairs), and an effect of at least
    `MIN_RELEVANT_FRACTION` of the value of all inputs.

    candidates: candidates of the search; the best multimodal network is compared with the best unimodal candidate
    models: baselines, shared with `run_baselines` so that predictions are computed once
    """
    models = models or FrozenFeatureBaselines(folds, progress=progress)
    if models.is_short_of_time:
        return AuditResult({}, [*models.notes, "the time limit left no time for the audit of the inputs"])
    prepare_audit(models, progress=progress)
    subsets, results = _subsets(models.inputs), {}
    for output in models.outputs if models.inputs else []:
        results[output] = _OutputAuditor(models, output, subsets).result(candidates)
    return AuditResult(results, list(models.notes))


def prepare_audit(models: FrozenFeatureBaselines, *, progress: Progress, deadline: float | None = None) -> None:
    """Compute the predictions of the audit before the search, so that the time that remains is known.

    deadline: the time (`time.time()`) after which the audit is given up
    """
    subsets = _subsets(models.inputs)
    with progress.task("audit of the inputs", len(subsets) * max(1, len(models.outputs))) as advance:
        for output in models.outputs if models.inputs else []:
            for subset in subsets:
                for kind in models.models_for(output):
                    if deadline is not None and time.time() > deadline:
                        models.is_short_of_time = True
                        return
                    models.predict(output, kind, subset)
                advance(1)


def _subsets(inputs: list[str]) -> list[Subset]:
    sizes = set(range(1, len(inputs) + 1))
    if len(inputs) > MAX_INPUTS_ALL_SUBSETS:
        sizes = {1, len(inputs) - 1, len(inputs)} | ({2} if len(inputs) <= MAX_INPUTS_PAIRS else set())
    return [subset for size in sorted(sizes) for subset in combinations(inputs, size)]


class _OutputAuditor:
    """The audit of one output: the value of each subset, on all rows and on every bootstrap resample."""

    def __init__(self, models: FrozenFeatureBaselines, output: str, subsets: list[Subset]) -> None:
        self.models, self.output, self.subsets, self.folds = models, output, subsets, models.folds
        self.task = self.folds.tasks[output]
        self.inputs, self.whole = models.inputs, tuple(models.inputs)
        options = self.folds.recipe.evaluation
        self.confidence, self.samples = options.confidence_level, options.bootstrap_samples or BOOTSTRAP_SAMPLES
        constant = models.predict(output, "constant").predictions
        present = self.folds.reference.truth.targets[output][1]
        self.weight = models.weights(output)
        self.rows = np.flatnonzero(present & (self.weight > 0) & np.isfinite(constant).all(1))
        self.predictions = {subset: self._best_predictions(subset) for subset in subsets}
        truth = models.data_for(output, self.rows).truth
        scored = [
            row_gains(prediction[self.rows], constant[self.rows], truth, self.task.space)
            for prediction in self.predictions.values()
        ]
        gain, scale = np.stack([row_gain for row_gain, _ in scored], axis=1), scored[0][1]
        weight, groups = self.weight[self.rows], self.folds.reference.groups
        self.groups = None if groups is None else groups[self.rows]
        self.values = dict(zip(subsets, (weight @ gain) / (weight @ scale), strict=True))
        resampled = [
            (weight * counts) @ gain / max((weight * counts) @ scale, 1e-12)
            for counts in resample_counts(len(weight), self.samples, self.folds.recipe.seed, self.groups)
        ]
        self.resampled_values = dict(zip(subsets, np.stack(resampled, axis=1), strict=True))

    def _best_predictions(self, subset: Subset) -> np.ndarray:
        """Out-of-fold predictions `[rows, k]`, in each fold by the model and the part of `subset` that score best on
        its inner folds."""
        options = [self.models.predict(self.output, "constant")]
        for part in self.subsets:
            if set(part) <= set(subset):
                options += [
                    self.models.predict(self.output, kind, part) for kind in self.models.models_for(self.output)
                ]
        predictions = np.full_like(options[0].predictions, np.nan)
        for fold, splits in enumerate(self.folds.splits):
            rows = splits["test"].rows
            predictions[rows] = options[int(np.argmax([option.inner_scores[fold] for option in options]))].predictions[
                rows
            ]
        return predictions

    def result(self, candidates: list[Candidate]) -> OutputAudit:
        pairs = (
            [self._pair(first, second) for first, second in combinations(self.inputs, 2)] if self._has_pairs() else []
        )
        best = max(self.inputs, key=lambda name: self.values[(name,)])
        whole = self._value(self.whole)
        gain = self._estimate(lambda v: v(self.whole) - v((best,)))
        comparison = compare_with_unimodal(self.models, self.output, candidates)
        return OutputAudit(
            output=self.output,
            unit={"categorical": "bits", "binary": "bits per label", "real": "fraction of variance"}[self.task.space],
            metric=self.task.metrics[0].name,
            values={" + ".join(subset): self._value(subset) for subset in self.subsets},
            inputs=[self._input(name, pairs) for name in self.inputs],
            pairs=pairs,
            best_input=best,
            gain_over_best=gain,
            metric_gain_over_best=self._difference(self.whole, (best,)),
            network_comparison=comparison,
            summary=_conclusion(self.inputs, best, whole, gain, MIN_RELEVANT_FRACTION),
        )

    def _has_pairs(self) -> bool:
        return len(self.inputs) > 1 and tuple(self.inputs[:2]) in self.values

    def _estimate(self, of: Any, tests: int = 1) -> EstimateWithInterval:
        """Estimate a function of the values of subsets, with a bootstrap interval. Values are at least 0, because the
        constant prediction is always available.

        tests: number of tests of the Bonferroni correction
        """
        # rounded, so that equal predictions have a difference of exactly 0
        value = round(float(of(lambda subset: max(self.values[subset], 0.0))), 9)
        drawn = np.round(of(lambda subset: np.maximum(self.resampled_values[subset], 0.0)), 9)
        low, high = percentiles(drawn, 1 - (1 - self.confidence) / tests)
        return EstimateWithInterval(value, low, high)

    def _value(self, subset: Subset) -> EstimateWithInterval:
        return self._estimate(lambda v: v(subset))

    def _is_relevant(self, value: float) -> bool:
        return value > MIN_RELEVANT_FRACTION * max(self.values[self.whole], 1e-9)

    def _pair(self, first: str, second: str) -> PairAudit:
        both, count = (first, second), len(self.inputs) * (len(self.inputs) - 1) // 2

        def information(v: Any) -> Any:
            return v((first,)) + v((second,)) - v(both)

        co_information, corrected = self._estimate(information), self._estimate(information, count)
        value_1, value_2, joint = (max(self.values[subset], 0.0) for subset in ((first,), (second,), both))
        interaction: Literal["redundancy", "synergy"] | None = None
        if self._is_relevant(abs(co_information.value)) and (corrected.low > 0 or corrected.high < 0):
            interaction = "redundancy" if co_information.value > 0 else "synergy"
        min_redundancy, min_synergy = max(0.0, co_information.value), max(0.0, -co_information.value)
        return PairAudit(
            first=first,
            second=second,
            joint=self._value(both),
            co_information=co_information,
            redundancy=(min_redundancy, max(min_redundancy, min(value_1, value_2))),
            synergy=(min_synergy, max(min_synergy, joint - max(value_1, value_2))),
            interaction=interaction,
        )

    def _input(self, name: str, pairs: list[PairAudit]) -> InputAudit:
        others = tuple(other for other in self.inputs if other != name)

        def unique(v: Any) -> Any:
            return v(self.whole) - v(others) if others else v(self.whole)

        unimodal, unique_value = self._value((name,)), self._estimate(unique)
        tests = len(self.inputs)
        informative = self._estimate(lambda v: v((name,)), tests).low > 0 and self._is_relevant(unimodal.value)
        needed = self._estimate(unique, tests).low > 0 and self._is_relevant(unique_value.value)
        own_pairs = sorted(
            (pair for pair in pairs if name in (pair.first, pair.second)),
            key=lambda pair: -abs(pair.co_information.value),
        )
        partner = {
            kind: [_other(pair, name) for pair in own_pairs if pair.interaction == kind] for kind in _INTERACTIONS
        }
        verdict: Verdict = "informative" if informative else "synergistic"
        partners = partner["synergy"]
        if informative and not needed:
            verdict, partners = "redundant", partner["redundancy"][:1]
        elif not informative and not needed and not partners:
            verdict = "uninformative"
        return InputAudit(
            name=name,
            unimodal=unimodal,
            unique=unique_value,
            metric_unimodal=self._metric((name,)),
            metric_unique=self._difference(self.whole, others) if others else EstimateWithInterval(*[float("nan")] * 3),
            verdict=verdict,
            partners=partners if partners or verdict in ("informative", "uninformative") else list(others),
            summary=_summary(verdict, partners, others),
        )

    def _metric(self, subset: Subset) -> float:
        distribution = self._distribution(subset)
        return self.folds.reference.value(self.output, self.task.metrics[0], distribution, self.rows)

    def _difference(self, better: Subset, worse: Subset) -> EstimateWithInterval:
        """The improvement of `better` over `worse` in the first metric, with a paired interval."""
        metric, reference = self.task.metrics[0], self.folds.reference
        weight = reference.truth.weight
        results = paired_bootstrap.paired_difference(
            metric,
            self._distribution(better)[self.rows],
            self._distribution(worse)[self.rows],
            self.task.truth(reference.truth.targets[self.output][0][self.rows]),
            np.ones(len(self.rows)) if weight is None else weight[self.rows].astype(np.float64),
            Resampling(self.samples, self.confidence, self.folds.recipe.seed, self.groups),
        )
        if metric.greater_is_better:
            return EstimateWithInterval(results.value, results.low, results.high)
        return EstimateWithInterval(-results.value, -results.high, -results.low)

    def _distribution(self, subset: Subset) -> np.ndarray:
        predictions = self.predictions[subset]
        return self.task.truth(predictions) if self.task.space == "real" else predictions


_INTERACTIONS = ("redundancy", "synergy")


def _other(pair: PairAudit, name: str) -> str:
    return pair.second if pair.first == name else pair.first


def _summary(verdict: Verdict, partners: list[str], others: Subset) -> str:
    if verdict == "uninformative":
        return "no information about the target"
    if verdict == "redundant":
        return f"redundant with {join_words(partners) if partners else 'the other inputs combined'}"
    if verdict == "synergistic":
        return f"useful only together with {join_words(partners) if partners else 'the other inputs'}"
    synergy = f", with synergy with {join_words(partners)}" if partners and others else ""
    return f"informative{synergy}"


def _conclusion(
    inputs: list[str], best: str, whole: EstimateWithInterval, gain: EstimateWithInterval, min_relevant: float
) -> str:
    if whole.low <= 0:
        return "No input has information about the target."
    if len(inputs) == 1:
        return f"The only input, {best}, has information about the target."
    if gain.low > 0 and gain.value > min_relevant * whole.value:
        return f"Multimodal gain: all inputs together predict better than the best single input ({best})."
    return f"No multimodal gain: the best single input ({best}) predicts as well, within the interval."
