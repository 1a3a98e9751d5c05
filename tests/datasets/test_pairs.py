"""Planted pairs: every input tells of the factor, or, shuffled, of another row's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from polymodal.datasets.pairs import Columns, make_planted_pairs

ALL = ("text", "image", "series", "numbers")


def features(columns: Columns, name: str) -> np.ndarray:
    if name == "text":
        words = sorted({word for text in columns["text"] for word in text.split()})
        return np.array([[word in text.split() for word in words] for text in columns["text"]], float)
    if name == "image":
        pixels = np.stack([np.asarray(image) for image in columns["image"]]) / 255
        patch = pixels[..., 1] < 0.5  # the ground is bright, the patch is not
        place = np.stack([np.argmax(patch.any(axis), axis=1) for axis in (1, 2)], 1)
        red = (pixels[..., 0] * patch).sum((1, 2)) / patch.sum((1, 2))
        return np.column_stack([place / pixels.shape[1], red])
    if name == "series":
        return np.array(columns["series"]).reshape(len(columns["series"]), -1)
    return np.stack([columns[f"number{place}"] for place in range(3)], 1)


def explained(columns: Columns, name: str) -> float:
    factor = np.stack([columns[f"factor{place}"] for place in range(3)], 1)
    found, half = features(columns, name), len(factor) // 2
    return float(Ridge(1e-3).fit(found[:half], factor[:half]).score(found[half:], factor[half:]))


@pytest.mark.parametrize("name", ALL)
def test_every_input_tells_of_the_factor(name: str) -> None:
    assert explained(make_planted_pairs(400, 0, ALL), name) > 0.9
    assert explained(make_planted_pairs(400, 0, ALL, shuffled=True), name) < 0.1


def test_shuffled_inputs_tell_nothing_of_each_other() -> None:
    def agreement(columns: Columns) -> float:
        found, half = features(columns, "series"), 200
        return float(
            Ridge(1e-3)
            .fit(found[:half], features(columns, "numbers")[:half])
            .score(found[half:], features(columns, "numbers")[half:])
        )

    assert agreement(make_planted_pairs(400, 0, ALL)) > 0.9
    assert agreement(make_planted_pairs(400, 0, ALL, shuffled=True)) < 0.1


def test_the_seed_decides() -> None:
    first, again, other = make_planted_pairs(20, 1), make_planted_pairs(20, 1), make_planted_pairs(20, 2)
    assert first["text"] == again["text"]
    assert first["series"] == again["series"]
    assert first["text"] != other["text"]
    assert set(first) == {"text", "image", "series", "factor0", "factor1", "factor2"}
    assert first["image"][0].size == (32, 32)


def test_an_unknown_input_is_refused() -> None:
    with pytest.raises(ValueError, match="'smell'"):
        make_planted_pairs(2, 0, ("smell",))
