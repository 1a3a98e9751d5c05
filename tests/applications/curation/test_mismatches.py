"""Planted swaps are ranked first; without swaps no row is flagged; ranks and margins equal plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from polymodal.applications.curation.mismatches import find_mismatches
from polymodal.core.errors import DataError


def unit(array: np.ndarray) -> np.ndarray:
    return (array / np.linalg.norm(array, axis=1, keepdims=True)).astype(np.float32)


def pairs(rows: int, noise: float, swapped: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two views of what rows show, of which the first `swapped` are passed on in a ring; and which those are."""
    draw = np.random.default_rng(seed)
    meant = draw.normal(size=(rows, 24))
    one, other = (unit(meant + noise * draw.normal(size=meant.shape)) for _ in range(2))
    other[:swapped] = np.roll(other[:swapped], 1, axis=0)
    return one, other, np.arange(rows) < swapped


@pytest.mark.parametrize(("noise", "floor", "recall"), [(0.4, 0.999, 0.9), (0.8, 0.95, 0.3), (1.2, 0.8, 0.0)])
def test_swapped_pairs_come_first(noise: float, floor: float, recall: float) -> None:
    areas, found, false = [], [], []
    for seed in range(5):
        one, other, wrong = pairs(600, noise, 30, seed)
        judged = find_mismatches(one, other)
        areas.append(roc_auc_score(wrong, -judged.z_score))
        found.append(judged.flagged[wrong].mean())
        false.append(judged.flagged[~wrong].sum() / max(1, judged.flagged.sum()))
    assert min(areas) > floor
    assert np.mean(found) >= recall
    assert np.mean(false) <= 0.1


@pytest.mark.parametrize("noise", [0.2, 0.5, 0.8, 1.2, 3.0])
def test_without_swaps_hardly_anything_is_listed(noise: float) -> None:
    """In at most two of ten data sets without a mismatch anything is listed, and then no more than a pair in 200."""
    counts = [int(find_mismatches(*pairs(600, noise, 0, seed)[:2]).flagged.sum()) for seed in range(10)]
    assert sum(count > 0 for count in counts) <= 2
    assert max(counts) <= 3


def test_independent_inputs_have_an_auc_of_one_half() -> None:
    judged = find_mismatches(*pairs(400, 1000.0, 0, seed=0)[:2])
    assert judged.auc == pytest.approx(0.5, abs=0.05)
    assert not judged.flagged.any()
    assert find_mismatches(*pairs(400, 0.4, 0, seed=0)[:2]).auc > 0.99


def test_ranks_and_margins_by_plain_loops() -> None:
    one, other, _ = pairs(40, 1.0, 4, seed=2)
    judged = find_mismatches(one, other)
    table = one @ other.T
    for row in range(40):
        own, across, down = table[row, row], np.delete(table[row], row), np.delete(table[:, row], row)
        assert judged.rank[row] == 1 + ((across >= own).sum() + (down >= own).sum()) / 2
        assert judged.margin[row] == pytest.approx(own - max(across.max(), down.max()), abs=1e-5)
        fisher = [np.arctanh(one) for one in (across, down)]
        standard = np.mean([(np.arctanh(own) - wrong.mean()) / wrong.std() for wrong in fisher])
        assert judged.z_score[row] == pytest.approx(standard, rel=1e-3)
    assert judged.order().tolist() == np.argsort(judged.z_score, kind="stable").tolist()


def test_rows_that_share_an_item_are_right_pairs_of_each_other() -> None:
    """Thirty captions, each of two images: the other image of a caption is no wrong partner."""
    _, other, _ = pairs(60, 0.3, 0, seed=3)
    caption = np.repeat(np.arange(30), 2)
    other = other[2 * caption]
    one = unit(other + 0.1 * np.random.default_rng(0).normal(size=other.shape))
    judged = find_mismatches(one, other, second_items=caption)
    assert judged.rank.tolist() == [1.0] * 60
    assert (judged.margin > 0).all()
    alone = find_mismatches(one, other)
    assert (alone.rank > 1).all()


def test_rows_without_an_input_are_skipped() -> None:
    one, other, _ = pairs(60, 0.3, 0, seed=4)
    one[7] = np.nan
    judged = find_mismatches(one, other)
    assert 7 not in judged.rows
    assert len(judged.rows) == 59


def test_too_few_rows() -> None:
    one, other, _ = pairs(10, 0.3, 0, seed=4)
    with pytest.raises(DataError, match="10 rows with both"):
        find_mismatches(one, other)
