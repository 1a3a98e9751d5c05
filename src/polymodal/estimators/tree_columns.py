"""Features as few dense columns for trees: numbers, codes, target encodings, and principal components."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.sparse import csr_matrix

from polymodal.estimators.base import EstimatorTarget
from polymodal.estimators.principal_axes import principal_axes
from polymodal.estimators.target_encoding import level_means, out_of_fold_means, outcome_columns
from polymodal.estimators.terms import TermKey, block_keys
from polymodal.features.feature_table import FeatureBlock, FeatureTable

#: Categories with more codes than this are target encoded.
MAX_CODES = 10
#: Components of each block of embeddings, and of each sparse block.
NUM_COMPONENTS = 32


class TreeColumns:
    """Fitted columns of a `FeatureTable`; missing values are NaN.

    Numbers are unchanged. Categories of few values are codes, others are target encoded. Embeddings are reduced to
    their principal components, sparse blocks to their singular vectors. All of it is fitted on training rows.

    categories: positions of the columns that are codes
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.state: dict[str, np.ndarray] = {}
        self.categories: list[int] = []

    def fit(self, table: FeatureTable, target: EstimatorTarget) -> np.ndarray:
        """Fit on the rows of `table`; return their columns `[rows, columns]` float64, target encodings out of fold."""
        self.state, outcomes = {}, outcome_columns(target)
        columns: list[np.ndarray] = []
        for at, block in enumerate(_blocks(table)):
            if block.kind == "category":
                for column, size in enumerate(block.sizes):
                    codes = block.values[:, column]
                    if size <= MAX_CODES:
                        self.categories.append(sum(one.shape[1] for one in columns))
                        columns.append(_with_missing(codes))
                        continue
                    self.state[f"{at}.{column}"] = level_means(codes, size, outcomes, target.weight)
                    columns.append(out_of_fold_means(codes, size, outcomes, target.weight, self.seed))
                continue
            if block.kind != "number":
                self.state |= {f"{at}.{name}": value for name, value in self._axes(block).items()}
            columns.append(self._transformed(at, block))
        return _joined(columns, len(table))

    def transform(self, table: FeatureTable) -> np.ndarray:
        """The columns of the rows of `table`."""
        columns: list[np.ndarray] = []
        for at, block in enumerate(_blocks(table)):
            if block.kind == "category":
                for column in range(len(block.sizes)):
                    means, codes = self.state.get(f"{at}.{column}"), block.values[:, column]
                    columns.append(_with_missing(codes) if means is None else means[codes + 1])
            else:
                columns.append(self._transformed(at, block))
        return _joined(columns, len(table))

    def keys(self, table: FeatureTable) -> list[TermKey]:
        """The features of each column."""
        found: list[TermKey] = []
        for at, ((name, number), block) in enumerate(zip(block_keys(table), _blocks(table), strict=True)):
            if block.kind == "category":
                for column in range(len(block.sizes)):
                    means = self.state.get(f"{at}.{column}")
                    found += [TermKey(name, number, column)] * (1 if means is None else means.shape[1])
            elif block.kind == "number":
                found += [TermKey(name, number, column) for column in range(block.values.shape[1])]
            else:
                found += [TermKey(name, number, -1)] * self.state[f"{at}.axes"].shape[1]
        return found

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore `state`."""
        self.state = dict(state)

    def _transformed(self, at: int, block: FeatureBlock) -> np.ndarray:
        if block.kind == "number":
            return np.where(np.isfinite(block.values), block.values, np.nan).astype(np.float64)
        axes = self.state[f"{at}.axes"]
        if block.kind == "sparse":
            return np.asarray(block.values @ axes, np.float64)
        return np.asarray((block.values - self.state[f"{at}.mean"]) @ axes, np.float64)

    def _axes(self, block: FeatureBlock) -> dict[str, np.ndarray]:
        """The first axes `[columns, up to 32]` of the training rows, and the mean of embeddings."""
        if isinstance(block.values, csr_matrix):
            return {"axes": principal_axes(block.values, NUM_COMPONENTS, self.seed)}
        rows = block.values[np.isfinite(block.values).all(axis=1)]
        mean = rows.sum(axis=0, dtype=np.float64) / max(1, len(rows))
        mean = mean.astype(np.float32)
        return {"axes": principal_axes(rows - mean, NUM_COMPONENTS, self.seed), "mean": mean}


def _blocks(table: FeatureTable) -> list[FeatureBlock]:
    return [block for some in table.blocks.values() for block in some]


def _with_missing(codes: np.ndarray) -> np.ndarray:
    return np.where(codes < 0, np.nan, codes)[:, None]


def _joined(columns: list[np.ndarray], rows: int) -> np.ndarray:
    return np.concatenate([np.zeros((rows, 0)), *columns], axis=1)
