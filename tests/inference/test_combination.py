"""Weighted combination of raw predictions."""

from __future__ import annotations

import numpy as np
import pytest

from polymodal.core.types import Space
from polymodal.inference.combination import (
    Calibration,
    OutputCombination,
    average,
    from_probabilities,
    to_probabilities,
)

SPACES: tuple[Space, ...] = ("categorical", "binary", "real")


@pytest.mark.parametrize("space", SPACES)
def test_one_member_alone_predicts_what_it_predicts(space: Space) -> None:
    values = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    combined = OutputCombination({"one": 1.0}, {"one": Calibration()}).combine({"one": values}, space)
    np.testing.assert_allclose(to_probabilities(combined, space), to_probabilities(values, space), atol=1e-6)


@pytest.mark.parametrize("space", SPACES)
def test_the_average_lies_between_its_members_and_keeps_its_sum(space: Space) -> None:
    draw = np.random.default_rng(1)
    first, second = draw.normal(size=(2, 30, 4)) * 5
    found = to_probabilities(average([first, second], [0.25, 0.75], space), space)
    expected = 0.25 * to_probabilities(first, space) + 0.75 * to_probabilities(second, space)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    if space == "categorical":
        np.testing.assert_allclose(found.sum(1), 1)


def test_extreme_probabilities_stay_finite() -> None:
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert np.isfinite(from_probabilities(certain, "categorical")).all()
    assert np.isfinite(from_probabilities(certain, "binary")).all()
