"""Data sets mixed by temperature: correct fractions, no row skipped, same batch quality."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.data.sampler import BatchSampler, mixture_counts

KINDS = ["plain", "group", "lengths"]


def rows_of(epoch: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(epoch)


def sampler(
    sizes: list[int], temperature: float, kind: str = "plain", *, seed: int = 0, batch: int = 8
) -> BatchSampler:
    data_set = np.random.default_rng(1).permutation(np.repeat(np.arange(len(sizes)), sizes))
    generator = np.random.default_rng(2)
    options = {
        "plain": {},
        "group": {"group": generator.integers(-1, max(1, len(data_set) // 4), len(data_set))},
        "lengths": {"lengths": generator.integers(1, 40, len(data_set))},
    }[kind]
    made = BatchSampler(np.arange(len(data_set)) + 1000, 8, seed, data_set=data_set, temperature=temperature, **options)
    made.of = {1000 + row: int(number) for row, number in enumerate(data_set)}  # type: ignore[attr-defined]
    return made


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 5000), min_size=2, max_size=6), st.floats(1, 50))
def test_counts_follow_the_formula_and_come_to_all_rows(sizes: list[int], temperature: float) -> None:
    counts = mixture_counts(np.array(sizes), temperature)
    share = np.array(sizes, dtype=float) ** (1 / temperature)
    assert counts.sum() == sum(sizes)
    assert np.abs(counts - sum(sizes) * share / share.sum()).max() < 1


def test_one_takes_the_sets_as_they_are_and_infinity_makes_them_equal() -> None:
    assert mixture_counts(np.array([900, 100]), 1.0).tolist() == [900, 100]
    assert mixture_counts(np.array([900, 100]), np.inf).tolist() == [500, 500]
    assert mixture_counts(np.array([900, 100]), 2.0).tolist() == [750, 250]  # 30 : 10


@pytest.mark.parametrize("kind", KINDS)
def test_a_temperature_of_one_changes_nothing(kind: str) -> None:
    mixed = sampler([60, 20], 1.0, kind)
    bare = BatchSampler(mixed.rows, 8, 0, group=mixed.group, lengths=mixed.lengths)
    for number in (0, 3):
        assert [one.tolist() for one in mixed.epoch(number)] == [one.tolist() for one in bare.epoch(number)]


@pytest.mark.parametrize("kind", KINDS)
def test_small_sets_repeat_and_rows_of_large_ones_take_turns(kind: str) -> None:
    mixed = sampler([160, 30, 10], 4.0, kind)
    wanted = mixture_counts(np.array([160, 30, 10]), 4.0)
    seen: Counter[int] = Counter()
    for number in range(12):
        epoch = mixed.epoch(number)
        assert all(1 <= len(one) <= 8 for one in epoch)
        rows = rows_of(epoch).tolist()
        assert len(rows) == 200
        assert [sum(mixed.of[row] == one for row in rows) for one in range(3)] == wanted.tolist()
        once = Counter(rows)
        seen += once
        for one, size in enumerate((160, 30, 10)):
            often = [once[row] for row, number in mixed.of.items() if number == one]
            assert max(often) - min(often) <= 1  # of a small set, each as often as another
            assert max(often) == -(-wanted[one] // size)  # of a large one, each at most once
    for one in range(3):
        often = [seen[row] for row, number in mixed.of.items() if number == one]
        assert max(often) - min(often) <= 1
        assert min(often) >= 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_follows_from_seed_and_number_alone(kind: str) -> None:
    one, other = sampler([60, 20], 3.0, kind), sampler([60, 20], 3.0, kind)
    later = [batch.tolist() for batch in one.epoch(5)]
    one.epoch(2)
    assert [batch.tolist() for batch in other.epoch(5)] == later  # as a resumed run asks for it
    assert [batch.tolist() for batch in other.epoch(6)] != later
    assert [batch.tolist() for batch in sampler([60, 20], 3.0, kind, seed=1).epoch(5)] != later


def test_rows_that_share_an_item_stay_together() -> None:
    group = np.repeat(np.arange(60), 4)  # four rows of each item
    data_set = (np.arange(240) >= 200).astype(int)
    batches = BatchSampler(np.arange(240), 16, 0, group=group, data_set=data_set, temperature=5.0).epoch(0)
    whole = sum(int(np.all(np.unique(group[one], return_counts=True)[1] == 4)) for one in batches)
    assert whole >= len(batches) - 4  # all but those where a stretch of a ring begins or ends
    for one in batches:
        assert len(np.unique(one)) == len(one)  # no row twice in a batch


def test_lengths_still_share_batches() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 4000)
    data_set = (np.arange(4000) >= 3600).astype(int)
    batches = BatchSampler(np.arange(4000), 16, 0, lengths=lengths, data_set=data_set, temperature=3.0).epoch(0)
    assert sum(len(one) * lengths[one].max() for one in batches) / lengths[rows_of(batches)].sum() < 1.1
