"""Scores of the parts of an item by removing some of them, with any model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polymodal.explanation.part_value import PartValue
from polymodal.explanation.shapley import read_subsets, shapley_values

#: Sampled orders of more than 8 parts. Each costs as many predictions as there are parts.
PERMUTATIONS = 16


@dataclass(frozen=True)
class PartScores:
    """The signed score of each part.

    values: `[parts]`
    standard_errors: `[parts]`, of sampled scores; None if they are exact
    blank: the prediction from which the method starts; None: that without any part
    """

    values: np.ndarray
    standard_errors: np.ndarray | None = None
    blank: float | None = None


def occlusion(value: PartValue) -> PartScores:
    """How much the prediction falls if this part alone is removed: f(all) - f(all without i), as in Zeiler and Fergus,
    "Visualizing and Understanding Convolutional Networks", 2014. It costs one prediction for each part."""
    found = value(occlusion_subsets(len(value.parts)))
    return PartScores(found[0] - found[1:])


def occlusion_subsets(parts: int) -> np.ndarray:
    """The subsets of parts that `occlusion` reads, `[parts + 1, parts]` bool: all, and all without one."""
    return np.concatenate([np.ones((1, parts), bool), ~np.eye(parts, dtype=bool)])


def part_shapley_subsets(parts: int) -> np.ndarray:
    """The subsets of parts that `part_shapley_values` reads, `[n, parts]` bool."""
    return read_subsets(parts, permutations=PERMUTATIONS)


def part_shapley_values(value: PartValue) -> PartScores:
    """The Shapley value of each part: its mean change of the prediction when it joins a random subset of the others.
    Exact for up to 8 parts, else sampled with standard errors (`shapley.shapley_values`)."""
    found = shapley_values(lambda kept: value(kept)[:, None], len(value.parts), permutations=PERMUTATIONS)
    errors = found.standard_errors
    return PartScores(found.values[0], None if errors is None else errors[0])
