"""Division of rows into training, validation and test, and into folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from polymodal.core.errors import DataError, nearest
from polymodal.recipe.data import SplitOptions

PARTS = ("train", "valid", "test")
_SPELLINGS = {"train": "train", "test": "test"} | dict.fromkeys(["valid", "validation", "val", "dev"], "valid")


def split_rows(
    rows: int,
    options: SplitOptions,
    seed: int,
    *,
    given: Sequence[Any] | None = None,
    groups: Sequence[Any] | None = None,
    stratify_by: Sequence[Any] | np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Row numbers of `train`, `valid` and `test`, ascending; each of the `rows` rows is in exactly one.

    given: the cells of `options.column`: train, valid (validation, val, dev) or test. Nothing is drawn then.
    groups: the cells of `options.group`. Rows of one value stay together; a gap is a group of its own.
    stratify_by: the class of each row; class shares are then equal on all sides as far as whole rows (or
        groups) allow, and every class keeps at least one row in training when there are no groups.

    Without `given`, `test` is empty only when `options.test` is 0.

    Raises:
        DataError: a part would be empty, or a cell of `given` is none of those words.
    """
    if given is not None:
        return _given(given, options.column or "")
    if options.valid + options.test >= 1:
        raise DataError(f"valid {options.valid:g} and test {options.test:g} leave no rows for training")
    shares = {"valid": options.valid} | ({"test": options.test} if options.test else {})
    classes = _numbered(stratify_by) if stratify_by is not None else np.zeros(rows, dtype=np.int64)
    generator = np.random.default_rng(seed)
    if groups is not None:
        part = _grouped(_numbered(groups, gaps_apart=True), classes, shares, generator)
    else:
        part = _drawn(classes, shares, generator)
    return {name: np.flatnonzero(part == number) for number, name in enumerate(PARTS)}


def folds(
    rows: int,
    k: int,
    seed: int,
    *,
    groups: Sequence[Any] | None = None,
    labels: Sequence[Any] | np.ndarray | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`k` pairs of (training rows, test rows); each row is in exactly one test part.

    `groups` stay together, shares of `labels` are kept equal, both as far as possible.

    Raises:
        DataError: fewer rows, groups or rows of every class than folds.
    """
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold  # takes a second

    classes = _numbered(labels) if labels is not None else None
    bands = _numbered(groups, gaps_apart=True) if groups is not None else None
    count = rows if bands is None else int(bands.max(initial=-1)) + 1
    if not 2 <= k <= count:
        raise DataError(f"{k} folds of {count} {'rows' if bands is None else 'groups'} cannot be made")
    if classes is not None and np.bincount(classes).max() < k:
        raise DataError(f"every class has fewer than {k} rows: fewer folds are needed")
    kind = {
        (False, False): KFold,
        (False, True): StratifiedKFold,
        (True, False): GroupKFold,
        (True, True): StratifiedGroupKFold,
    }[bands is not None, classes is not None]
    pairs = kind(n_splits=k, shuffle=True, random_state=seed).split(np.zeros(rows), classes, bands)
    made = [(np.asarray(train), np.asarray(test)) for train, test in pairs]
    if any(len(train) == 0 or len(test) == 0 for train, test in made):
        raise DataError(f"one of {k} folds would be empty: fewer folds are needed")
    return made


def _given(cells: Sequence[Any], column: str) -> dict[str, np.ndarray]:
    found: dict[str, list[int]] = {name: [] for name in PARTS}
    for row, cell in enumerate(cells):
        word = str(cell).strip().lower()
        if word not in _SPELLINGS:
            hint = nearest(word, _SPELLINGS)
            raise DataError(f"{cell!r} is not a part of a split; {hint}", row=row, column=column)
        found[_SPELLINGS[word]].append(row)
    for name in ("train", "valid"):
        if not found[name]:
            raise DataError(f"no row says {name!r}", column=column)
    return {name: np.array(rows, dtype=np.int64) for name, rows in found.items()}


def _numbered(values: Sequence[Any] | np.ndarray, gaps_apart: bool = False) -> np.ndarray:
    """Values as 0, 1, 2 ... in order of appearance; with `gaps_apart` every None is a value of its own."""
    numbers: dict[Any, int] = {}
    result = np.empty(len(values), dtype=np.int64)
    for row, value in enumerate(values.tolist() if isinstance(values, np.ndarray) else values):
        gap = value is None or value != value
        key = ("gap", row if gaps_apart else 0) if gap else ("value", value)
        result[row] = numbers.setdefault(key, len(numbers))
    return result


def _drawn(classes: np.ndarray, shares: dict[str, float], generator: np.random.Generator) -> np.ndarray:
    """The part of each row, by systematic sampling: free rows are put in order of class and each part takes
    them at equal steps, so it gets every class in proportion to within one row. One row of each class is not
    free: training keeps it."""
    rows = len(classes)
    part = np.zeros(rows, dtype=np.int64)
    order = generator.permutation(rows)
    order = order[np.argsort(classes[order], kind="stable")]
    kept = np.concatenate([[True], np.diff(classes[order]) != 0]) if rows else np.zeros(0, dtype=bool)
    free = order[~kept]
    if len(free) < len(shares):
        classes_of = f" in {kept.sum()} classes" if kept.sum() > 1 else ""
        raise DataError(f"{rows} rows{classes_of} are too few: {' or '.join(shares)} would be empty")
    scale = min(1.0, len(free) / (rows * sum(shares.values())))
    for name, share in reversed(list(shares.items())):
        later = PARTS.index(name) - 1  # parts that must still find a row
        count = min(max(1, round(scale * share * rows)), len(free) - later)
        steps = np.floor((np.arange(count) + generator.random()) * len(free) / count).astype(np.int64)
        part[free[steps]] = PARTS.index(name)
        free = np.delete(free, steps)
    return part


def _grouped(
    groups: np.ndarray, classes: np.ndarray, shares: dict[str, float], generator: np.random.Generator
) -> np.ndarray:
    """The part of each row, whole groups at a time. Groups come in random order; each goes to the part that
    is furthest below its share of the classes which the group has."""
    names = ["train", *shares]
    count = int(groups.max(initial=-1)) + 1
    if count < len(names):
        raise DataError(f"{count} groups are too few for {len(names)} parts ({', '.join(names)})")
    histogram = np.zeros((count, int(classes.max()) + 1))
    np.add.at(histogram, (groups, classes), 1)
    totals = histogram.sum(0)
    share = np.array([1 - sum(shares.values()), *shares.values()])
    missing = share[:, None] * totals
    empty = set(range(len(names)))
    part = np.zeros(count, dtype=np.int64)
    for turn, group in enumerate(generator.permutation(count)):
        needs = missing @ (histogram[group] / totals)
        open_parts = sorted(empty) if count - turn == len(empty) else range(len(names))
        best = max(open_parts, key=lambda number: needs[number])
        part[group] = PARTS.index(names[best])
        missing[best] -= histogram[group]
        empty.discard(best)
    return part[groups]
