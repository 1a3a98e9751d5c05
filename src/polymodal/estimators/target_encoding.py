"""Categories as the mean target of their training rows, out of fold for the training rows themselves."""

from __future__ import annotations

import numpy as np

from polymodal.estimators.base import EstimatorTarget

#: Weight of the overall mean, in rows.
SMOOTHING = 10.0
NUM_FOLDS = 5
#: The largest number of classes with a column of their own; the most frequent ones.
MAX_CLASSES = 10


def outcome_columns(target: EstimatorTarget) -> np.ndarray:
    """The columns `[rows, k]` whose means describe a category: labels, numbers, or indicators of classes.

    Two classes need one indicator; of more than 10 classes, the most frequent have one.
    """
    if target.space != "categorical":
        return target.values
    counts = np.bincount(target.values, target.weight, minlength=target.size)
    classes = np.argsort(-counts, kind="stable")[: 1 if target.size == 2 else MAX_CLASSES]
    return (target.values[:, None] == np.sort(classes)).astype(np.float64)


def level_means(codes: np.ndarray, size: int, outcomes: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The smoothed means `[size + 1, k]` of the outcomes by code; the first row is that of missing categories (-1).

    Micci-Barreca, "A preprocessing scheme for high-cardinality categorical attributes in classification and prediction
    problems", 2001.
    """
    prior = weight @ outcomes / weight.sum()
    counts = np.bincount(codes + 1, weight, minlength=size + 1)
    sums = np.stack([np.bincount(codes + 1, weight * one, minlength=size + 1) for one in outcomes.T], axis=1)
    return np.asarray((sums + SMOOTHING * prior) / (counts + SMOOTHING)[:, None])


def out_of_fold_means(codes: np.ndarray, size: int, outcomes: np.ndarray, weight: np.ndarray, seed: int) -> np.ndarray:
    """The encoding `[rows, k]` of training rows, each by means without this row, so that it does not reveal the
    target."""
    order = np.random.default_rng(seed).permutation(len(codes))
    parts = np.array_split(order, min(NUM_FOLDS, len(codes)))
    encoded = np.empty((len(codes), outcomes.shape[1]))
    for part in parts:
        rest = np.setdiff1d(order, part)
        if len(rest):
            encoded[part] = level_means(codes[rest], size, outcomes[rest], weight[rest])[codes[part] + 1]
        else:
            encoded[part] = weight @ outcomes / weight.sum()
    return encoded
