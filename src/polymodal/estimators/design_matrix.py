"""The design matrix of linear models: dense columns beside sparse ones, without making the sparse ones dense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

#: Rows of a block for which products of columns are computed in float64.
BLOCK = 4096
#: Sparse columns with a value in more than this part of the rows are multiplied as dense ones, which is faster for
#: them; this many at once.
DENSE_PART, DENSE_BLOCK = 0.02, 1024

#: Coefficients `[columns + 1, size]` float32; the last row is the intercept.
Coefficients = np.ndarray


@dataclass(frozen=True)
class DesignMatrix:
    """`[rows, a + b]` float32: the columns of `dense [rows, a]`, then those of `sparse [rows, b]`.

    Example:
        >>> matrix = DesignMatrix(np.ones((2, 1), np.float32), csr_matrix(np.eye(2, dtype=np.float32)))
        >>> matrix.dot(np.ones((3, 1), np.float32)).ravel()
        array([2., 2.], dtype=float32)
    """

    dense: np.ndarray
    sparse: csr_matrix

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of rows and columns."""
        return len(self.dense), self.dense.shape[1] + self.sparse.shape[1]

    def dot(self, weights: np.ndarray) -> np.ndarray:
        """The product with `weights [columns, k]`, `[rows, k]`."""
        width = self.dense.shape[1]
        product = self.dense @ weights[:width]
        return product + self.sparse @ weights[width:] if self.sparse.shape[1] else product

    def transposed_dot(self, values: np.ndarray) -> np.ndarray:
        """The product of the transposed matrix with `values [rows, k]`, `[columns, k]`."""
        product = self.dense.T @ values
        return np.concatenate([product, self.sparse.T @ values]) if self.sparse.shape[1] else product

    def scaled(self, factors: np.ndarray) -> DesignMatrix:
        """The columns multiplied by `factors [columns]`."""
        width = self.dense.shape[1]
        sparse = self.sparse.copy()
        sparse.data *= factors[width:][sparse.indices]
        return DesignMatrix(self.dense * factors[:width], sparse)

    def take_columns(self, columns: np.ndarray) -> DesignMatrix:
        """Some columns, in ascending order."""
        width = self.dense.shape[1]
        from_sparse = columns[columns >= width] - width
        sparse = self.sparse[:, from_sparse] if len(from_sparse) else csr_matrix((self.shape[0], 0), dtype=np.float32)
        return DesignMatrix(self.dense[:, columns[columns < width]], sparse)

    def moments(self, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The means and the mean squares `[columns]` float64, with weights `[rows]` that sum to 1."""
        squares = self.sparse.multiply(self.sparse)
        return (
            np.concatenate([weight @ self.dense, weight @ self.sparse]),
            np.concatenate([weight @ np.square(self.dense, dtype=np.float64), weight @ squares]),
        )

    def toarray(self) -> np.ndarray:
        """All columns as one dense float64 array."""
        return np.concatenate([self.dense, self.sparse.toarray()], axis=1).astype(np.float64)

    def covariance(self, weight: np.ndarray) -> np.ndarray:
        """The weighted products of columns `[columns, columns]` float64, not centered."""
        total = np.zeros((self.shape[1], self.shape[1]))
        for start in range(0, self.shape[0], BLOCK):
            rows = slice(start, start + BLOCK)
            block = DesignMatrix(self.dense[rows], self.sparse[rows]).toarray()
            total += block.T @ (weight[rows, None] * block)
        return total

    def gram(self, dtype: type[np.floating[Any]] = np.float64) -> np.ndarray:
        """The products of rows `[rows, rows]`, not centered."""
        dense = self.dense.astype(dtype)
        product = dense @ dense.T
        if not self.sparse.shape[1]:
            return product
        filled = np.bincount(self.sparse.indices, minlength=self.sparse.shape[1]) > DENSE_PART * self.shape[0]
        rare = self.sparse[:, ~filled].astype(dtype)
        product += (rare @ rare.T).toarray()
        often = self.sparse[:, filled].tocsc()
        for start in range(0, often.shape[1], DENSE_BLOCK):
            block = often[:, start : start + DENSE_BLOCK].astype(dtype).toarray()
            product += block @ block.T
        return product


def raw_predictions(x: DesignMatrix, coefficients: Coefficients) -> np.ndarray:
    """The raw predictions `[rows, size]` float32 of a linear model."""
    return x.dot(coefficients[:-1]) + coefficients[-1]
