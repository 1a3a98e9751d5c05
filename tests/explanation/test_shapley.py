"""Shapley values of games whose values are known."""

from __future__ import annotations

import numpy as np

from polymodal.explanation.shapley import shapley_values

WEIGHTS = np.arange(1.0, 11.0)


def additive(subsets: np.ndarray) -> np.ndarray:
    """Each player adds its weight; one row."""
    return (subsets @ WEIGHTS[: subsets.shape[1]])[:, None] + 3.0


def test_an_additive_game_has_no_interactions() -> None:
    found = shapley_values(additive, 5)
    assert np.allclose(found.values[0], WEIGHTS[:5])
    assert found.interactions is not None
    assert np.allclose(found.interactions, 0)
    assert found.num_subsets == 32


def test_ten_players_are_sampled_and_complete() -> None:
    def game(subsets: np.ndarray) -> np.ndarray:
        return additive(subsets) + 5 * (subsets[:, :3].all(axis=1))[:, None]

    found = shapley_values(game, 10, permutations=128)
    expected = WEIGHTS + np.array([5 / 3] * 3 + [0] * 7)
    assert found.standard_errors is not None
    assert found.interactions is None
    assert np.isclose(found.values.sum(), (found.full - found.empty)[0])
    assert (np.abs(found.values - expected) <= 4 * found.standard_errors + 1e-9).all()
    assert np.allclose(found.standard_errors[0, 3:], 0)


def test_the_errors_of_samples_shrink_with_their_number() -> None:
    def game(subsets: np.ndarray) -> np.ndarray:
        return np.square(subsets @ WEIGHTS)[:, None] * subsets[:, :1]

    few, many = (shapley_values(game, 10, permutations=count).standard_errors for count in (16, 256))
    assert few is not None
    assert many is not None
    assert many.mean() < few.mean() / 2
