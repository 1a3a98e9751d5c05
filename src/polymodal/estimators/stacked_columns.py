"""Columns for trees in which texts and embeddings are out-of-fold predictions of linear models."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from polymodal.data.split import folds as make_folds
from polymodal.estimators.base import EstimatorState, EstimatorTarget, Fold
from polymodal.estimators.linear import LinearModel
from polymodal.estimators.terms import TermKey
from polymodal.estimators.tree_columns import TreeColumns
from polymodal.features.feature_table import FeatureBlock, FeatureTable

#: Training rows predict each other in this number of folds; with fewer rows, an input has no predictions.
NUM_FOLDS = 5


class StackedColumns(TreeColumns):
    """Fitted columns of a `FeatureTable`, as `TreeColumns`, but the embeddings and sparse blocks of an input are
    replaced by the raw predictions of a linear model that reads them alone (Wolpert, "Stacked generalization", 1992).

    Each training row has the prediction of a model that was not fitted on it, nor on another row of its group, so the
    columns do not reveal the target. New rows have those of a model that was fitted on all training rows. A row
    without the input has NaN.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._models: dict[str, LinearModel] = {}

    def fit(self, table: FeatureTable, target: EstimatorTarget) -> np.ndarray:
        self._models, found = {}, {}
        is_categorical = target.space == "categorical"
        for name in _wide_inputs(table):
            part, rows = _wide_part(table, name), np.flatnonzero(table.present[name])
            found[name] = np.full((len(table), _width(target.size, is_categorical)), np.nan, np.float32)
            if folds := _inner_folds(target.take(rows), self.seed):
                model = LinearModel(LinearModel.Options(), seed=self.seed)
                raw = model.cross_fit(part.take(rows), target.take(rows), folds)
                found[name][rows] = _columns(raw, is_categorical)
                self._models[name] = model
        columns = super().fit(_with_predictions(table, found), target)
        for name, model in self._models.items():
            self.state |= {f"model.{name}.{key}": value for key, value in model.save().arrays.items()}
        self.state["categorical"] = np.array(is_categorical)
        self.state["size"] = np.array(target.size)
        return columns

    def transform(self, table: FeatureTable) -> np.ndarray:
        return super().transform(self._replaced(table))

    def keys(self, table: FeatureTable) -> list[TermKey]:
        found = super().keys(self._replaced(table))
        first = {name: _wide_numbers(table.blocks[name])[0] for name in _wide_inputs(table)}
        kept = {name: _kept_numbers(table.blocks[name]) for name in table.blocks}
        return [
            TermKey(name, kept[name][block], column) if block < len(kept[name]) else TermKey(name, first[name], -1)
            for name, block, column in found
        ]

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        super().load(state)
        arrays: dict[str, dict[str, np.ndarray]] = {}
        for key, value in state.items():
            if key.startswith("model."):
                name, rest = _split_key(key.removeprefix("model."))
                arrays.setdefault(name, {})[rest] = value
        self._models = {}
        for name, some in arrays.items():
            self._models[name] = LinearModel(LinearModel.Options(), seed=self.seed)
            self._models[name].load(EstimatorState(some))

    def _replaced(self, table: FeatureTable) -> FeatureTable:
        """The table with predictions in the place of embeddings and sparse blocks."""
        found, is_categorical = {}, bool(self.state["categorical"])
        for name in _wide_inputs(table):
            rows = np.flatnonzero(table.present[name])
            found[name] = np.full((len(table), _width(int(self.state["size"]), is_categorical)), np.nan, np.float32)
            if name in self._models and len(rows):
                raw = self._models[name].predict(_wide_part(table, name).take(rows))
                found[name][rows] = _columns(raw, is_categorical)
        return _with_predictions(table, found)


def _split_key(key: str) -> tuple[str, str]:
    """The name of the input, and the name of the array of its model."""
    for rest in (".coefficients", ".columns."):
        at = key.rfind(rest)
        if at >= 0:
            return key[:at], key[at + 1 :]
    raise KeyError(key)


def _wide_numbers(blocks: tuple[FeatureBlock, ...]) -> list[int]:
    return [at for at, block in enumerate(blocks) if block.kind in ("embedding", "sparse")]


def _kept_numbers(blocks: tuple[FeatureBlock, ...]) -> list[int]:
    return [at for at, block in enumerate(blocks) if block.kind not in ("embedding", "sparse")]


def _wide_inputs(table: FeatureTable) -> list[str]:
    return [name for name, blocks in table.blocks.items() if _wide_numbers(blocks)]


def _wide_part(table: FeatureTable, name: str) -> FeatureTable:
    """The embeddings and sparse blocks of one input."""
    blocks = tuple(table.blocks[name][at] for at in _wide_numbers(table.blocks[name]))
    return FeatureTable({name: blocks}, {name: table.present[name]})


def _with_predictions(table: FeatureTable, values: Mapping[str, np.ndarray]) -> FeatureTable:
    """The table with `values` as the last block of an input, and without its embeddings and sparse blocks."""
    blocks = {}
    for name, some in table.blocks.items():
        kept = tuple(some[at] for at in _kept_numbers(some))
        blocks[name] = (*kept, FeatureBlock("number", values[name])) if name in values else kept
    return FeatureTable(blocks, table.present)


def _width(size: int, is_categorical: bool) -> int:
    """The number of columns of predictions of `size` values."""
    return 1 if is_categorical and size == 2 else size


def _columns(raw: np.ndarray, is_categorical: bool) -> np.ndarray:
    """Raw predictions as columns: of two classes, the log-odds; of more, the log-probabilities."""
    if not is_categorical:
        return raw
    if raw.shape[1] == 2:
        return raw[:, 1:] - raw[:, :1]
    return np.asarray(raw - np.logaddexp.reduce(raw, axis=1, keepdims=True))


def _inner_folds(target: EstimatorTarget, seed: int) -> list[Fold]:
    """Folds of the rows, groups together; none if there are fewer groups than folds."""
    groups = np.arange(len(target)) if target.groups is None else target.groups
    if len(np.unique(groups)) < NUM_FOLDS:
        return []
    made = make_folds(len(target), NUM_FOLDS, seed, groups=None if target.groups is None else groups.tolist())
    return [Fold(train, held_out) for train, held_out in made]
