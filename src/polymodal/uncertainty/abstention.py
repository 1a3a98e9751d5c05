"""Abstention: the risk of the answered rows over how many are answered, and a threshold that bounds the risk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polymodal.core.errors import RecipeError

#: Confidence of the bound of a risk.
LEVEL = 0.95
#: Numbers of answered rows, as fractions of all, at which a risk is bounded.
STEPS = 40


@dataclass(frozen=True)
class Selective:
    """Answers that are wrong in at most the fraction `max_risk`; the model abstains from the others."""

    max_risk: float

    def __post_init__(self) -> None:
        if not 0 < self.max_risk < 1:
            raise RecipeError("max_risk", f"must be between 0 and 1, not {self.max_risk}")


@dataclass(frozen=True)
class RiskCoverage:
    """The risk-coverage curve of a classification output (El-Yaniv & Wiener, "On the Foundations of Noise-free
    Selective Classification", 2010). If only the rows are answered whose confidence is at least `confidence[i]`, the
    fraction `coverage[i]` of the rows is answered, and the fraction `risk[i]` of these answers is wrong.

    confidence: `[n]`, falling; coverage: `[n]`, rising to 1; risk: `[n]`
    area: the area under the curve, the mean risk over all coverages; smaller is better
    best_area: the area if every wrong answer had a lower confidence than every right one
    """

    output: str
    confidence: np.ndarray
    coverage: np.ndarray
    risk: np.ndarray
    area: float
    best_area: float

    def __len__(self) -> int:
        return len(self.coverage)

    def at(self, coverage: float) -> float:
        """The risk if at least this fraction of the rows is answered.

        Raises:
            RecipeError: the coverage is not above 0 and at most 1.
        """
        if not 0 < coverage <= 1:
            raise RecipeError("coverage", f"must be above 0 and at most 1, not {coverage}")
        return float(self.risk[min(int(np.searchsorted(self.coverage, coverage - 1e-12)), len(self) - 1)])


def risk_coverage(output: str, confidence: np.ndarray, correct: np.ndarray) -> RiskCoverage:
    """The risk-coverage curve of predictions. Rows of the same confidence are answered together.

    confidence: `[rows]`; correct: `[rows]` bool, at least one row

    Example:
        >>> curve = risk_coverage("y", np.array([0.9, 0.6, 0.8, 0.7]), np.array([True, False, True, False]))
        >>> curve.coverage.tolist(), curve.risk.round(2).tolist(), curve.at(0.5)
        ([0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.33, 0.5], 0.0)
    """
    order = np.argsort(-confidence, kind="stable")
    ranked, wrong = confidence[order], np.cumsum(~correct[order])
    last = np.append(ranked[1:] != ranked[:-1], True)
    answered = np.arange(1, len(ranked) + 1)
    best = np.cumsum(np.sort(~correct)) / answered
    return RiskCoverage(
        output,
        ranked[last],
        answered[last] / len(ranked),
        (wrong / answered)[last],
        float(np.average((wrong / answered)[last], weights=np.diff(answered[last], prepend=0))),
        float(best.mean()),
    )


def confidence_threshold(confidence: np.ndarray, correct: np.ndarray, max_risk: float) -> float | None:
    """The lowest of 40 thresholds whose answers are wrong in at most the fraction `max_risk` of new rows, with a
    confidence of 95 %; None if there is none.

    The exact upper bound of the risk (Clopper & Pearson, 1934) at each threshold has the error 5 % / 40, so all hold
    together, also the chosen one (Geifman & El-Yaniv, "Selective Classification for Deep Neural Networks", 2017).

    confidence: `[rows]`; correct: `[rows]` bool, of rows that training did not use
    """
    from scipy.special import betaincinv

    order = np.argsort(-confidence, kind="stable")
    ranked, wrong = confidence[order], np.cumsum(~correct[order])
    for step in range(STEPS, 0, -1):
        count = len(ranked) * step // STEPS
        while 0 < count < len(ranked) and ranked[count] == ranked[count - 1]:
            count += 1  # rows of the same confidence are answered together
        if not count:
            return None
        errors = int(wrong[count - 1])
        bound = 1.0 if errors == count else float(betaincinv(errors + 1, count - errors, 1 - (1 - LEVEL) / STEPS))
        if bound <= max_risk:
            return float(ranked[count - 1])
    return None
