"""Features as few dense columns of comparable scale, for models of distances."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from scipy.sparse import csr_matrix

from polymodal.estimators.design_matrix import DesignMatrix
from polymodal.estimators.principal_axes import principal_axes
from polymodal.estimators.standard_columns import StandardColumns
from polymodal.features.feature_table import FeatureTable

#: Components of the sparse blocks together, and the fewest of each block.
NUM_COMPONENTS, FEWEST_COMPONENTS = 100, 20


class DenseColumns:
    """The columns of `StandardColumns`, with each sparse block reduced to its first singular vectors: 100 of one block,
    fewer of each of several.

    All columns together have a mean squared length of 1, so that the mean squared distance of two rows is about 2.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._columns = StandardColumns()
        self._axes: list[np.ndarray] = []
        self._scale = np.array(1.0, np.float32)

    def fit(self, table: FeatureTable, weight: np.ndarray) -> np.ndarray:
        """Fit on the rows of `table` with weights `[rows]`; return their columns `[rows, columns]` float32."""
        design = self._columns.fit(table, weight)
        blocks = list(_split(design.sparse, _widths(table)))
        count = max(FEWEST_COMPONENTS, NUM_COMPONENTS // max(1, len(blocks)))
        self._axes = [principal_axes(block, count, self.seed) for block in blocks]
        values = self._joined(design, table)
        self._scale = scale_to_length(values, weight)
        return values * self._scale

    def transform(self, table: FeatureTable) -> np.ndarray:
        """The columns of the rows of `table`."""
        return self._joined(self._columns.transform(table), table) * self._scale

    def groups(self, table: FeatureTable) -> np.ndarray:
        """The group of each column, as `StandardColumns.groups`."""
        groups = self._columns.groups(table)
        width = len(groups) - sum(_widths(table))
        sparse = np.concatenate(
            [np.zeros(0, np.int64), *(np.full(one.shape[1], at) for at, one in enumerate(self._axes))]
        )
        return np.concatenate([groups[:width], 1 + groups[:width].max(initial=-1) + sparse])

    def save(self) -> dict[str, np.ndarray]:
        """The fitted state."""
        axes = {f"axes.{at}": one for at, one in enumerate(self._axes)}
        return {**self._columns.state, **axes, "length": self._scale}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore the state that `save` returned.

        Raises:
            KeyError: the state is not complete.
        """
        axes = sorted((name for name in state if name.startswith("axes.")), key=lambda name: int(name[5:]))
        self._columns.load({name: value for name, value in state.items() if name not in (*axes, "length")})
        self._axes, self._scale = [state[name] for name in axes], state["length"]

    def _joined(self, design: DesignMatrix, table: FeatureTable) -> np.ndarray:
        blocks = _split(design.sparse, _widths(table))
        reduced = [np.asarray(block @ axes) for block, axes in zip(blocks, self._axes, strict=True)]
        return np.concatenate([design.dense, *reduced], axis=1)


def scale_to_length(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The factor `[]` float32 that gives rows `[rows, columns]` a mean squared length of 1."""
    length = float(weight @ np.square(values, dtype=np.float64).sum(axis=1)) / float(weight.sum())
    return np.array(1 / np.sqrt(length) if length > 0 else 1.0, np.float32)


def _widths(table: FeatureTable) -> list[int]:
    """The number of columns of each sparse block."""
    blocks = [block for some in table.blocks.values() for block in some]
    return [block.values.shape[1] for block in blocks if block.kind == "sparse"]


def _split(sparse: csr_matrix, widths: list[int]) -> Iterator[csr_matrix]:
    """The columns of each block."""
    if len(widths) == 1:
        yield sparse
        return
    columns = sparse.tocsc()
    for end, width in zip(np.cumsum(widths).tolist(), widths, strict=True):
        yield columns[:, end - width : end].tocsr()
