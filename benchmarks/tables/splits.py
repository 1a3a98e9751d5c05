"""The folds of a seed: the same rows for every contestant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from benchmarks.tables.dataset import Columns, Dataset, num_rows


class Fold(NamedTuple):
    """The rows for training and for the test, in random order."""

    seed: int
    number: int
    train: np.ndarray
    test: np.ndarray


def folds(dataset: Dataset, columns: Columns, seed: int, count: int) -> Iterator[Fold]:
    """`count` folds, stratified by class, with equal cells of `dataset.group` in one of them.

    Fold `k` depends on the set, the seed and the number of folds only, so every contestant has the same.
    """
    rows = np.arange(num_rows(columns))
    target = None if dataset.is_regression else np.array(columns[dataset.target], dtype=str)
    groups = None if dataset.group is None else np.array(columns[dataset.group], dtype=str)
    if groups is None:
        splitter = (KFold if target is None else StratifiedKFold)(count, shuffle=True, random_state=seed)
    else:
        splitter = (GroupKFold if target is None else StratifiedGroupKFold)(count, shuffle=True, random_state=seed)
    rng = np.random.default_rng(seed)
    for number, (train, test) in enumerate(splitter.split(rows, target, groups)):
        yield Fold(seed, number, rng.permutation(train), rng.permutation(test))
