"""The metrics of generated images against plain formulas, and their values where these are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from polymodal.metrics.images import (
    diversity,
    frechet_distance,
    image_features,
    image_metrics,
    kid,
    nearest_images,
    pairing_auc,
)

DRAW = np.random.default_rng(0)
LEFT, RIGHT = DRAW.normal(size=(30, 5)), DRAW.normal(0.3, 1.2, size=(30, 5))
ONES = np.ones(30)


def test_the_frechet_distance_equals_the_formula() -> None:
    root = linalg.sqrtm(np.cov(LEFT.T) @ np.cov(RIGHT.T)).real
    expected = ((LEFT.mean(0) - RIGHT.mean(0)) ** 2).sum() + np.trace(np.cov(LEFT.T) + np.cov(RIGHT.T) - 2 * root)
    assert frechet_distance(LEFT, RIGHT, ONES) == pytest.approx(expected)
    assert frechet_distance(LEFT, LEFT, ONES) == pytest.approx(0, abs=1e-9)


def test_kid_equals_the_sums_over_pairs() -> None:
    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 5 + 1) ** 3)

    def within(rows: np.ndarray) -> float:
        return sum(kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j) / (30 * 29)

    across = sum(kernel(x, y) for x in LEFT for y in RIGHT) / 900
    assert kid(LEFT, RIGHT, ONES) == pytest.approx(within(LEFT) + within(RIGHT) - 2 * across)


@pytest.mark.parametrize("score", [kid, frechet_distance, pairing_auc])
def test_a_row_of_weight_zero_does_not_count(score: object) -> None:
    weight = np.where(np.arange(30) < 20, 1.0, 0.0)
    assert score(LEFT, RIGHT, weight) == pytest.approx(score(LEFT[:20], RIGHT[:20], np.ones(20)))  # type: ignore[operator]


def test_pairing_is_one_for_the_truth_and_half_for_what_ignores_the_rows() -> None:
    assert pairing_auc(LEFT, LEFT, ONES) == 1.0
    assert pairing_auc(np.tile(LEFT[:1], (30, 1)), RIGHT, ONES) == pytest.approx(0.5)
    assert np.isnan(pairing_auc(LEFT, np.ones((30, 5)), ONES))


def test_diversity_is_the_mean_distance_of_two_images() -> None:
    assert diversity(np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])) == pytest.approx(10 / 3)
    assert np.isnan(diversity(LEFT[:1]))


def test_the_nearest_image_of_a_copy_is_at_distance_zero() -> None:
    images = DRAW.integers(0, 256, (4, 16, 16, 3))
    index, distance = nearest_images(images[[2, 0]], images)
    assert index.tolist() == [2, 0]
    assert distance.tolist() == [0.0, 0.0]


def test_features_and_scores_of_images() -> None:
    """The gradient of a flat image is 0, and every metric of the true images is at its best."""
    flat = np.full((2, 32, 32, 3), 51.0)
    assert np.allclose(image_features(flat).reshape(2, 16, 4), [0.2, 0.2, 0.2, 0.0])
    images = DRAW.integers(0, 256, (12, 3 * 32**2)).astype(np.float64)
    found = {metric.name: metric.score(images, images, np.ones(12)) for metric in image_metrics(32)}
    assert found["grid_pairing_auc"] == 1.0
    assert found["grid_frechet_distance"] == pytest.approx(0, abs=1e-6)
    assert found["grid_kid"] < 1e-6
