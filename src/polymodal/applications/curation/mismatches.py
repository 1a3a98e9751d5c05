"""Mismatched pairs: rows whose two inputs are no more similar than inputs of different rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from polymodal.core.errors import DataError
from polymodal.core.formatting import count_noun
from polymodal.metrics.retrieval import ROUNDING, Relevance, rank_vectors, relevance

#: Number of random negative pairs.
NUM_NEGATIVE_PAIRS = 50_000
#: Minimum number of rows with both inputs.
MIN_ROWS = 20
#: A pair is not flagged if fewer than this fraction of negative pairs score at least as high.
MIN_NEGATIVE_FRACTION = 0.05
#: Cosines are clipped to this absolute value before artanh.
MAX_COSINE = 1 - 1e-6
#: Maximum number of similarities in memory at once.
BLOCK_ELEMENTS = 2**22


@dataclass(frozen=True)
class Mismatches:
    """How well the two inputs of each row match. Arrays are `[n]`, over the rows that have both inputs.

    rows: row numbers
    similarity: cosine similarity of the two embeddings of the row
    rank: rank of the row's own partner among all candidates, from 1, averaged over both directions; ties count against
        it
    margin: similarity to the own partner minus that to the best other candidate, the smaller of both directions
    z_score: similarity in standard deviations above negative pairs with the same items; low values are suspicious
    negative_fraction: fraction of negative pairs with at least the same z-score
    p_value: probability of such a low z-score for a matching pair
    flagged: whether the pair is reported as a mismatch
    false_discovery_rate: accepted fraction of matching pairs among the flagged pairs
    auc: probability that a row's own pair has a higher z-score than a negative pair; near 0.5, the model does not know
        these data well enough to judge pairs
    """

    rows: np.ndarray
    similarity: np.ndarray
    rank: np.ndarray
    margin: np.ndarray
    z_score: np.ndarray
    negative_fraction: np.ndarray
    p_value: np.ndarray
    flagged: np.ndarray
    false_discovery_rate: float
    auc: float

    def order(self) -> np.ndarray:
        """Indices, lowest z-score first."""
        return np.argsort(self.z_score, kind="stable")


def find_mismatches(
    first: np.ndarray,
    second: np.ndarray,
    *,
    first_items: np.ndarray | None = None,
    second_items: np.ndarray | None = None,
    false_discovery_rate: float = 0.1,
    seed: int = 0,
) -> Mismatches:
    """Find rows whose two inputs do not match, by their embeddings in a shared space.

    first, second: `[rows, dim]` unit vectors, NaN in rows without the input
    first_items, second_items: `[rows]`, the item of each row, -1 if missing; None: every row is an item. Items that
        share a row are positive pairs, all others are negative pairs.
    false_discovery_rate: accepted fraction of matching pairs among the flagged pairs
    seed: seed for drawing negative pairs

    The z-score of a pair of items i and j compares its similarity s_ij = artanh(cosine) with negative pairs of the same
    items:

        z_ij = ((s_ij - mean_k s_ik) / std_k s_ik + (s_ij - mean_k s_kj) / std_k s_kj) / 2

    artanh (the Fisher transformation) makes the distribution of a correlation nearly normal, with a variance that does
    not depend on its level (Fisher, "On the 'Probable Error' of a Coefficient of Correlation Deduced from a Small
    Sample", 1921).

    A pair is flagged if two conditions hold. First, it is improbable as a matching pair: z-scores of matching pairs are
    modeled as normal around the median of z, with the scale of the lower half (the median absolute deviation of the
    rows below the median), so that mismatches have little influence; the p-values are tested at `false_discovery_rate`
    by the procedure of Benjamini and Hochberg ("Controlling the False Discovery Rate", 1995). Second, it looks like a
    negative pair: at least a fraction `MIN_NEGATIVE_FRACTION` of the negative pairs has the same z-score or higher.

    The model must not have been trained on these rows, or it has also learned their mismatches.

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
    if len(rows) < MIN_ROWS:
        raise DataError(
            f"only {count_noun(len(rows), 'row')} with both inputs, and mismatches need at least {MIN_ROWS}; "
            "search for duplicates only (find)"
        )
    forward = _Direction(first, second, relevance(items[0][rows], items[1][rows]), rows, items[0])
    backward = _Direction(second, first, relevance(items[1][rows], items[0][rows]), rows, items[1])
    similarity = (first[rows] * second[rows]).sum(1)
    z_score = (forward.standardize(rows, _fisher_z(similarity)) + backward.standardize(rows, _fisher_z(similarity))) / 2
    negative = _negative_z_scores(forward, backward, seed)
    negative_fraction = 1 - np.searchsorted(negative, z_score, side="left") / len(negative)
    center = float(np.median(z_score))
    low = center - z_score[z_score <= center]
    scale = max(float(np.median(low)) / 0.6745, 1e-9)
    p_value = ndtr((z_score - center) / scale)
    flagged = _discoveries(p_value, false_discovery_rate) & (negative_fraction >= MIN_NEGATIVE_FRACTION)
    return Mismatches(
        rows=rows,
        similarity=similarity,
        rank=(forward.ranks(rows) + backward.ranks(rows)) / 2,
        margin=similarity - np.maximum(forward.best_negative(rows), backward.best_negative(rows)),
        z_score=z_score,
        negative_fraction=negative_fraction,
        p_value=p_value,
        flagged=flagged,
        false_discovery_rate=false_discovery_rate,
        auc=float(1 - negative_fraction.mean()),
    )


class _Direction:
    """One direction of comparison: each query item with all candidates."""

    def __init__(
        self, queries: np.ndarray, candidates: np.ndarray, related: Relevance, rows: np.ndarray, items: np.ndarray
    ) -> None:
        self.queries, self.candidates = queries[rows[related.queries]], candidates[rows[related.candidates]]
        self.positives = related.positives
        self.query = items[rows[related.queries]]
        self.items = items
        self.mean, self.std, self.best = self._negative_statistics()

    def _negative_statistics(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean, standard deviation and maximum of the similarities of each query to its negative candidates."""
        statistics = []
        step = max(1, BLOCK_ELEMENTS // max(1, len(self.candidates)))
        for start in range(0, len(self.queries), step):
            similarity = _fisher_z(self.queries[start : start + step] @ self.candidates.T)
            for row, own in zip(similarity, self.positives[start : start + step], strict=True):
                others = np.delete(row, own)
                statistics.append(
                    (others.mean(), others.std(), np.tanh(others.max())) if len(others) else (0.0, 0.0, -1.0)
                )
        mean, std, best = np.array(statistics).T
        return mean, np.maximum(std, ROUNDING), best

    def query_index(self, rows: np.ndarray) -> np.ndarray:
        """The query index of each row."""
        return np.searchsorted(self.query, self.items[rows])

    def standardize(self, rows: np.ndarray, similarity: np.ndarray) -> np.ndarray:
        index = self.query_index(rows)
        return (similarity - self.mean[index]) / self.std[index]

    def best_negative(self, rows: np.ndarray) -> np.ndarray:
        return self.best[self.query_index(rows)]

    def ranks(self, rows: np.ndarray) -> np.ndarray:
        return rank_vectors(self.queries, self.candidates, self.positives).first_rank[self.query_index(rows)]


def _negative_z_scores(forward: _Direction, backward: _Direction, seed: int) -> np.ndarray:
    """The z-scores of random negative pairs, sorted."""
    generator = np.random.default_rng(seed)
    queries = generator.integers(len(forward.queries), size=NUM_NEGATIVE_PAIRS)
    partners = generator.integers(len(forward.candidates), size=NUM_NEGATIVE_PAIRS)
    own = np.repeat(np.arange(len(forward.positives)), [len(candidates) for candidates in forward.positives])
    positive_pairs = own * len(forward.candidates) + np.concatenate(forward.positives)
    negative = ~np.isin(queries * len(forward.candidates) + partners, positive_pairs)
    queries, partners = queries[negative], partners[negative]
    if not len(queries):
        raise DataError("every pair of items shares a row, so there are no negative pairs to compare with")
    parts = [
        (forward.queries[queries[start : start + 4096]] * forward.candidates[partners[start : start + 4096]]).sum(1)
        for start in range(0, len(queries), 4096)
    ]
    similarity = _fisher_z(np.concatenate(parts))
    forward_z = (similarity - forward.mean[queries]) / forward.std[queries]
    backward_z = (similarity - backward.mean[partners]) / backward.std[partners]
    return np.sort((forward_z + backward_z) / 2)


def _discoveries(p_value: np.ndarray, rate: float) -> np.ndarray:
    """Benjamini-Hochberg: the rows up to the largest p_(k) that is at most rate k / n."""
    order = np.sort(p_value)
    passed = np.flatnonzero(order <= rate * np.arange(1, len(order) + 1) / len(order))
    return p_value <= order[passed[-1]] if len(passed) else np.zeros(len(p_value), dtype=bool)


def _fisher_z(similarity: np.ndarray) -> np.ndarray:
    """artanh of cosines."""
    return np.arctanh(np.clip(similarity.astype(np.float64), -MAX_COSINE, MAX_COSINE))
