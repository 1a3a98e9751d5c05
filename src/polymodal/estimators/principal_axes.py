"""The first principal axes of rows, dense or sparse."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix


def principal_axes(rows: np.ndarray | csr_matrix, count: int, seed: int) -> np.ndarray:
    """The first right singular vectors `[columns, up to count]` float32 of centered or sparse rows.

    Halko, Martinsson and Tropp, "Finding structure with randomness: probabilistic algorithms for constructing
    approximate matrix decompositions", 2011.
    """
    from sklearn.utils.extmath import randomized_svd

    count = min(count, *rows.shape)
    if count == 0:
        return np.zeros((rows.shape[1], 0), np.float32)
    _, _, axes = randomized_svd(rows, count, n_iter=3, random_state=seed)
    return np.asarray(axes.T, np.float32)
