"""Linear models by a factor for each row in place of a weight for each column."""

from __future__ import annotations

import numpy as np

from polymodal.estimators.design_matrix import DesignMatrix

#: The products of all rows are computed for at most this many rows: 100 MB.
MAX_ROWS = 5000
#: The cost of a step over the weights of columns, in products of two rows: for each stored value of the sparse columns,
#: each value of the dense ones, and each column. Measured on texts, on one core of an x86-64 processor.
SPARSE_COST, DENSE_COST, COLUMN_COST = 25, 2, 150


class RowSpace:
    """The centered rows of a design matrix, of which the weights of the columns are a sum: W = (X - m)' A.

    The best weights with a penalty on their squares are always such a sum (the representer theorem: Schölkopf, Herbrich
    and Smola, "A generalized representer theorem", 2001). Texts have many more n-grams than rows.

    weight: `[rows, 1]` float32, the weights of the rows in the mean m; they sum to 1
    products: `[rows, rows]` float32, the products K of the centered rows: the scores of the rows are K A
    """

    def __init__(self, x: DesignMatrix, weight: np.ndarray) -> None:
        self._x = x
        self._mean = x.transposed_dot(weight)
        self.products = x.gram(np.float32)
        to_mean = self.products @ weight
        self.products -= to_mean
        self.products -= to_mean.T
        self.products += (weight * to_mean).sum()

    def weights(self, factors: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """The weights of the columns, then the intercept of rows that are not centered, `[columns + 1, k]` float32.

        factors: `[rows, k]` float32
        intercept: `[k]`, of centered rows
        """
        weights = self._x.transposed_dot(factors) - self._mean * factors.sum(axis=0)
        return np.concatenate([weights, (intercept - (self._mean * weights).sum(axis=0))[None]])


def is_smaller_in_rows(x: DesignMatrix) -> bool:
    """Whether a step over the factors of the rows costs less than one over the weights of the columns."""
    rows, columns = x.shape
    cost = SPARSE_COST * x.sparse.nnz + DENSE_COST * x.dense.size + COLUMN_COST * columns
    return bool(rows <= MAX_ROWS and rows**2 < cost)
