"""Do several inputs pay at all? What each says by itself, what only it says, and what inputs share."""

from __future__ import annotations

from itertools import combinations
from typing import Any, Literal

import numpy as np

from polymodal.core.formatting import join_words
from polymodal.core.progress import Progress
from polymodal.evaluation import paired_bootstrap
from polymodal.evaluation.intervals import Resampling, percentiles, resample_counts
from polymodal.tuning.audit_results import Estimate, AuditResult, InputAudit, Verdict, OutputAudit, PairAudit
from polymodal.tuning.baseline_data import row_gains
from polymodal.tuning.best_vs_unimodal import compare_with_unimodal
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.folds import Folds
from polymodal.tuning.frozen_baselines import FrozenFeatureBaselines

Subset = tuple[str, ...]

#: Up to so many inputs, every subset of them is tried; up to so many, every pair.
MAX_INPUTS_ALL_SUBSETS, MAX_INPUTS_PAIRS = 4, 6
#: What is less than this share of what all inputs say together is not worth a word.
MIN_RELEVANT_FRACTION = 0.03
BOOTSTRAP_SAMPLES = 1000


def audit_inputs(candidates: list[Candidate], folds: Folds, *, progress: Progress, models: FrozenFeatureBaselines | None = None) -> AuditResult:
    """Say of each input whether it carries information of its own, is redundant, helps only with another, or is noise.

    The value of a set S of inputs is how much better than the constant answer the target can be told from S, out of
    fold, by a linear model or boosted trees on fixed features:

        v(S) = mean log2 p_S(y) / p_0(y)  (bits; for labels the mean over them),  or  1 - SSE_S / SSE_0 for numbers

    In each fold the learner is chosen by inner folds of the fold's training rows, among both learners on S and on the
    tried subsets of S, and the constant answer: an input may be ignored, so that more inputs are never worth less but
    for the noise of that choice. v is usable information (Xu et al., "A theory of usable information under
    computational constraints", 2020): what stronger models could use beyond it, it does not see. Every subset is tried
    up to `ALL_SUBSETS` inputs; of more, each alone, pairs (up to `ALL_PAIRS` inputs), all but one, and all.

    Of two inputs, Williams and Beer ("Nonnegative decomposition of multivariate information", 2010) split
    v(ij) = R + U_i + U_j + S with v(i) = R + U_i and v(j) = R + U_j. These are three equations for four parts, which
    leave (as in Liang et al., "Quantifying & Modeling Multimodal Interactions", 2023)

        R - S = v(i) + v(j) - v(ij)
        max(0, R - S) <= R <= min(v(i), v(j))
        max(0, S - R) <= S <= v(ij) - max(v(i), v(j))

    Intervals are paired bootstraps over rows (whole groups where the recipe names a group) of fixed out-of-fold
    answers; they do not cover what other training rows would have given. A verdict needs an interval off 0 whose error
    is divided by the number of inputs (or pairs) that are judged, and at least `RELEVANT` of what all inputs say.

    candidates: of the search; the best network is compared with the best candidate of one input
    models: what has been decided already for `run_baselines`
    """
    models = models or FrozenFeatureBaselines(folds, progress=progress)
    subsets = _subsets(models.inputs)
    found = {}
    with progress.task("audit of the inputs", len(subsets) * max(1, len(models.outputs))) as advance:
        for output in models.outputs if models.inputs else []:
            for subset in subsets:
                for learner in models.learners(output):
                    models.decide(output, learner, subset)
                advance(1)
            found[output] = _OutputAuditor(models, output, subsets).result(candidates)
    return AuditResult(found, list(models.notes))


def _subsets(inputs: list[str]) -> list[Subset]:
    sizes = set(range(1, len(inputs) + 1))
    if len(inputs) > MAX_INPUTS_ALL_SUBSETS:
        sizes = {1, len(inputs) - 1, len(inputs)} | ({2} if len(inputs) <= MAX_INPUTS_PAIRS else set())
    return [subset for size in sorted(sizes) for subset in combinations(inputs, size)]


class _OutputAuditor:
    """One output: values of subsets on every resample, and what follows from them."""

    def __init__(self, models: FrozenFeatureBaselines, output: str, subsets: list[Subset]) -> None:
        self.models, self.output, self.subsets, self.folds = models, output, subsets, models.folds
        self.task = self.folds.tasks[output]
        self.inputs, self.whole = models.inputs, tuple(models.inputs)
        options = self.folds.recipe.evaluation
        self.confidence, self.samples = options.confidence_level, options.bootstrap_samples or BOOTSTRAP_SAMPLES
        constant = models.decide(output, "constant").decided
        present = self.folds.reference.truth.targets[output][1]
        self.weight = models.weights(output)
        self.rows = np.flatnonzero(present & (self.weight > 0) & np.isfinite(constant).all(1))
        self.decided = {subset: self._chosen(subset) for subset in subsets}
        truth = models.lesson(output, self.rows).truth
        scored = [row_gains(one[self.rows], constant[self.rows], truth, self.task.space) for one in self.decided.values()]
        gain, scale = np.stack([one for one, _ in scored], axis=1), scored[0][1]
        weight, groups = self.weight[self.rows], self.folds.reference.groups
        self.groups = None if groups is None else groups[self.rows]
        self.values = dict(zip(subsets, (weight @ gain) / (weight @ scale), strict=True))
        resample = [
            (weight * drawn) @ gain / max((weight * drawn) @ scale, 1e-12)
            for drawn in resample_counts(len(weight), self.samples, self.folds.recipe.seed, self.groups)
        ]
        self.resample = dict(zip(subsets, np.stack(resample, axis=1), strict=True))

    def _chosen(self, subset: Subset) -> np.ndarray:
        """Decisions `[rows, k]`, in each fold by the learner and the part of `subset` that its inner folds favour."""
        known = [self.models.decide(self.output, "constant")]
        for part in self.subsets:
            if set(part) <= set(subset):
                known += [self.models.decide(self.output, one, part) for one in self.models.learners(self.output)]
        decided = np.full_like(known[0].decided, np.nan)
        for fold, parts in enumerate(self.folds.parts):
            rows = parts["test"].rows
            decided[rows] = known[int(np.argmax([one.inner[fold] for one in known]))].decided[rows]
        return decided

    def result(self, candidates: list[Candidate]) -> OutputAudit:
        pairs = [self._pair(first, second) for first, second in combinations(self.inputs, 2)] if self._paired() else []
        best = max(self.inputs, key=lambda name: self.values[(name,)])
        whole = self._value(self.whole)
        beyond = self._amount(lambda v: v(self.whole) - v((best,)))
        model = compare_with_unimodal(self.models, self.output, candidates)
        return OutputAudit(
            output=self.output,
            unit={"categorical": "bits", "binary": "bits per label", "real": "share of variance"}[self.task.space],
            metric=self.task.metrics[0].name,
            values={" + ".join(subset): self._value(subset) for subset in self.subsets},
            inputs=[self._input(name, pairs) for name in self.inputs],
            pairs=pairs,
            best_input=best,
            beyond_best=beyond,
            metric_beyond_best=self._difference(self.whole, (best,)),
            model=model,
            sentence=_conclusion(self.inputs, best, whole, beyond, MIN_RELEVANT_FRACTION),
        )

    def _paired(self) -> bool:
        return len(self.inputs) > 1 and tuple(self.inputs[:2]) in self.values

    def _amount(self, of: Any, tests: int = 1) -> Estimate:
        """A function of the values of subsets (never below 0: the constant answer is always there), with an interval
        whose error is divided among `tests`."""
        value = round(float(of(lambda subset: max(self.values[subset], 0.0))), 9)  # equal answers differ by nothing
        drawn = np.round(of(lambda subset: np.maximum(self.resample[subset], 0.0)), 9)
        low, high = percentiles(drawn, 1 - (1 - self.confidence) / tests)
        return Estimate(value, low, high)

    def _value(self, subset: Subset) -> Estimate:
        return self._amount(lambda v: v(subset))

    def _relevant(self, amount: float) -> bool:
        return amount > MIN_RELEVANT_FRACTION * max(self.values[self.whole], 1e-9)

    def _pair(self, first: str, second: str) -> PairAudit:
        both, count = (first, second), len(self.inputs) * (len(self.inputs) - 1) // 2

        def shared(v: Any) -> Any:
            return v((first,)) + v((second,)) - v(both)

        found, strict = self._amount(shared), self._amount(shared, count)
        one, two, together = (max(self.values[subset], 0.0) for subset in ((first,), (second,), both))
        finding: Literal["redundant", "synergy"] | None = None
        if self._relevant(abs(found.value)) and (strict.low > 0 or strict.high < 0):
            finding = "redundant" if found.value > 0 else "synergy"
        least, less = max(0.0, found.value), max(0.0, -found.value)
        return PairAudit(
            first=first,
            second=second,
            together=self._value(both),
            shared=found,
            redundancy=(least, max(least, min(one, two))),
            synergy=(less, max(less, together - max(one, two))),
            finding=finding,
        )

    def _input(self, name: str, pairs: list[PairAudit]) -> InputAudit:
        others = tuple(other for other in self.inputs if other != name)

        def unique(v: Any) -> Any:
            return v(self.whole) - v(others) if others else v(self.whole)

        alone, only = self._value((name,)), self._amount(unique)
        tests = len(self.inputs)
        says = self._amount(lambda v: v((name,)), tests).low > 0 and self._relevant(alone.value)
        needed = self._amount(unique, tests).low > 0 and self._relevant(only.value)
        with_it = sorted(
            (one for one in pairs if name in (one.first, one.second)), key=lambda one: -abs(one.shared.value)
        )
        partner = {kind: [_other(one, name) for one in with_it if one.finding == kind] for kind in _FINDINGS}
        verdict: Verdict = "own" if says else "together"
        partners = partner["synergy"]
        if says and not needed:
            verdict, partners = "redundant", partner["redundant"][:1]
        elif not says and not needed and not partners:
            verdict = "none"
        return InputAudit(
            name=name,
            alone=alone,
            unique=only,
            metric_alone=self._metric((name,)),
            metric_unique=self._difference(self.whole, others) if others else Estimate(*[float("nan")] * 3),
            verdict=verdict,
            partners=partners if partners or verdict in ("own", "none") else list(others),
            sentence=_sentence(verdict, partners, others),
        )

    def _metric(self, subset: Subset) -> float:
        decided = self._distribution(subset)
        return self.folds.reference.value(self.output, self.task.metrics[0], decided, self.rows)

    def _difference(self, better: Subset, worse: Subset) -> Estimate:
        """By how much `better` is better than `worse` in the first metric, with a paired interval."""
        metric, reference = self.task.metrics[0], self.folds.reference
        weight = reference.truth.weight
        found = paired_bootstrap.compare(
            metric,
            self._distribution(better)[self.rows],
            self._distribution(worse)[self.rows],
            self.task.truth(reference.truth.targets[self.output][0][self.rows]),
            np.ones(len(self.rows)) if weight is None else weight[self.rows].astype(np.float64),
            Resampling(self.samples, self.confidence, self.folds.recipe.seed, self.groups),
        )
        if metric.greater_is_better:
            return Estimate(found.value, found.low, found.high)
        return Estimate(-found.value, -found.high, -found.low)

    def _distribution(self, subset: Subset) -> np.ndarray:
        decided = self.decided[subset]
        return self.task.truth(decided) if self.task.space == "real" else decided


_FINDINGS = ("redundant", "synergy")


def _other(pair: PairAudit, name: str) -> str:
    return pair.second if pair.first == name else pair.first


def _sentence(verdict: Verdict, partners: list[str], others: Subset) -> str:
    if verdict == "none":
        return "no information found (looks like noise)"
    if verdict == "redundant":
        return f"redundant with {join_words(partners) if partners else 'the other inputs together'}"
    if verdict == "together":
        return f"only helps together with {join_words(partners) if partners else 'the other inputs'}"
    together = f", and more together with {join_words(partners)}" if partners and others else ""
    return f"carries information of its own{together}"


def _conclusion(inputs: list[str], best: str, whole: Estimate, beyond: Estimate, relevant: float) -> str:
    if whole.low <= 0:
        return "Nothing about the target was found in any input."
    if len(inputs) == 1:
        return f"There is one input, {best}, and it says something about the target."
    if beyond.low > 0 and beyond.value > relevant * whole.value:
        return f"Several inputs pay: together they say more than the best one alone ({best})."
    return f"Several inputs do not pay here: {best} alone says as much, within the interval."
