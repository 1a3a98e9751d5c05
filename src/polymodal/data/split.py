"""Random splits of rows into training, validation and test, and into folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from polymodal.core.errors import DataError, did_you_mean
from polymodal.core.formatting import count_noun
from polymodal.recipe.data import SplitOptions

SPLIT_NAMES = ("train", "validation", "test")
_SPELLINGS = {"train": "train", "test": "test"} | dict.fromkeys(["valid", "validation", "val", "dev"], "validation")


def split_rows(
    rows: int,
    options: SplitOptions,
    seed: int,
    *,
    assigned: Sequence[Any] | None = None,
    groups: Sequence[Any] | None = None,
    stratify_by: Sequence[Any] | np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Row numbers of the training, validation and test split, ascending. Each of the `rows` rows is in exactly one
    split.

    assigned: the cells of `options.column`: train, validation (also valid, val, dev) or test. Without validation rows,
        `options.validation_size` of the training rows are drawn for validation. No test rows are drawn.
    groups: the cells of `options.group_column`. Rows with the same value stay together. Each null cell is a group of
        its own.
    stratify_by: the class of each row. All splits have the same class ratios, as far as whole rows (or groups) allow.
        Without groups, every class keeps at least one training row.

    Without `assigned`, the test split is empty only if its size is 0.

    Raises:
        DataError: a split would be empty, or a cell of `assigned` names no split.
    """
    if assigned is not None:
        parts = _assigned_splits(assigned, options.column or "")
        return parts if len(parts["validation"]) else _with_validation(parts, options, seed, groups, stratify_by)
    if options.validation_size + options.test_size >= 1:
        raise DataError(
            f"validation_size {options.validation_size:g} and test_size {options.test_size:g} leave no training rows"
        )
    ratios = {"validation": options.validation_size} | ({"test": options.test_size} if options.test_size else {})
    classes = _number_values(stratify_by) if stratify_by is not None else np.zeros(rows, dtype=np.int64)
    generator = np.random.default_rng(seed)
    if groups is not None:
        part = _draw_groups(_number_values(groups, nulls_apart=True), classes, ratios, generator)
    else:
        part = _draw_rows(classes, ratios, generator)
    return {name: np.flatnonzero(part == number) for number, name in enumerate(SPLIT_NAMES)}


def folds(
    rows: int,
    k: int,
    seed: int,
    *,
    groups: Sequence[Any] | None = None,
    labels: Sequence[Any] | np.ndarray | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`k` pairs of (training rows, test rows). Each row is in exactly one test fold.

    Rows of a group of `groups` stay together, and class ratios of `labels` are kept equal, both as far as possible.

    Raises:
        DataError: fewer rows, groups or rows of every class than folds.
    """
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold  # slow import

    classes = _number_values(labels) if labels is not None else None
    group_numbers = _number_values(groups, nulls_apart=True) if groups is not None else None
    count = rows if group_numbers is None else int(group_numbers.max(initial=-1)) + 1
    if not 2 <= k <= count:
        raise DataError(f"cannot make {k} folds of {count} {'rows' if group_numbers is None else 'groups'}")
    if classes is not None and np.bincount(classes).max() < k:
        raise DataError(f"every class has fewer than {k} rows; use fewer folds")
    kind = {
        (False, False): KFold,
        (False, True): StratifiedKFold,
        (True, False): GroupKFold,
        (True, True): StratifiedGroupKFold,
    }[group_numbers is not None, classes is not None]
    pairs = kind(n_splits=k, shuffle=True, random_state=seed).split(np.zeros(rows), classes, group_numbers)
    made = [(np.asarray(train), np.asarray(test)) for train, test in pairs]
    if any(len(train) == 0 or len(test) == 0 for train, test in made):
        raise DataError(f"one of {k} folds would be empty; use fewer folds")
    return made


def _assigned_splits(cells: Sequence[Any], column: str) -> dict[str, np.ndarray]:
    found: dict[str, list[int]] = {name: [] for name in SPLIT_NAMES}
    for row, cell in enumerate(cells):
        word = str(cell).strip().lower()
        if word not in _SPELLINGS:
            hint = did_you_mean(word, _SPELLINGS)
            raise DataError(f"{cell!r} is not the name of a split; {hint}", row=row, column=column)
        found[_SPELLINGS[word]].append(row)
    if not found["train"]:
        raise DataError("no row is assigned to the split 'train'", column=column)
    return {name: np.array(rows, dtype=np.int64) for name, rows in found.items()}


def assigns_validation(assigned: Sequence[Any]) -> bool:
    """Whether a cell of a split column assigns its row to validation."""
    return any(_SPELLINGS.get(str(cell).strip().lower()) == "validation" for cell in assigned)


def _with_validation(
    parts: dict[str, np.ndarray],
    options: SplitOptions,
    seed: int,
    groups: Sequence[Any] | None,
    stratify_by: Sequence[Any] | np.ndarray | None,
) -> dict[str, np.ndarray]:
    """The assigned splits with validation rows, which are drawn from the training rows."""
    train = parts["train"]
    drawn = split_rows(
        len(train),
        options.model_copy(update={"test_size": 0.0}),
        seed,
        groups=None if groups is None else [groups[row] for row in train],
        stratify_by=None if stratify_by is None else np.asarray(stratify_by, dtype=object)[train],
    )
    return {"train": train[drawn["train"]], "validation": train[drawn["validation"]], "test": parts["test"]}


def _number_values(values: Sequence[Any] | np.ndarray, nulls_apart: bool = False) -> np.ndarray:
    """Number values 0, 1, 2 ... in order of appearance. With `nulls_apart`, every null is a value of its own."""
    numbers: dict[Any, int] = {}
    result = np.empty(len(values), dtype=np.int64)
    for row, value in enumerate(values.tolist() if isinstance(values, np.ndarray) else values):
        gap = value is None or value != value
        key = ("gap", row if nulls_apart else 0) if gap else ("value", value)
        result[row] = numbers.setdefault(key, len(numbers))
    return result


def _draw_rows(classes: np.ndarray, ratios: dict[str, float], generator: np.random.Generator) -> np.ndarray:
    """The split of each row, by systematic sampling: rows are sorted by class and each split takes them at equal
    steps, so that it gets every class in proportion to within one row. One row of each class is reserved for
    training."""
    rows = len(classes)
    part = np.zeros(rows, dtype=np.int64)
    order = generator.permutation(rows)
    order = order[np.argsort(classes[order], kind="stable")]
    kept = np.concatenate([[True], np.diff(classes[order]) != 0]) if rows else np.zeros(0, dtype=bool)
    free = order[~kept]
    if len(free) < len(ratios):
        classes_of = f" in {kept.sum()} classes" if kept.sum() > 1 else ""
        few = f"{count_noun(rows, 'row')}{classes_of} {'is' if rows == 1 else 'are'} too few"
        raise DataError(f"{few}: {' or '.join(ratios)} would be empty")
    scale = min(1.0, len(free) / (rows * sum(ratios.values())))
    for name, ratio in reversed(list(ratios.items())):
        later = SPLIT_NAMES.index(name) - 1  # splits that still need a row
        count = min(max(1, round(scale * ratio * rows)), len(free) - later)
        steps = np.floor((np.arange(count) + generator.random()) * len(free) / count).astype(np.int64)
        part[free[steps]] = SPLIT_NAMES.index(name)
        free = np.delete(free, steps)
    return part


def _draw_groups(
    groups: np.ndarray, classes: np.ndarray, ratios: dict[str, float], generator: np.random.Generator
) -> np.ndarray:
    """The split of each row, whole groups at a time. Groups come in random order. Each goes to the split that lacks
    the most rows of the classes in the group."""
    names = ["train", *ratios]
    count = int(groups.max(initial=-1)) + 1
    if count < len(names):
        raise DataError(f"{count} groups are too few for {len(names)} splits ({', '.join(names)})")
    histogram = np.zeros((count, int(classes.max()) + 1))
    np.add.at(histogram, (groups, classes), 1)
    totals = histogram.sum(0)
    ratio = np.array([1 - sum(ratios.values()), *ratios.values()])
    missing = ratio[:, None] * totals
    empty = set(range(len(names)))
    part = np.zeros(count, dtype=np.int64)
    for turn, group in enumerate(generator.permutation(count)):
        needs = missing @ (histogram[group] / totals)
        open_parts = sorted(empty) if count - turn == len(empty) else range(len(names))
        best = max(open_parts, key=lambda number: needs[number])
        part[group] = SPLIT_NAMES.index(names[best])
        missing[best] -= histogram[group]
        empty.discard(best)
    return part[groups]
