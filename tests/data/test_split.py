"""Splits: every row in exactly one part, shares and groups kept, the same seed the same split; shared items
found."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.core.errors import DataError
from polymodal.data.leakage import SharedItems, shared_between, shared_items
from polymodal.data.split import folds, split_rows
from polymodal.data.store.items import FixedItems, PreparedInput
from polymodal.recipe.data import SplitOptions

OPTIONS = SplitOptions()


def exact(parts: dict[str, np.ndarray], rows: int) -> None:
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(rows))
    assert list(parts) == ["train", "validation", "test"]


@settings(max_examples=100, deadline=None)
@given(
    st.integers(20, 300),
    st.integers(1, 30),
    st.integers(0, 99),
    st.sampled_from(["random", "stratified", "grouped", "both"]),
)
def test_every_row_in_one_part(rows: int, classes: int, seed: int, kind: str) -> None:
    generator = np.random.default_rng(seed)
    labels = [f"class {number}" for number in generator.integers(0, classes, rows)]
    groups = [None if number == 0 else f"g{number}" for number in generator.integers(0, 12, rows)]
    chosen = {
        "groups": groups if kind in ("grouped", "both") else None,
        "stratify_by": labels if kind in ("stratified", "both") else None,
    }
    try:
        parts = split_rows(rows, OPTIONS, seed, **chosen)
    except DataError:
        assert classes > rows / 3 and kind == "stratified"  # noqa: PT018
        return
    exact(parts, rows)
    assert all(len(part) for part in parts.values())
    again = split_rows(rows, OPTIONS, seed, **chosen)
    assert all(np.array_equal(parts[name], again[name]) for name in parts)
    if kind == "stratified":
        assert {labels[row] for row in parts["train"]} == set(labels)
    if chosen["groups"]:
        sides = [{groups[row] for row in part} - {None} for part in parts.values()]
        assert sum(map(len, sides)) == len(set().union(*sides))


def test_shares_and_seeds() -> None:
    parts = split_rows(1000, OPTIONS, 0)
    assert [len(part) for part in parts.values()] == [800, 100, 100]
    assert not np.array_equal(parts["test"], split_rows(1000, OPTIONS, 1)["test"])
    without = split_rows(1000, SplitOptions(test_size=0, validation_size=0.3), 0)
    assert [len(part) for part in without.values()] == [700, 300, 0]


def test_stratified_keeps_shares_and_never_loses_a_class() -> None:
    labels = ["a"] * 600 + ["b"] * 300 + ["c"] * 99 + ["only"]
    parts = split_rows(1000, OPTIONS, 3, stratify_by=labels)
    exact(parts, 1000)
    for name in ("validation", "test"):
        counts = Counter(labels[row] for row in parts[name])
        assert abs(counts["a"] - 60) <= 1
        assert abs(counts["b"] - 30) <= 1
        assert abs(counts["c"] - 10) <= 1
    assert 999 in parts["train"]


def test_many_small_classes() -> None:
    labels = [number // 2 for number in range(200)]  # more classes than test rows
    parts = split_rows(200, OPTIONS, 0, stratify_by=labels)
    exact(parts, 200)
    assert len({labels[row] for row in parts["train"]}) == 100
    few = split_rows(60, OPTIONS, 0, stratify_by=[*range(57), 0, 1, 2])  # three rows may leave training
    exact(few, 60)
    assert len(few["validation"]) >= 1
    assert len(few["test"]) >= 1
    assert len(few["train"]) >= 57


def test_groups_keep_shares_of_rows_and_classes() -> None:
    generator = np.random.default_rng(0)
    groups = generator.integers(0, 200, 3000)
    labels = (groups % 4 == 0).astype(int)  # whole groups have one class
    for stratify_by in (None, labels):
        parts = split_rows(3000, OPTIONS, 1, groups=groups, stratify_by=stratify_by)
        exact(parts, 3000)
        assert abs(len(parts["test"]) - 300) < 60
        assert abs(len(parts["validation"]) - 300) < 60
        if stratify_by is not None:
            assert abs(labels[parts["test"]].mean() - labels.mean()) < 0.05


def test_given_column() -> None:
    cells = ["train", "Val", "test", "dev", " validation", "train"]
    parts = split_rows(6, SplitOptions(column="part"), 0, assigned=cells)
    assert {name: part.tolist() for name, part in parts.items()} == {
        "train": [0, 5],
        "validation": [1, 3, 4],
        "test": [2],
    }


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["train", "tset", "validation"], "row 1, column 'part'.*did you mean 'test'"),
        (["train", None, "validation"], "row 1"),
        (["train", "test"], "1 row is too few: validation would be empty"),
        (["validation", "test"], "no row is assigned to the split 'train'"),
    ],
)
def test_bad_given_column(cells: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_rows(len(cells), SplitOptions(column="part"), 0, assigned=cells)


def test_parts_that_would_be_empty() -> None:
    with pytest.raises(DataError, match="would be empty"):
        split_rows(2, OPTIONS, 0)
    with pytest.raises(DataError, match="would be empty"):
        split_rows(50, OPTIONS, 0, stratify_by=list(range(50)))
    with pytest.raises(DataError, match="2 groups are too few"):
        split_rows(50, OPTIONS, 0, groups=[number % 2 for number in range(50)])
    with pytest.raises(DataError, match="no training rows"):
        split_rows(50, SplitOptions(validation_size=0.5, test_size=0.5), 0)
    exact(split_rows(3, OPTIONS, 0), 3)
    exact(split_rows(9, OPTIONS, 0, groups=[0, 1, 2] * 3), 9)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("labeled", [False, True])
def test_folds(grouped: bool, labeled: bool) -> None:
    rows = 120
    groups = [f"g{number % 20}" for number in range(rows)] if grouped else None
    labels = ["a" if number % 3 else "b" for number in range(rows)] if labeled else None
    made = folds(rows, 5, 0, groups=groups, labels=labels)
    assert sorted(np.concatenate([test for _, test in made]).tolist()) == list(range(rows))
    for train, test in made:
        assert sorted([*train, *test]) == list(range(rows))
        assert groups is None or not {groups[r] for r in train} & {groups[r] for r in test}
    again = folds(rows, 5, 0, groups=groups, labels=labels)
    assert all(np.array_equal(one[1], other[1]) for one, other in zip(made, again, strict=True))


def test_folds_that_cannot_be_made() -> None:
    for call in (
        {"rows": 3, "k": 4},
        {"rows": 9, "k": 1},
        {"rows": 9, "k": 4, "groups": [0, 1, 2] * 3},
        {"rows": 9, "k": 4, "labels": [0, 1, 2] * 3},
    ):
        with pytest.raises(DataError, match="folds"):
            folds(**call, seed=0)


# the same item on two sides


def prepared(index: list[int], keys: list[bytes] | None) -> PreparedInput:
    count = max(index, default=-1) + 1
    return PreparedInput(np.array(index), FixedItems({"x": np.zeros(count)}), keys)


def test_shared_items_within_a_table() -> None:
    inputs = {
        "image": prepared([0, 1, 1, 2, -1, 0, 1, -1], None),
        "text": prepared(list(range(8)), None),
    }
    splits = {"train": np.array([0, 1, 4]), "validation": np.array([3]), "test": np.array([2, 5, 6, 7])}
    assert shared_items(inputs, splits) == [SharedItems("image", ("train", "test"), 2, 3)]


def test_shared_items_between_tables() -> None:
    train = {"image": prepared([0, 1, -1], [b"a", b"b"]), "n": prepared([0, 1, 2], None)}
    test = {"image": prepared([0, 0, 1, -1], [b"b", b"c"]), "n": prepared([0, 1, 2, 3], None)}
    found = shared_between({"train": train, "test": test})
    assert found == [SharedItems("image", ("train", "test"), 1, 2)]
