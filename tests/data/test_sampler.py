"""Batches: every row exactly once with any grouping; an epoch is a function of seed and number only."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.data.sampler import BatchSampler, sequential_batches

ROWS = st.integers(0, 200)
SETTINGS = settings(max_examples=80, deadline=None)


def case(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    rows = generator.permutation(3 * n)[:n]
    return rows, generator.integers(-1, max(1, n // 3) + 1, n), generator.integers(1, 40, n)


@SETTINGS
@given(
    st.integers(0, 200),
    st.integers(1, 20),
    st.integers(0, 5),
    st.sampled_from(["plain", "group", "divided", "lengths"]),
)
def test_every_row_once_and_deterministic(n: int, batch: int, seed: int, kind: str) -> None:
    rows, group, lengths = case(n, seed)
    divided = {"group": group, "rows_per_group": 3}
    options = {"group": {"group": group}, "divided": divided, "lengths": {"lengths": lengths}, "plain": {}}[kind]
    sampler = BatchSampler(rows, batch, seed, **options)
    for number in (0, 7):
        batches = sampler.epoch(number)
        assert all(1 <= len(one) <= batch for one in batches)
        assert sorted(np.concatenate([[], *batches]).tolist()) == sorted(rows.tolist())
        fresh = BatchSampler(rows, batch, seed, **options).epoch(number)
        assert [one.tolist() for one in fresh] == [one.tolist() for one in batches]


@SETTINGS
@given(st.integers(1, 200), st.integers(1, 20), st.integers(0, 5))
def test_rows_of_one_item_stay_together(n: int, batch: int, seed: int) -> None:
    rows, group, _ = case(n, seed)
    item = dict(zip(rows.tolist(), group.tolist(), strict=True))
    batches = BatchSampler(rows, batch, seed, group=group).epoch(0)
    for value in set(group.tolist()) - {-1}:
        size = int((group == value).sum())
        holding = [one for one in batches if any(item[row] == value for row in one.tolist())]
        assert len(holding) == -(-size // batch)  # a group that fits is never cut, a larger one as little as possible
    assert len(batches) <= 2 * -(-n // batch) + 1  # packed: no two neighbours would fit into one batch


def test_epochs_and_seeds_differ() -> None:
    rows, group, lengths = case(200, 0)
    for options in ({}, {"group": group}, {"lengths": lengths}):
        orders = [
            np.concatenate(BatchSampler(rows, 8, seed, **options).epoch(number)).tolist()
            for seed, number in ((0, 0), (0, 1), (1, 0))
        ]
        assert orders[0] != orders[1] != orders[2] != orders[0]


def padding(batches: list[np.ndarray], lengths: np.ndarray) -> float:
    return sum(len(one) * lengths[one].max() for one in batches) / lengths.sum()


def test_length_buckets_save_padding_and_keep_batches_shuffled() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 4000)
    rows = np.arange(4000)
    plain = BatchSampler(rows, 16, 0).epoch(0)
    bucketed = BatchSampler(rows, 16, 0, lengths=lengths).epoch(0)
    assert padding(plain, lengths) > 1.5
    assert padding(bucketed, lengths) < 1.1
    longest = np.array([lengths[one].max() for one in bucketed])
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.3


def test_divided_of_groups_stay_together_and_change() -> None:
    """Few large groups do not fill a batch, and every row of many small groups has company."""
    group = np.repeat(np.arange(10), 40)
    sampler = BatchSampler(np.arange(400), 16, 0, group=group, rows_per_group=4)
    first, second = sampler.epoch(0), sampler.epoch(1)
    company = [np.unique(group[one], return_counts=True) for one in first]
    assert min(counts.min() for _, counts in company) >= 4
    assert np.mean([len(names) for names, _ in company]) > 2.5
    beside = [{frozenset(pair) for one in epoch for pair in pairwise(one)} for epoch in (first, second)]
    assert len(beside[0] & beside[1]) < 0.2 * len(beside[0])


@SETTINGS
@given(st.integers(0, 200), st.integers(1, 20), st.integers(0, 5), st.booleans(), st.booleans())
def test_sequential_has_every_row_once_in_order(n: int, batch: int, seed: int, grouped: bool, long: bool) -> None:
    rows, group, lengths = case(n, seed)
    batches = sequential_batches(rows, batch, group if grouped else None, lengths if long else None)
    joined = np.concatenate([np.empty(0, np.int64), *batches])
    assert sorted(joined.tolist()) == sorted(rows.tolist())
    assert all(len(one) == batch for one in batches[:-1])
    value = dict(zip(rows.tolist(), zip(lengths.tolist(), group.tolist(), strict=True), strict=True))
    seen = [tuple(v for v, on in zip(value[row], (long, grouped), strict=True) if on) for row in joined.tolist()]
    assert seen == sorted(seen)
    if not grouped and not long:
        assert joined.tolist() == rows.tolist()
