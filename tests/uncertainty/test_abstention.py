"""Abstention: the risk of the answers falls with their number, and a chosen threshold keeps its promise."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from polymodal.core.errors import RecipeError
from polymodal.uncertainty.abstention import Selective, confidence_threshold, risk_coverage


def drawn(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated confidences, and whether the predictions are right."""
    draw = np.random.default_rng(seed)
    confidence = 0.5 + 0.5 * draw.beta(2, 1, rows)
    return confidence, draw.random(rows) < confidence


def test_the_curve_of_a_calibrated_model_is_monotone() -> None:
    curve = risk_coverage("y", *drawn(0, 50_000))
    risks = [curve.at(coverage) for coverage in np.arange(0.1, 1.01, 0.1)]
    assert all(a < b for a, b in pairwise(risks)), risks
    assert (np.diff(curve.confidence) < 0).all()
    assert (np.diff(curve.coverage) > 0).all()
    assert curve.best_area < curve.area < curve.at(1.0)


def test_the_curve_equals_the_risk_above_each_confidence() -> None:
    confidence, correct = drawn(1, 300)
    confidence = confidence.round(2)  # with ties
    curve = risk_coverage("y", confidence, correct)
    for threshold, answered, risk in zip(curve.confidence, curve.coverage, curve.risk, strict=True):
        kept = confidence >= threshold
        assert answered == pytest.approx(kept.mean())
        assert risk == pytest.approx(1 - correct[kept].mean())


def test_the_promised_risk_holds_in_95_of_100_draws_and_more_is_answered_with_more_risk() -> None:
    confidence, correct = drawn(2, 200_000)
    broken, thresholds = 0, []
    for seed in range(200):
        found = confidence_threshold(*drawn(10 + seed, 3000), 0.1)
        assert found is not None
        thresholds.append(found)
        broken += float(1 - correct[confidence >= found].mean()) > 0.1
    assert broken <= 0.05 * 200
    assert np.mean(confidence >= np.median(thresholds)) > 0.3  # the promise is not kept by silence
    known = drawn(3, 2000)
    chain = [confidence_threshold(*known, risk) for risk in (0.3, 0.2, 0.1, 0.05)]
    numbers = [one for one in chain if one is not None]
    assert len(numbers) >= 3
    assert numbers == sorted(numbers)


def test_no_threshold_is_better_than_a_wrong_one() -> None:
    draw = np.random.default_rng(4)
    assert confidence_threshold(draw.random(500), draw.random(500) < 0.5, 0.1) is None
    with pytest.raises(RecipeError, match="max_risk: must be between 0 and 1"):
        Selective(0.0)
