"""Baseline models on frozen features, without manual tuning: regularized linear models and boosted trees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np

from polymodal.tuning.baseline_data import BaselineData, BaselinePrediction, predict_constant
from polymodal.tuning.linear import fit_logistic, fit_ridge, fit_ridge_classifier
from polymodal.tuning.principal_components import concatenate_blocks
from polymodal.tuning.trees import fit_boosted_trees

BaselineModel = Literal["linear", "ridge", "trees"]

#: Maximum number of columns of linear models; more columns are reduced to principal components.
MAX_COLUMNS = 512


def fit_predict(
    kind: BaselineModel, blocks: list[np.ndarray], new: list[np.ndarray], data: BaselineData
) -> BaselinePrediction:
    """Fit a baseline on the matrices `blocks` (one per input, `[n, columns]`; the last column is 1 if the row has the
    input), and predict the rows `new` with the same columns.

    linear: multinomial logistic regression, one logistic regression per label, or ridge regression for numbers, with an
        L2 penalty chosen on inner folds. Each input is scaled to a total variance of 1, so that its influence does not
        depend on its number of columns.
    ridge: ridge regression, also for classes and labels
    trees: histogram gradient boosting (Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree",
        2017) on the first principal components of each input and on products of those of two inputs. The models of the
        inner folds are averaged (a cross-validation committee: Parmanto et al., "Improving Committee Diagnosis with
        Resampling Techniques", 1996), after the number of rounds with the best score on the held-out rows.

    If there are too few rows for inner folds, or a single class, the prediction is constant.
    """
    inner_folds = data.inner_folds()
    if not inner_folds or (data.space == "categorical" and len(np.unique(data.truth)) < 2):
        return predict_constant(data, len(new[0]))
    with _one_thread():
        if kind != "trees":
            columns, new_columns = concatenate_blocks(blocks, new, MAX_COLUMNS)
            fit = fit_ridge if data.space == "real" else fit_logistic if kind == "linear" else fit_ridge_classifier
            return fit(columns, new_columns, data, inner_folds)
        return fit_boosted_trees(blocks, new, data, inner_folds)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: small matrices are slower with several threads, and threads change the last digits."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1):
        yield
