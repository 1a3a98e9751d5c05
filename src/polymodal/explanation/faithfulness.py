"""How faithful the scores of parts are to the model: deletion and insertion against random orders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

#: How a removed part is replaced: it is left out or blank, or it is the same part of another row.
Imputation = Literal["blank", "other_row"]
#: Steps of a curve, and random orders to compare with.
CURVE_STEPS, RANDOM_ORDERS = 8, 8


@dataclass(frozen=True)
class Faithfulness:
    """How the prediction changes when parts are removed or added, the highest scores first: deletion and insertion of
    Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", 2018.

    imputation: `blank`: removed parts are left out or blank; `other_row`: they are those of another row
    deletion: the mean prediction while parts are removed; lower is better
    insertion: the mean prediction while parts are added to nothing; higher is better
    random_deletion, random_insertion: the means of 8 random orders of the parts
    gain: `random_deletion - deletion + insertion - random_insertion`; 0 for a random order
    """

    imputation: Imputation
    deletion: float
    insertion: float
    random_deletion: float
    random_insertion: float

    @property
    def gain(self) -> float:
        """How much better than a random order the scores order the parts."""
        return self.random_deletion - self.deletion + self.insertion - self.random_insertion


def measure_faithfulness(
    value: Callable[[np.ndarray], np.ndarray], scores: np.ndarray, imputation: Imputation, seed: int = 0
) -> Faithfulness:
    """The faithfulness of the scores `[parts]` of one row.

    value: the prediction `[n]` with some of the parts, `[n, parts]` bool

    Example:
        >>> value = lambda kept: kept @ np.array([4.0, 0.0, 0.0, 0.0])
        >>> measure_faithfulness(value, np.array([1.0, 0.0, 0.0, 0.0]), "blank").gain > 0
        True
    """
    removed, counts = _removed(scores, seed)
    curves = value(np.concatenate([~removed, removed])).reshape(2, -1, len(counts))
    deletion, insertion = np.trapezoid(curves, counts / len(scores), axis=2)
    return Faithfulness(
        imputation,
        float(deletion[0]),
        float(insertion[0]),
        float(deletion[1:].mean()),
        float(insertion[1:].mean()),
    )


def judging_subsets(scores: np.ndarray, seed: int = 0) -> np.ndarray:
    """The subsets of parts that `measure_faithfulness` reads for these scores, `[n, parts]` bool."""
    removed, _ = _removed(scores, seed)
    return np.concatenate([~removed, removed])


def _removed(scores: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which parts are removed, `[orders * steps, parts]` bool, and the number of them at each step: in the order of the
    scores, then in random orders."""
    draw = np.random.default_rng(seed)
    orders = [np.argsort(-scores, kind="stable"), *(draw.permutation(len(scores)) for _ in range(RANDOM_ORDERS))]
    counts = np.unique(np.linspace(0, len(scores), CURVE_STEPS + 1).round().astype(int))
    return np.stack([np.argsort(order) < count for order in orders for count in counts]), counts


#: Fewer rows than this do not tell whether a method is better than a random order.
MIN_ROWS = 8


@dataclass(frozen=True)
class GainOverRandom:
    """The mean gain of many rows over random orders of their parts, under one imputation.

    standard_error: over the rows
    better: whether the mean gain is above 0 by two standard errors; None for fewer than 8 rows
    """

    imputation: Imputation
    mean: float
    standard_error: float
    better: bool | None


def gains_over_random(rows: Sequence[Sequence[Faithfulness]]) -> list[GainOverRandom]:
    """The mean gain of explained rows under each imputation."""
    found: list[GainOverRandom] = []
    imputations = dict.fromkeys(one.imputation for row in rows for one in row)
    for imputation in imputations:
        gains = np.array([one.gain for row in rows for one in row if one.imputation == imputation])
        error = float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else float("nan")
        better = None if len(gains) < MIN_ROWS else bool(gains.mean() > 2 * error)
        found.append(GainOverRandom(imputation, float(gains.mean()), error, better))
    return found
