"""Boosted trees on the first principal components of each input."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, islice
from typing import Any

import numpy as np

from polymodal.tuning.baseline_data import BaselinePrediction, BaselineData, row_gains
from polymodal.tuning.principal_components import reduce_columns

#: Components of an input that trees see.
NUM_COMPONENTS = 24
#: Components of an input that are multiplied with those of another, as long as there are no more inputs than this: what
#: lies in two inputs together (an exclusive or) is hard to find for trees that are grown one split at a time.
NUM_LEADING, MAX_INPUTS_PRODUCTS = 2, 6
ROUNDS, LEARNING_RATE, MAX_BINS, MAX_LEAVES = 30, 0.2, 32, 8


def fit_boosted_trees(blocks: list[np.ndarray], new: list[np.ndarray], lesson: BaselineData, inner: list[Any]) -> BaselinePrediction:
    held_out = np.zeros((ROUNDS, len(lesson.truth), lesson.outputs))
    bases = np.zeros((len(lesson.truth), lesson.outputs))
    answers = []
    for rows, held in inner:
        part = lesson.take(rows)
        bases[held] = part.constant()
        # Components belong to the rows they were found on: those of other rows are smaller.
        known, others = _side_by_side([one[rows] for one in blocks], blocks, new)
        stages = _fit(known, part)
        held_out[:, held] = stages(others[0][held], 0, ROUNDS)
        answers.append((stages, others[1]))
    found = []
    for stage in held_out:
        gain, scale = row_gains(stage, bases, lesson.truth, lesson.space)
        found.append(lesson.weight @ gain / max(lesson.weight @ scale, 1e-12))
    best = int(np.argmax(found))
    decided = np.mean([stages(rows, best, best + 1)[0] for stages, rows in answers], axis=0)
    return BaselinePrediction(decided, float(found[best]), (2 * MAX_LEAVES - 1) * (best + 1) * lesson.outputs * len(inner))


def _side_by_side(known: list[np.ndarray], *others: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """All inputs, each `reduced` by its `known` rows, side by side, and the products of the leading components of every
    two of them."""
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
    """Every column of `first` times every one of `second`, flags left out, `[rows, a b]`."""
    return np.asarray((first[:, :-1, None] * second[:, None, :-1]).reshape(len(first), -1))


def _fit(known: np.ndarray, lesson: BaselineData) -> Callable[[np.ndarray, int, int], np.ndarray]:
    """Boosted trees as a function: what they decide for rows after the rounds from `first` to before `last`,
    `[last - first, rows, k]`."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    options: dict[str, Any] = {
        "max_iter": ROUNDS,
        "learning_rate": LEARNING_RATE,
        "max_leaf_nodes": MAX_LEAVES,
        "max_bins": MAX_BINS,
        "min_samples_leaf": int(np.clip(len(known) // 30, 3, 20)),
        "l2_regularization": 1.0,
        "early_stopping": False,
        "random_state": lesson.seed,
    }
    targets = [lesson.truth] if lesson.space == "categorical" else list(lesson.truth.T)
    constant, models = lesson.constant(), []
    even = bool((lesson.weight == lesson.weight[0]).all())  # without weights, columns are put into bins much faster
    weight = None if even else lesson.weight
    for target in targets:
        real = lesson.space == "real"
        model = HistGradientBoostingRegressor(**options) if real else HistGradientBoostingClassifier(**options)
        fits = len(np.unique(target)) > 1
        models.append(model.fit(known, target, sample_weight=weight) if fits else None)

    def stages(rows: np.ndarray, first: int, last: int) -> np.ndarray:
        decided = np.tile(constant, (last - first, len(rows), 1))
        for place, model in enumerate(models):
            if model is None:
                continue
            given = model.staged_predict(rows) if lesson.space == "real" else model.staged_predict_proba(rows)
            for step, one in enumerate(islice(given, first, last)):
                if lesson.space == "categorical":
                    decided[step] = 0.0
                    decided[step][:, model.classes_] = one
                else:
                    decided[step, :, place] = one if lesson.space == "real" else one[:, 1]
        return decided

    return stages
