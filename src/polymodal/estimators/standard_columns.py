"""Features as columns for one penalty: standardized numbers, one-hot categories, scaled texts and embeddings."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.sparse import csr_matrix, hstack

from polymodal.estimators.design_matrix import DesignMatrix
from polymodal.estimators.terms import TermKey, block_keys
from polymodal.features.feature_table import FeatureBlock, FeatureTable

#: Standardized numbers are clipped to this absolute value, so that one extreme cell cannot decide a prediction.
CLIP = 10.0


class StandardColumns:
    """Fitted columns of a `FeatureTable`.

    Numbers are standardized, with 0 for missing values, and an indicator column where a training row is missing.
    Categories are one-hot, with columns for rare and for missing values. All of these are scaled together to a total
    variance of 1. Embeddings are centered, and each block is scaled to a total variance of 1, or of the
    square of its importance. Each sparse block is
    scaled to a mean squared row length of 1 and stays sparse. So three numbers and a text of 30,000 words have the
    same prior importance. Inputs of embeddings or sparse counts that are missing in training rows have an indicator.

    Means and scales are those of the weighted training rows.
    """

    def __init__(self) -> None:
        self.state: dict[str, np.ndarray] = {}

    def fit(self, table: FeatureTable, weight: np.ndarray) -> DesignMatrix:
        """Fit on the rows of `table` with weights `[rows]`; return their columns."""
        weight = weight / weight.sum()
        self.state = {}
        for at, block in enumerate(_blocks(table)):
            for name, value in _fit_block(block, weight).items():
                self.state[f"{at}.{name}"] = value
        for name in _inputs_with_flag(table):
            present = table.present[name]
            self.state[f"present.{name}"] = np.array(np.nan if present.all() else weight @ present)
        tabular = self._tabular(table)
        total = float((weight @ np.square(tabular, dtype=np.float64)).sum())
        self.state["scale"] = np.array(1 / np.sqrt(total) if total > 0 else 1.0)
        return self._design(table, tabular)

    def transform(self, table: FeatureTable) -> DesignMatrix:
        """The columns of the rows of `table`."""
        return self._design(table, self._tabular(table))

    def groups(self, table: FeatureTable) -> np.ndarray:
        """The group of each column of the design matrix, from 0: a number with its indicator, the levels of a category,
        the indicator of an input, an embedding, or a sparse block."""
        keys = self.keys(table)
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        return np.array([numbers[key] for key in keys], np.int64)

    def keys(self, table: FeatureTable) -> list[TermKey]:
        """The features of each column of the design matrix."""
        tabular: list[TermKey] = []
        others: dict[str, list[TermKey]] = {"embedding": [], "sparse": []}
        for at, ((name, number), block) in enumerate(zip(block_keys(table), _blocks(table), strict=True)):
            if block.kind == "number":
                flagged = np.flatnonzero(~np.isnan(self.state[f"{at}.rate"]))
                columns = [*range(block.values.shape[1]), *flagged.tolist()]
                tabular += [TermKey(name, number, column) for column in columns]
            elif block.kind == "category":
                tabular += [TermKey(name, number, column) for column in self.state[f"{at}.column"].tolist()]
            else:
                others[block.kind] += [TermKey(name, number, -1)] * block.values.shape[1]
        flags = [
            TermKey(name, -1, -1) for name in _inputs_with_flag(table) if not np.isnan(self.state[f"present.{name}"])
        ]
        return [*tabular, *flags, *others["embedding"], *others["sparse"]]

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore `state`.

        Raises:
            KeyError: the state is not complete.
        """
        if "scale" not in state:
            raise KeyError("scale")
        self.state = dict(state)

    def _tabular(self, table: FeatureTable) -> np.ndarray:
        """Numbers, categories and indicators `[rows, columns]` float32, centered, before the common scale."""
        columns = [np.zeros((len(table), 0), np.float32)]
        for at, block in enumerate(_blocks(table)):
            if block.kind == "number":
                columns += _numbers(
                    block.values, self.state[f"{at}.mean"], self.state[f"{at}.scale"], self.state[f"{at}.rate"]
                )
            elif block.kind == "category":
                levels = block.values[:, self.state[f"{at}.column"]] == self.state[f"{at}.level"]
                columns.append((levels - self.state[f"{at}.rate"]).astype(np.float32))
        for name in _inputs_with_flag(table):
            rate = self.state[f"present.{name}"]
            if not np.isnan(rate):
                columns.append((table.present[name] - rate).astype(np.float32)[:, None])
        return np.concatenate(columns, axis=1)

    def _design(self, table: FeatureTable, tabular: np.ndarray) -> DesignMatrix:
        dense, sparse = (
            [tabular * self.state["scale"].astype(np.float32)],
            [csr_matrix((len(table), 0), dtype=np.float32)],
        )
        for at, block in enumerate(_blocks(table)):
            if block.kind == "embedding":
                values = (block.values - self.state[f"{at}.mean"]) * self.state[f"{at}.scale"].astype(np.float32)
                dense.append(np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0))
            elif block.kind == "sparse":
                sparse.append(block.values * self.state[f"{at}.scale"].astype(np.float32))
        joined = sparse[-1] if len(sparse) == 2 else hstack(sparse, format="csr")
        return DesignMatrix(np.concatenate(dense, axis=1), joined)


def _blocks(table: FeatureTable) -> list[FeatureBlock]:
    return [block for some in table.blocks.values() for block in some]


def _inputs_with_flag(table: FeatureTable) -> list[str]:
    """The inputs whose missing rows have no cell that says so."""
    return [name for name, some in table.blocks.items() if any(one.kind in ("embedding", "sparse") for one in some)]


def _fit_block(block: FeatureBlock, weight: np.ndarray) -> dict[str, np.ndarray]:
    values = block.values
    if isinstance(values, csr_matrix):
        total = float(weight @ np.asarray(values.multiply(values).sum(axis=1)).ravel())
        nonempty = float(weight @ (np.diff(values.indptr) > 0))
        return {"scale": np.array(np.sqrt(nonempty / total) if total > 0 else 1.0)}
    if block.kind == "category":
        return _fit_levels(values, block.sizes, weight)
    if block.kind == "embedding":
        found = _fit_embedding(values, weight)
        return {**found, "scale": np.asarray(found["scale"] * block.importance)}
    known = np.isfinite(values)
    share = weight @ known
    filled = np.where(known, values, 0).astype(np.float64)
    mean = (weight @ filled) / np.where(share > 0, share, 1)
    centered = np.where(known, filled - mean, 0)
    variance = weight @ centered**2
    std = np.sqrt(variance / np.where(share > 0, share, 1))
    constant = std <= 1e-6 * np.maximum(np.abs(mean), 1e-12)
    rate = np.where(known.all(axis=0), np.nan, 1 - share)  # NaN: no indicator
    return {"mean": mean, "scale": np.where(constant, 0.0, 1 / np.where(constant, 1.0, std)), "rate": rate}


def _fit_embedding(values: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """The mean of the present rows, which are finite, and the scale. Ten thousand columns are read as few times as
    possible."""
    present = np.isfinite(values).all(axis=1)
    share = float(weight @ present)
    if not share > 0:
        return {"mean": np.zeros(values.shape[1], np.float32), "scale": np.array(1.0)}
    rows, weight = (values, weight / share) if present.all() else (values[present], weight[present] / share)
    mean = weight.astype(np.float32) @ rows
    centered = rows - mean
    spread = float(weight @ np.einsum("ij,ij->i", centered, centered))
    return {"mean": mean, "scale": np.array(1 / np.sqrt(spread) if spread > 0 else 1.0)}


def _fit_levels(codes: np.ndarray, sizes: tuple[int, ...], weight: np.ndarray) -> dict[str, np.ndarray]:
    """The levels with a one-hot column: those of some training rows, but not of all."""
    found: list[tuple[int, int, float]] = []
    for column, size in enumerate(sizes):
        rates = np.bincount(codes[:, column] + 1, weight, minlength=size + 1)
        found += [(column, at - 1, rate) for at, rate in enumerate(rates) if 1e-12 < rate < 1 - 1e-12]
    return {
        "column": np.array([column for column, _, _ in found], np.int64),
        "level": np.array([level for _, level, _ in found], np.int32),
        "rate": np.array([rate for _, _, rate in found], np.float64),
    }


def _numbers(values: np.ndarray, mean: np.ndarray, scale: np.ndarray, rate: np.ndarray) -> list[np.ndarray]:
    """Standardized numbers, and indicators of missing ones."""
    unknown = ~np.isfinite(values)
    standard = np.where(unknown, 0.0, (np.where(unknown, 0.0, values) - mean) * scale).clip(-CLIP, CLIP)
    flagged = ~np.isnan(rate)
    return [standard.astype(np.float32), (unknown[:, flagged] - rate[flagged]).astype(np.float32)]
