"""Pairs that do not belong together: rows whose two inputs fit each other no better than those of different rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from polymodal.core.errors import DataError
from polymodal.metrics.retrieval import ROUNDING, Relevance, rank_vectors, relevance

#: Wrong pairs that are drawn to see how well they fit.
DRAWN = 50_000
#: Fewest rows with both inputs.
FEWEST = 20
#: A pair that fits better than all but this share of wrong pairs is not listed.
UNLIKE_WRONG = 0.05
#: Cosines beyond this are taken for it before artanh.
HIGHEST = 1 - 1e-6
#: Similarities that are held at once.
BLOCK = 2**22


@dataclass(frozen=True)
class Mismatches:
    """How well the two inputs of each row fit; `[n]` each, over the rows that have both.

    rows: row numbers
    similarity: cosine of the row's two embeddings
    rank: where the own partner stands among all candidates, from 1: the mean of both directions; ties against it
    margin: how much more similar the own partner is than the best other one, the smaller of both directions
    fit: the similarity in standard deviations above those of wrong pairs with the same items; low is suspicious
    like_wrong: the share of wrong pairs that fit at least as well
    p_value: how probable so low a fit is where the pair is right
    listed: held for a mismatch
    rate: the share of right pairs among the listed that was asked for at most
    separation: how probable it is that a row's own pair fits better than a wrong one (AUC); near 0.5, the model knows
        too little of these data to judge pairs
    """

    rows: np.ndarray
    similarity: np.ndarray
    rank: np.ndarray
    margin: np.ndarray
    fit: np.ndarray
    like_wrong: np.ndarray
    p_value: np.ndarray
    listed: np.ndarray
    rate: float
    separation: float

    def order(self) -> np.ndarray:
        """Places, the worst fit first."""
        return np.argsort(self.fit, kind="stable")


def mismatched(
    first: np.ndarray,
    second: np.ndarray,
    *,
    first_items: np.ndarray | None = None,
    second_items: np.ndarray | None = None,
    rate: float = 0.1,
    seed: int = 0,
) -> Mismatches:
    """Judge the pair of each row by embeddings of its two inputs in one space.

    first, second: `[rows, size]` unit vectors, NaN in rows that lack the input
    first_items, second_items: `[rows]`, the item of each row, -1 where it is missing; None: every row is an item.
        Items that share any row are right pairs, all others wrong ones.
    rate: the share of right pairs among those listed that is accepted (false discovery rate)
    seed: of the wrong pairs that are drawn

    The fit of a pair of items i and j is its similarity s_ij = artanh(cosine) against those of wrong pairs with the
    same items,

        z_ij = ((s_ij - mean_k s_ik) / std_k s_ik + (s_ij - mean_k s_kj) / std_k s_kj) / 2

    artanh makes the spread of a correlation the same at every level, and nearly normal (Fisher, "On the 'Probable
    Error' of a Coefficient of Correlation Deduced from a Small Sample", 1921).

    A pair is listed if two things hold. It is improbable as a right pair: right pairs are taken as normal around the
    median of z, with the scale of its lower half (the median absolute deviation of the rows below the median), so that
    mismatches among them hardly count; the probabilities of so low a fit go through Benjamini and Hochberg,
    "Controlling the False Discovery Rate", 1995, at `rate`. And it fits like a wrong pair: at least `UNLIKE_WRONG` of
    the wrong pairs fit as well.

    The model must not have learned from these rows: it would have learned their mismatches too.

    Raises:
        DataError: too few rows have both inputs.
    """
    first_items = np.arange(len(first)) if first_items is None else first_items
    second_items = np.arange(len(second)) if second_items is None else second_items
    items = [
        np.where(np.isnan(vectors).any(1), -1, numbers)
        for vectors, numbers in ((first, first_items), (second, second_items))
    ]
    rows = np.flatnonzero((items[0] >= 0) & (items[1] >= 0))
    if len(rows) < FEWEST:
        raise DataError(
            f"{len(rows)} rows have both inputs, and {FEWEST} are the fewest that show what pairs are like; look for "
            "duplicates alone (find)"
        )
    one = _Side(first, second, relevance(items[0][rows], items[1][rows]), rows, items[0])
    other = _Side(second, first, relevance(items[1][rows], items[0][rows]), rows, items[1])
    similarity = (first[rows] * second[rows]).sum(1)
    fit = (one.standard(rows, _stretched(similarity)) + other.standard(rows, _stretched(similarity))) / 2
    wrong = _wrong_fits(one, other, seed)
    like_wrong = 1 - np.searchsorted(wrong, fit, side="left") / len(wrong)
    centre = float(np.median(fit))
    low = centre - fit[fit <= centre]
    scale = max(float(np.median(low)) / 0.6745, 1e-9)
    p_value = ndtr((fit - centre) / scale)
    listed = _discoveries(p_value, rate) & (like_wrong >= UNLIKE_WRONG)
    return Mismatches(
        rows=rows,
        similarity=similarity,
        rank=(one.ranks(rows) + other.ranks(rows)) / 2,
        margin=similarity - np.maximum(one.best_other(rows), other.best_other(rows)),
        fit=fit,
        like_wrong=like_wrong,
        p_value=p_value,
        listed=listed,
        rate=rate,
        separation=float(1 - like_wrong.mean()),
    )


class _Side:
    """One direction: each query item against all candidates."""

    def __init__(
        self, queries: np.ndarray, candidates: np.ndarray, related: Relevance, rows: np.ndarray, items: np.ndarray
    ) -> None:
        self.queries, self.candidates = queries[rows[related.queries]], candidates[rows[related.candidates]]
        self.positives = related.positives
        self.query = items[rows[related.queries]]
        self.items = items
        self.mean, self.std, self.best = self._wrong()

    def _wrong(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean, standard deviation and maximum of each query's similarities to candidates that are not its own."""
        found = []
        step = max(1, BLOCK // max(1, len(self.candidates)))
        for start in range(0, len(self.queries), step):
            similarity = _stretched(self.queries[start : start + step] @ self.candidates.T)
            for row, own in zip(similarity, self.positives[start : start + step], strict=True):
                others = np.delete(row, own)
                found.append((others.mean(), others.std(), np.tanh(others.max())) if len(others) else (0.0, 0.0, -1.0))
        mean, std, best = np.array(found).T
        return mean, np.maximum(std, ROUNDING), best

    def place(self, rows: np.ndarray) -> np.ndarray:
        """The query of each row."""
        return np.searchsorted(self.query, self.items[rows])

    def standard(self, rows: np.ndarray, similarity: np.ndarray) -> np.ndarray:
        place = self.place(rows)
        return (similarity - self.mean[place]) / self.std[place]

    def best_other(self, rows: np.ndarray) -> np.ndarray:
        return self.best[self.place(rows)]

    def ranks(self, rows: np.ndarray) -> np.ndarray:
        return rank_vectors(self.queries, self.candidates, self.positives).first[self.place(rows)]


def _wrong_fits(one: _Side, other: _Side, seed: int) -> np.ndarray:
    """The fits of wrong pairs drawn at random, sorted."""
    draw = np.random.default_rng(seed)
    queries = draw.integers(len(one.queries), size=DRAWN)
    partners = draw.integers(len(one.candidates), size=DRAWN)
    own = np.repeat(np.arange(len(one.positives)), [len(places) for places in one.positives])
    right = own * len(one.candidates) + np.concatenate(one.positives)
    wrong = ~np.isin(queries * len(one.candidates) + partners, right)
    queries, partners = queries[wrong], partners[wrong]
    if not len(queries):
        raise DataError("every item belongs to every other, so there are no wrong pairs to compare with")
    parts = [
        (one.queries[queries[start : start + 4096]] * one.candidates[partners[start : start + 4096]]).sum(1)
        for start in range(0, len(queries), 4096)
    ]
    similarity = _stretched(np.concatenate(parts))
    by_one = (similarity - one.mean[queries]) / one.std[queries]
    by_other = (similarity - other.mean[partners]) / other.std[partners]
    return np.sort((by_one + by_other) / 2)


def _discoveries(p_value: np.ndarray, rate: float) -> np.ndarray:
    """Benjamini and Hochberg: all up to the largest p_(k) that is at most rate k / n."""
    order = np.sort(p_value)
    passed = np.flatnonzero(order <= rate * np.arange(1, len(order) + 1) / len(order))
    return p_value <= order[passed[-1]] if len(passed) else np.zeros(len(p_value), dtype=bool)


def _stretched(similarity: np.ndarray) -> np.ndarray:
    """artanh of cosines."""
    return np.arctanh(np.clip(similarity.astype(np.float64), -HIGHEST, HIGHEST))
