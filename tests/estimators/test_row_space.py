"""Linear models by a factor for each row: the same model as by a weight for each column."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.sparse import random as random_sparse

from polymodal.core.types import Space
from polymodal.estimators.base import EstimatorTarget
from polymodal.estimators.design_matrix import DesignMatrix, raw_predictions
from polymodal.estimators.logistic_models import LogisticTruth, _path_in_columns, _path_in_rows
from polymodal.estimators.row_space import MAX_ROWS, RowSpace, is_smaller_in_rows

ROWS, COLUMNS = 150, 2000
PENALTIES = (1e-1, 1e-2, 1e-3)


@cache
def texts(rows: int = ROWS, columns: int = COLUMNS) -> DesignMatrix:
    """Rows like texts: three numbers, a few columns with a value in most rows, and many rare columns."""
    draw = np.random.default_rng(0)
    sparse = random_sparse(rows, columns, 0.01, "lil", np.float32, random_state=0)
    sparse[:, :5] = draw.random((rows, 5)) * (draw.random((rows, 5)) < 0.8)
    return DesignMatrix(draw.normal(size=(rows, 3)).astype(np.float32), sparse.tocsr())


def target(space: Space) -> EstimatorTarget:
    """Classes or labels that depend on the columns, with weights; one class has no row, one label has all rows."""
    draw = np.random.default_rng(1)
    scores = texts().dot(draw.normal(size=(COLUMNS + 3, 3)).astype(np.float32))
    weight = draw.uniform(0.5, 2, ROWS)
    if space == "categorical":
        return EstimatorTarget(space, 4, scores.argmax(1).astype(np.int64), weight)
    return EstimatorTarget(space, 4, np.c_[scores > 0, np.ones(ROWS)].astype(np.float64), weight)


@pytest.mark.parametrize("space", ["categorical", "binary"])
def test_factors_of_rows_give_the_same_predictions_as_weights_of_columns(space: Space) -> None:
    x, truth = texts(), LogisticTruth.of(target(space))
    constant = target(space).constant()[truth.active]
    by_rows = list(_path_in_rows(x, truth, constant, PENALTIES))
    by_columns = list(_path_in_columns(x, truth, constant, PENALTIES))
    assert len(truth.active) == 3
    for rows, columns, penalty in zip(by_rows, by_columns, PENALTIES, strict=True):
        losses = [
            truth.loss(raw_predictions(x, one))[0] + penalty / 2 * float(np.square(one[:-1]).sum())
            for one in (rows, columns)
        ]
        assert losses[0] == pytest.approx(losses[1], rel=2e-3)
        assert np.corrcoef(raw_predictions(x, rows).ravel(), raw_predictions(x, columns).ravel())[0, 1] > 0.99
    spread = [raw_predictions(x, one).std() for one in by_rows]
    assert spread == sorted(spread)
    assert spread[-1] > 1


def test_products_of_rows_are_those_of_dense_columns() -> None:
    x, dense = texts(), texts().toarray()
    np.testing.assert_allclose(x.gram(), dense @ dense.T, atol=1e-9)
    weight = np.full((ROWS, 1), 1 / ROWS, np.float32)
    centered = dense - dense.mean(0)
    np.testing.assert_allclose(RowSpace(x, weight).products, centered @ centered.T, atol=1e-3)


def test_texts_are_solved_by_rows_and_tall_tables_by_columns() -> None:
    assert is_smaller_in_rows(texts())
    assert not is_smaller_in_rows(texts(2000, 10))
    assert not is_smaller_in_rows(texts(MAX_ROWS + 1, 10))
