"""Greedy selection of the predictions whose average scores best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Predictions = TypeVar("Predictions")


def greedy_selection(
    candidates: Sequence[Predictions],
    average: Callable[[Predictions, Predictions, float], Predictions],
    score: Callable[[Predictions], float],
    *,
    max_members: int,
    max_picks: int,
) -> dict[int, int]:
    """How often each candidate is picked, by its position; the counts with the highest score of all steps.

    Greedy selection with replacement (Caruana et al., "Ensemble Selection from Libraries of Models", 2004): it starts
    with the first candidate, and repeatedly adds the one that gives the best average. Picking continues after a step
    without improvement, because a small weight may need two steps. The first of equal candidates is picked.

    candidates: predictions, the best first
    average: `average(total, one, share)`: the average of both, with the weight `share` of `one`
    score: of predictions, greater is better
    max_members, max_picks: limits of the number of candidates, and of all picks

    Example:
        >>> goal = 2.5
        >>> mix = lambda total, one, share: (1 - share) * total + share * one
        >>> greedy_selection([1.0, 4.0, 9.0], mix, lambda value: -abs(value - goal), max_members=2, max_picks=6)
        {0: 1, 1: 1}
    """
    counts, total = {0: 1}, candidates[0]
    best, kept = score(total), dict(counts)
    for picks in range(2, max_picks + 1):
        tried = []
        for index, one in enumerate(candidates):
            if index in counts or len(counts) < max_members:
                averaged = average(total, one, 1 / picks)
                tried.append((score(averaged), -index, averaged))
        reached, index, total = max(tried, key=lambda each: each[:2])
        counts[-index] = counts.get(-index, 0) + 1
        if reached > best:
            best, kept = reached, dict(counts)
    return kept
