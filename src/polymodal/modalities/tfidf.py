"""TF-IDF weights of hashed n-grams, on sparse matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

from polymodal.core.errors import ArtifactError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class Tfidf:
    """TF-IDF weights, fitted on training texts.

        w(t, d) = (1 + log c(t, d)) (1 + log((1 + n) / (1 + df(t)))),  then each text is scaled to unit length

    c is the count of n-gram bucket t in text d, n the number of training texts, and df the number of training texts
    with the bucket. Buckets with a smaller df than `min_df` are dropped; the others are the columns of the result, in
    ascending order. Equal to scikit-learn's `TfidfTransformer(sublinear_tf=...)` on the kept columns.

    min_df: minimum document frequency of a bucket
    max_features: keep at most this many buckets, those with the highest df (of equal ones, the lower numbers)
    sublinear_tf: 1 + log c in place of c

    Example:
        >>> from scipy.sparse import csr_matrix
        >>> counts = csr_matrix(np.array([[1, 2, 0, 0], [1, 0, 3, 0]]))
        >>> weights = Tfidf(min_df=1).fit(counts)
        >>> weights.transform(counts).astype(float).toarray().round(2).tolist()
        [[0.39, 0.92, 0.0], [0.32, 0.0, 0.95]]
    """

    def __init__(self, *, min_df: int = 2, max_features: int | None = None, sublinear_tf: bool = True) -> None:
        self.min_df, self.max_features, self.sublinear_tf = min_df, max_features, sublinear_tf
        self.kept = np.zeros(0, np.int32)
        self.idf = np.zeros(0, np.float32)
        self._column = np.zeros(0, np.int32)

    @property
    def num_columns(self) -> int:
        """The number of kept buckets."""
        return len(self.kept)

    def fit(self, counts: csr_matrix) -> Self:
        """Fit to the counts `[texts, buckets]` of the training texts."""
        frequency = np.bincount(counts.indices, minlength=counts.shape[1])
        return self.fit_frequencies(frequency, counts.shape[0])

    def fit_frequencies(self, frequency: np.ndarray, texts: int) -> Self:
        """Fit to document frequencies `[buckets]`, the number of training texts with each bucket, of `texts` texts."""
        kept = np.flatnonzero(frequency >= max(1, self.min_df)).astype(np.int32)
        if self.max_features is not None and len(kept) > self.max_features:
            kept = np.sort(kept[np.argsort(-frequency[kept], kind="stable")[: self.max_features]])
        idf = 1 + np.log((1 + texts) / (1 + frequency[kept]))
        self._set(kept, idf.astype(np.float32), len(frequency))
        return self

    def _set(self, kept: np.ndarray, idf: np.ndarray, buckets: int) -> None:
        self.kept, self.idf = kept, idf
        self._column = np.full(buckets, -1, np.int32)
        self._column[kept] = np.arange(len(kept), dtype=np.int32)

    def transform(self, counts: csr_matrix) -> csr_matrix:
        """The weights `[texts, kept buckets]` of counts `[texts, buckets]`, float32, each row of unit length (a text
        without a kept bucket is 0)."""
        from scipy.sparse import csr_matrix

        column = self._column[counts.indices]
        known = column >= 0
        column, starts = column[known], np.concatenate([[0], np.cumsum(known)])[counts.indptr]
        weight = counts.data[known].astype(np.float32)
        if self.sublinear_tf:
            np.log(weight, out=weight)
            weight += 1
        weight *= self.idf[column]
        text = np.repeat(np.arange(counts.shape[0]), np.diff(starts))
        squares = np.bincount(text, weight.astype(np.float64) ** 2, minlength=counts.shape[0])
        weight /= np.sqrt(squares).astype(np.float32)[text]  # a sum for each text: other texts change no bit
        return csr_matrix((weight, column, starts), shape=(counts.shape[0], self.num_columns))

    def padded(self, buckets: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Columns and weights of padded counts `[texts, longest]`, where padding has the count 0.

        Returns the column of each bucket plus 1, int64, and its weight as in `transform`, float32. Both are 0 for
        padding and for dropped buckets.
        """
        column = np.where(counts > 0, self._column[buckets], -1) + 1
        weight = np.maximum(counts, 1).astype(np.float32)
        if self.sublinear_tf:
            np.log(weight, out=weight)
            weight += 1
        weight *= np.concatenate([np.zeros(1, np.float32), self.idf])[column]
        length = np.linalg.norm(weight, axis=1, keepdims=True)
        return column.astype(np.int64), weight / np.where(length > 0, length, 1)

    def to_state(self) -> dict[str, np.ndarray]:
        """The fitted state as arrays."""
        return {
            "kept": self.kept,
            "idf": self.idf,
            "settings": np.array([len(self._column), self.sublinear_tf], np.int64),
        }

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> Self:
        """Restore the result of `to_state`, for `transform` and `padded`.

        Raises:
            ArtifactError: the arrays are not those of a fitted state.
        """
        try:
            kept, idf = state["kept"], state["idf"]
            buckets, sublinear_tf = state["settings"].tolist()
            if kept.shape != idf.shape:
                raise ValueError(f"{len(kept)} buckets, but {len(idf)} weights")
            restored = cls(sublinear_tf=bool(sublinear_tf))
            restored._set(kept, idf, buckets)
        except (KeyError, ValueError, IndexError) as error:
            raise ArtifactError(f"these are not the arrays of TF-IDF weights: {error}") from None
        return restored
