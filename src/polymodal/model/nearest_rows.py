"""The rows of a table that are nearest to others in the eyes of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from polymodal.core.errors import RecipeError
from polymodal.core.html_table import html_table
from polymodal.data.table.table import Table
from polymodal.inference.ensemble_predictor import EnsemblePredictor, PredictsSplits
from polymodal.inference.predictor import Predictor
from polymodal.model.diagnosis import table_cells, table_features
from polymodal.model.embedding import embed_rows

#: Rows whose distances to all reference rows are computed at once.
BLOCK = 512


@dataclass(frozen=True)
class NearestRows:
    """The nearest rows of a reference table, for each row. A notebook shows a table.

    rows: `[rows, count]` row numbers of the reference table, the nearest first
    distances: `[rows, count]`: 1 - cosine similarity of the embeddings of a network; for a model of members, the mean
        squared difference of their features, in standard deviations of the reference rows
    targets: by output column, the cells of these rows, a list of `count` for each row
    """

    rows: np.ndarray
    distances: np.ndarray
    targets: dict[str, list[list[Any]]]

    def __len__(self) -> int:
        return len(self.rows)

    def _repr_html_(self) -> str:
        rows = [
            [
                str(number),
                ", ".join(map(str, own)),
                *(", ".join(map(str, cells[number])) for cells in self.targets.values()),
            ]
            for number, own in enumerate(self.rows.tolist())
        ]
        return html_table(rows, ["row", "nearest rows", *self.targets])


def nearest_rows(predictor: PredictsSplits, reference: Table, table: Table, count: int, strict: bool) -> NearestRows:
    """The result of `Model.nearest_rows`."""
    if not 1 <= count <= len(reference):
        raise RecipeError("count", f"must be between 1 and {len(reference):,}, the rows of the reference, not {count}")
    network = predictor
    if isinstance(predictor, EnsemblePredictor) and predictor.predictors:
        network = predictor.predictors[0]
    if isinstance(network, Predictor):
        known, new = (embed_rows(network, one, None, None, None, strict=strict) for one in (reference, table))
    else:
        known, new = _standard(table_features(predictor, reference, strict), table_features(predictor, table, strict))
    rows, distances = _search(known.astype(np.float64), new.astype(np.float64), count)
    columns = [column for column in predictor.preparation.target_columns if column in reference.columns]
    targets = {column: _cells(reference, column, rows) for column in columns}
    return NearestRows(rows, distances, targets)


def _standard(known: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Features in standard deviations of the reference rows, 0 if missing. They are scaled so that half of a squared
    distance is the mean squared difference."""
    first, second = (np.concatenate(list(side.values()), axis=1) for side in (known, new))
    mean, spread = np.nanmean(first, axis=0), np.nanstd(first, axis=0)
    useful = spread > 0
    scale = spread[useful] * np.sqrt(useful.sum() / 2)
    found = [np.nan_to_num((side[:, useful] - mean[useful]) / scale) for side in (first, second)]
    return found[0], found[1]


def _search(known: np.ndarray, new: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest rows of `known` and half of their squared distances, `[rows, count]`."""
    squares = np.square(known).sum(axis=1)
    rows, distances = [np.zeros((0, count), np.int64)], [np.zeros((0, count))]
    for start in range(0, len(new), BLOCK):
        some = new[start : start + BLOCK]
        far = np.maximum(0.0, (np.square(some).sum(axis=1, keepdims=True) + squares) / 2 - some @ known.T)
        order = np.argsort(far, axis=1, kind="stable")[:, :count]
        rows.append(order)
        distances.append(np.take_along_axis(far, order, axis=1))
    return np.concatenate(rows), np.concatenate(distances)


def _cells(table: Table, column: str, rows: np.ndarray) -> list[list[Any]]:
    cells = table_cells(table, column, rows.reshape(-1))
    return [cells[start : start + rows.shape[1]] for start in range(0, len(cells), rows.shape[1])]
