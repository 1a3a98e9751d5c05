"""Gradient-boosted trees on the first principal components of each input."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, islice
from typing import Any

import numpy as np

from polymodal.tuning.baseline_data import BaselineData, BaselinePrediction, row_gains
from polymodal.tuning.principal_components import reduce_columns

#: Number of principal components per input.
NUM_COMPONENTS = 24
#: Number of leading components per input whose products with those of another input are added, for up to this many
#: inputs: greedy trees rarely find pure interactions of two inputs (such as XOR).
NUM_LEADING, MAX_INPUTS_PRODUCTS = 2, 6
ROUNDS, LEARNING_RATE, MAX_BINS, MAX_LEAVES = 30, 0.2, 32, 8


def fit_boosted_trees(
    blocks: list[np.ndarray], new: list[np.ndarray], data: BaselineData, inner_folds: list[Any]
) -> BaselinePrediction:
    """Boosted trees, averaged over the inner folds, with the number of rounds chosen on the held-out rows."""
    held_out = np.zeros((ROUNDS, len(data.truth), data.outputs))
    bases = np.zeros((len(data.truth), data.outputs))
    fitted = []
    for rows, validation_rows in inner_folds:
        train = data.subset(rows)
        bases[validation_rows] = train.constant_prediction()
        # Components are fitted on the training rows only: components of other rows have a smaller variance.
        known, others = _with_products([one[rows] for one in blocks], blocks, new)
        stages = _fit(known, train)
        held_out[:, validation_rows] = stages(others[0][validation_rows], 0, ROUNDS)
        fitted.append((stages, others[1]))
    scores = []
    for stage in held_out:
        gain, scale = row_gains(stage, bases, data.truth, data.space)
        scores.append(data.weight @ gain / max(data.weight @ scale, 1e-12))
    best = int(np.argmax(scores))
    predictions = np.mean([stages(rows, best, best + 1)[0] for stages, rows in fitted], axis=0)
    return BaselinePrediction(
        predictions, float(scores[best]), (2 * MAX_LEAVES - 1) * (best + 1) * data.outputs * len(inner_folds)
    )


def _with_products(known: list[np.ndarray], *others: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Concatenate the components of all inputs, fitted on the `known` rows, and the products of the leading components
    of each pair of inputs."""
    sides, leading = [], []
    for one, *rest in zip(known, *others, strict=True):
        new = np.concatenate(rest)
        sides.append(reduce_columns(one, new, NUM_COMPONENTS))
        leading.append(reduce_columns(one, new, min(NUM_LEADING, one.shape[1] - 1)) if one.shape[1] > 1 else None)
    if len(known) <= MAX_INPUTS_PRODUCTS:
        sides += [
            (_products(first[0], second[0]), _products(first[1], second[1]))
            for first, second in combinations(filter(None, leading), 2)
        ]
    cuts = np.cumsum([len(one[0]) for one in others])[:-1]
    joined, rest = (np.concatenate(side, axis=1) for side in zip(*sides, strict=True))
    return joined, np.split(rest, cuts)


def _products(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """All products `[rows, a b]` of columns of `first` and columns of `second`, without the presence flags."""
    return np.asarray((first[:, :-1, None] * second[:, None, :-1]).reshape(len(first), -1))


def _fit(known: np.ndarray, data: BaselineData) -> Callable[[np.ndarray, int, int], np.ndarray]:
    """Fit boosted trees. Returns a function of (rows, first, last) that gives the predictions after the rounds `first`
    to `last - 1`, `[last - first, rows, k]`."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    options: dict[str, Any] = {
        "max_iter": ROUNDS,
        "learning_rate": LEARNING_RATE,
        "max_leaf_nodes": MAX_LEAVES,
        "max_bins": MAX_BINS,
        "min_samples_leaf": int(np.clip(len(known) // 30, 3, 20)),
        "l2_regularization": 1.0,
        "early_stopping": False,
        "random_state": data.seed,
    }
    targets = [data.truth] if data.space == "categorical" else list(data.truth.T)
    constant, models = data.constant_prediction(), []
    even = bool((data.weight == data.weight[0]).all())  # binning is much faster without weights
    weight = None if even else data.weight
    for target in targets:
        real = data.space == "real"
        model = HistGradientBoostingRegressor(**options) if real else HistGradientBoostingClassifier(**options)
        fits = len(np.unique(target)) > 1
        models.append(model.fit(known, target, sample_weight=weight) if fits else None)

    def stages(rows: np.ndarray, first: int, last: int) -> np.ndarray:
        predictions = np.tile(constant, (last - first, len(rows), 1))
        for index, model in enumerate(models):
            if model is None:
                continue
            outputs = model.staged_predict(rows) if data.space == "real" else model.staged_predict_proba(rows)
            for step, one in enumerate(islice(outputs, first, last)):
                if data.space == "categorical":
                    predictions[step] = 0.0
                    predictions[step][:, model.classes_] = one
                else:
                    predictions[step, :, index] = one if data.space == "real" else one[:, 1]
        return predictions

    return stages
