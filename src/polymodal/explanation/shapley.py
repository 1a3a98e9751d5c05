"""Shapley values and pairwise interactions of players, from the values of subsets of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb

import numpy as np

#: The largest number of players whose subsets are all computed.
MAX_EXACT = 8

#: The value of subsets: `[subsets, players]` bool (True: the player takes part) -> `[subsets, rows]` float64.
SubsetValues = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ShapleyValues:
    """The Shapley values of the players in each row.

    values: `[rows, players]`, signed; their sum is `full - empty`
    empty, full: `[rows]`, the value without any player, and with all
    standard_errors: `[rows, players]`, of sampled values; None if all subsets were computed
    interactions: `[rows, players, players]`, the Shapley interaction index of each pair, symmetric, 0 on the diagonal;
        None for sampled values
    num_subsets: how many subsets were computed
    """

    values: np.ndarray
    empty: np.ndarray
    full: np.ndarray
    standard_errors: np.ndarray | None
    interactions: np.ndarray | None
    num_subsets: int


def all_subsets(players: int) -> np.ndarray:
    """All subsets of `players` players, `[2^players, players]` bool; player i takes part where bit i of the row number
    is 1."""
    return (np.arange(2**players)[:, None] >> np.arange(players)) % 2 == 1


def shapley_values(value: SubsetValues, players: int, *, permutations: int = 64, seed: int = 0) -> ShapleyValues:
    """The Shapley values of `players` players (Shapley, "A Value for n-Person Games", 1953): exact for up to 8 players,
    else the mean over random orders of the players and their reverses (Mitchell et al., "Sampling Permutations for
    Shapley Value Estimation", 2022), with standard errors.

    permutations: the number of sampled orders, even

    Example:
        >>> product = lambda subsets: subsets.all(axis=1)[:, None].astype(float)
        >>> found = shapley_values(product, 2)
        >>> found.values, found.interactions[0, 0, 1]
        (array([[0.5, 0.5]]), np.float64(1.0))
    """
    if players <= MAX_EXACT:
        return _exact(value, players)
    return _sampled(value, players, permutations, seed)


def read_subsets(players: int, *, permutations: int = 64, seed: int = 0) -> np.ndarray:
    """The subsets whose values `shapley_values` reads, `[n, players]` bool; they do not depend on the values."""
    return all_subsets(players) if players <= MAX_EXACT else _subsets_of(_orders(players, permutations, seed))[0]


def _exact(value: SubsetValues, players: int) -> ShapleyValues:
    """phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! (v(S + i) - v(S)), and the interaction index of Grabisch
    and Roubens, "An axiomatic approach to the concept of interaction among players in cooperative games", 1999."""
    subsets = all_subsets(players)
    found = value(subsets)
    sizes, number = subsets.sum(axis=1), np.arange(len(subsets))
    values = np.zeros((found.shape[1], players))
    interactions = np.zeros((found.shape[1], players, players))
    for i in range(players):
        without = ~subsets[:, i]
        weights = _weights(players, sizes[without])
        values[:, i] = weights @ (found[number[without] + 2**i] - found[without])
        for j in range(i):
            rest = without & ~subsets[:, j]
            own = number[rest]
            both = found[own + 2**i + 2**j] - found[own + 2**i] - found[own + 2**j] + found[own]
            interactions[:, i, j] = interactions[:, j, i] = _weights(players - 1, sizes[rest]) @ both
    return ShapleyValues(values, found[0], found[-1], None, interactions, len(subsets))


def _weights(players: int, sizes: np.ndarray) -> np.ndarray:
    """The weight of each subset of the other players: sizes are equally likely, and so are the subsets of a size."""
    return np.array([1 / (players * comb(players - 1, int(size))) for size in sizes])


def _sampled(value: SubsetValues, players: int, permutations: int, seed: int) -> ShapleyValues:
    orders = _orders(players, permutations, seed)
    subsets, which = _subsets_of(orders)
    found = value(subsets)
    at = which.reshape(len(orders), players + 1)
    steps = np.stack([found[one[1:]] - found[one[:-1]] for one in at])  # [orders, position, rows]
    each = np.stack([step[np.argsort(order)] for step, order in zip(steps, orders, strict=True)])
    pairs = (each[::2] + each[1::2]) / 2
    errors = pairs.std(axis=0, ddof=1) / np.sqrt(len(pairs))
    empty, full = found[at[0, 0]], found[at[0, -1]]
    return ShapleyValues(each.mean(axis=0).T, empty, full, errors.T, None, len(subsets))


def _orders(players: int, permutations: int, seed: int) -> list[np.ndarray]:
    """Random orders of the players, each followed by its reverse."""
    draw = np.random.default_rng(seed)
    forward = [draw.permutation(players) for _ in range(permutations // 2)]
    return [order for one in forward for order in (one, one[::-1])]


def _subsets_of(orders: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The distinct sets of the first players of the orders, and which of them the first k of each order are."""
    players = len(orders[0])
    # joined[p, k, i]: whether player i is among the first k of order p
    joined = np.stack([np.arange(players + 1)[:, None] > np.argsort(order) for order in orders])
    return np.unique(joined.reshape(-1, players), axis=0, return_inverse=True)
