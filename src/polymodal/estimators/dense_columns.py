"""Features as few dense columns of comparable scale, for models of distances."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from polymodal.estimators.design_matrix import DesignMatrix
from polymodal.estimators.principal_axes import principal_axes
from polymodal.estimators.standard_columns import StandardColumns
from polymodal.features.feature_table import FeatureTable

#: Components of the sparse columns.
NUM_COMPONENTS = 100


class DenseColumns:
    """The columns of `StandardColumns`, with sparse ones reduced to their first 100 singular vectors.

    All columns together have a mean squared length of 1, so that the mean squared distance of two rows is about 2.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._columns = StandardColumns()
        self._axes = np.zeros((0, 0), np.float32)
        self._scale = np.array(1.0, np.float32)

    def fit(self, table: FeatureTable, weight: np.ndarray) -> np.ndarray:
        """Fit on the rows of `table` with weights `[rows]`; return their columns `[rows, columns]` float32."""
        design = self._columns.fit(table, weight)
        self._axes = principal_axes(design.sparse, NUM_COMPONENTS, self.seed)
        values = self._joined(design)
        length = float(weight @ np.square(values, dtype=np.float64).sum(axis=1)) / float(weight.sum())
        self._scale = np.array(1 / np.sqrt(length) if length > 0 else 1.0, np.float32)
        return values * self._scale

    def transform(self, table: FeatureTable) -> np.ndarray:
        """The columns of the rows of `table`."""
        return self._joined(self._columns.transform(table)) * self._scale

    def save(self) -> dict[str, np.ndarray]:
        """The fitted state."""
        return {**self._columns.state, "axes": self._axes, "length": self._scale}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore the state that `save` returned.

        Raises:
            KeyError: the state is not complete.
        """
        self._columns.load({name: value for name, value in state.items() if name not in ("axes", "length")})
        self._axes, self._scale = state["axes"], state["length"]

    def _joined(self, design: DesignMatrix) -> np.ndarray:
        return np.concatenate([design.dense, np.asarray(design.sparse @ self._axes)], axis=1)
