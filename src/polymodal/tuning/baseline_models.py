"""Learners of fixed features that need no tuning by hand: penalised linear models and boosted trees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np

from polymodal.tuning.baseline_data import BaselinePrediction, BaselineData, predict_constant
from polymodal.tuning.principal_components import concatenate_blocks
from polymodal.tuning.linear import fit_logistic, fit_ridge, fit_ridge_classifier
from polymodal.tuning.trees import fit_boosted_trees

BaselineModel = Literal["linear", "ridge", "trees"]

#: Columns, or principal components where there are more, from which linear models learn.
MAX_COLUMNS = 512


def fit_predict(learner: BaselineModel, blocks: list[np.ndarray], new: list[np.ndarray], lesson: BaselineData) -> BaselinePrediction:
    """Learn from the matrices `blocks` (one for each input, `[n, columns]`, the last column says whether the row has
    the input) and decide rows of the same columns, `new`.

    linear: multinomial logistic regression, a logistic regression for each label, or for numbers ridge regression,
        with a penalty on the squared weights chosen on inner folds. Each input is scaled to a total variance of 1, so
        that it counts the same however many columns it has.
    ridge: the same with ridge regression for classes and labels too
    trees: histogram gradient boosting (Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree",
        2017) on each input's first principal components and on products of those of two inputs. The trees of the inner
        folds decide together (a cross-validation committee: Parmanto et al., "Improving Committee Diagnosis with
        Resampling Techniques", 1996), after the number of rounds that is best on what each was not trained on.

    Where rows are too few for inner folds, or all of one class, the answer is the constant one.
    """
    inner = lesson.inner()
    if not inner or (lesson.space == "categorical" and len(np.unique(lesson.truth)) < 2):
        return predict_constant(lesson, len(new[0]))
    with _one_thread():
        if learner != "trees":
            known, unknown = concatenate_blocks(blocks, new, MAX_COLUMNS)
            fit = fit_ridge if lesson.space == "real" else fit_logistic if learner == "linear" else fit_ridge_classifier
            return fit(known, unknown, lesson, inner)
        return fit_boosted_trees(blocks, new, lesson, inner)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Matrices as small as these are slower on several threads, and threads would change the last digits."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1):
        yield
