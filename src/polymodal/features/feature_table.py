"""Features of rows: columns of numbers, categories, sparse counts, or embeddings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.sparse import csr_matrix, vstack

FeatureKind = Literal["number", "category", "sparse", "embedding"]


@dataclass(frozen=True)
class FeatureBlock:
    """Columns of one kind, from one input.

    values: `[rows, columns]`. `number`: float32, NaN if missing. `category`: int32 codes from 0 (rare and unknown
        categories), -1 if missing. `sparse`: a float32 `csr_matrix`, without entries if missing. `embedding`: float32,
        NaN if missing; the columns have no meaning on their own
    sizes: the number of codes of each column of categories
    importance: of an embedding, the standard deviation of the block for models with one penalty, where others have 1
    """

    kind: FeatureKind
    values: np.ndarray | csr_matrix
    sizes: tuple[int, ...] = ()
    importance: float = 1.0

    def __len__(self) -> int:
        return int(self.values.shape[0])

    def take(self, rows: np.ndarray) -> FeatureBlock:
        """The block of some rows; -1 stands for a row without the input."""
        missing = rows < 0
        if not missing.any():
            return replace(self, values=self.values[rows])
        if isinstance(self.values, csr_matrix):
            return replace(self, values=_take_sparse(self.values, rows))
        fill = -1 if self.kind == "category" else np.nan
        values = np.full((len(rows), self.values.shape[1]), fill, self.values.dtype)
        values[~missing] = self.values[rows[~missing]]
        return replace(self, values=values)


@dataclass(frozen=True)
class FeatureTable:
    """The features of rows, by input.

    present: by input, `[rows]` bool, whether the row has the input

    Example:
        >>> block = FeatureBlock("number", np.array([[1.0], [2.0]], np.float32))
        >>> table = FeatureTable({"size": (block,)}, {"size": np.array([True, True])})
        >>> table.take(np.array([1])).blocks["size"][0].values
        array([[2.]], dtype=float32)
    """

    blocks: dict[str, tuple[FeatureBlock, ...]]
    present: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.present.values())))

    def take(self, rows: np.ndarray) -> FeatureTable:
        """The features of some rows."""
        blocks = {name: tuple(block.take(rows) for block in some) for name, some in self.blocks.items()}
        return FeatureTable(blocks, {name: present[rows] for name, present in self.present.items()})

    def select(self, inputs: Sequence[str]) -> FeatureTable:
        """The features of some inputs; of all inputs if `inputs` is empty."""
        if not inputs:
            return self
        return FeatureTable({one: self.blocks[one] for one in inputs}, {one: self.present[one] for one in inputs})

    def hide(self, inputs: Collection[str]) -> FeatureTable:
        """The same rows without some of the inputs, which count as missing."""
        if not inputs:
            return self
        nowhere = np.full(len(self), -1)
        blocks = {
            name: tuple(block.take(nowhere) for block in some) if name in inputs else some
            for name, some in self.blocks.items()
        }
        present = {name: one & (name not in inputs) for name, one in self.present.items()}
        return FeatureTable(blocks, present)

    def of_kind(self, kind: FeatureKind) -> list[FeatureBlock]:
        """All blocks of one kind, in the order of the inputs."""
        return [block for some in self.blocks.values() for block in some if block.kind == kind]

    @classmethod
    def concatenate(cls, tables: Sequence[FeatureTable]) -> FeatureTable:
        """The rows of several tables with the same inputs."""
        if len(tables) == 1:
            return tables[0]
        first = tables[0]
        blocks = {
            name: tuple(stack_blocks([table.blocks[name][at] for table in tables]) for at in range(len(some)))
            for name, some in first.blocks.items()
        }
        return cls(blocks, {name: np.concatenate([table.present[name] for table in tables]) for name in first.present})


def stack_blocks(blocks: Sequence[FeatureBlock]) -> FeatureBlock:
    """The rows of several blocks of the same columns."""
    if len(blocks) == 1:
        return blocks[0]
    values = [block.values for block in blocks]
    joined = vstack(values, format="csr") if blocks[0].kind == "sparse" else np.concatenate(values)
    return replace(blocks[0], values=joined)


def _take_sparse(values: csr_matrix, rows: np.ndarray) -> csr_matrix:
    """Some rows of a sparse matrix; -1 stands for a row without entries."""
    if values.shape[0] == 0:
        return csr_matrix((len(rows), values.shape[1]), dtype=np.float32)
    missing = rows < 0
    picked = values[np.where(missing, 0, rows)]
    counts = np.diff(picked.indptr)
    keep = np.repeat(~missing, counts)
    indptr = np.concatenate([[0], np.cumsum(np.where(missing, 0, counts))])
    return csr_matrix((picked.data[keep], picked.indices[keep], indptr), shape=picked.shape)
