"""Only planted near-duplicates are found; groups have their rows, items and sources."""

from __future__ import annotations

import numpy as np
import pytest

from polymodal.applications.curation import duplicates
from polymodal.applications.curation.duplicates import (
    FALLBACK_THRESHOLD,
    choose_threshold,
    find_near_duplicates,
    nearest_similarity,
)


def unit(array: np.ndarray) -> np.ndarray:
    return (array / np.linalg.norm(array, axis=1, keepdims=True)).astype(np.float32)


def planted(kind: str, rows: int, copies: int, seed: int) -> tuple[np.ndarray, set[tuple[int, ...]]]:
    """Vectors of a kind, the last `copies` of which are slightly changed copies of the first ones."""
    draw = np.random.default_rng(seed)
    if kind == "even":  # eight dimensions, evenly filled, in a space of 64
        base = draw.normal(size=(rows, 8)) @ draw.normal(size=(8, 64))
    elif kind == "clusters":  # 20 classes, dense inside
        base = np.repeat(draw.normal(size=(20, 64)), rows // 20, axis=0) + 0.4 * draw.normal(size=(rows, 64))
    else:  # shared direction, as embeddings of networks have it
        base = 3 * draw.normal(size=64) + draw.normal(size=(rows, 64)) * draw.gamma(2, size=64)
    draw.shuffle(base)
    scale = np.linalg.norm(base - base.mean(0), axis=1).mean() / 8
    base[rows - copies :] = base[:copies] + 0.03 * scale * draw.normal(size=(copies, 64))
    return unit(base), {(place, rows - copies + place) for place in range(copies)}


@pytest.mark.parametrize("kind", ["even", "clusters", "direction"])
@pytest.mark.parametrize("copies", [0, 1, 40])
def test_only_planted_copies_are_found(kind: str, copies: int) -> None:
    for seed in range(3):
        vectors, truth = planted(kind, 800, copies, seed)
        found = find_near_duplicates(vectors)
        assert {tuple(group.rows.tolist()) for group in found.near} == truth
        assert all(group.similarity >= found.threshold.similarity for group in found.groups)


def test_blocks_equal_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = planted("clusters", 200, 10, seed=5)
    whole = find_near_duplicates(vectors, threshold=0.9)
    monkeypatch.setattr(duplicates, "BLOCK_ELEMENTS", 700)
    blocks = find_near_duplicates(vectors, threshold=0.9)
    assert [group.rows.tolist() for group in whole.groups] == [group.rows.tolist() for group in blocks.groups]
    similarity = vectors @ vectors.T - 2 * np.eye(200)
    assert nearest_similarity(vectors) == pytest.approx(similarity.max(1))


def test_a_chain_is_one_group() -> None:
    angle = np.array([0.0, 0.1, 0.2, 2.0])
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    (group,) = find_near_duplicates(vectors, threshold=float(np.cos(0.11))).groups
    assert group.rows.tolist() == [0, 1, 2]
    assert group.similarity == pytest.approx(np.cos(0.1), abs=1e-6)


def test_exact_and_near_duplicates_and_missing_rows() -> None:
    vectors = unit(np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0.01], [0, 0, 1], [1, 1, 1]], float))
    vectors[5] = np.nan
    items = np.array([3, 3, 5, 6, 7, -1])
    found = find_near_duplicates(vectors, items=items, threshold=0.999, sources=np.array(["train", "test"] * 3))
    assert [(group.rows.tolist(), group.items) for group in found.groups] == [([2, 3], 2), ([0, 1], 1)]
    assert found.items == 4
    assert [group.sources for group in found.leaks] == [("test", "train"), ("test", "train")]
    within = find_near_duplicates(vectors, items=items, threshold=0.999, sources=np.array(["train"] * 6))
    assert not within.leaks


def test_few_items_get_the_stated_threshold() -> None:
    vectors, _ = planted("even", 10, 1, seed=0)
    found = find_near_duplicates(vectors)
    assert found.threshold.similarity == FALLBACK_THRESHOLD
    assert [group.rows.tolist() for group in found.groups] == [[0, 9]]


def test_collapsed_embeddings_choose_no_threshold() -> None:
    assert choose_threshold(np.full(50, 1.0)).similarity == FALLBACK_THRESHOLD


def test_no_rows() -> None:
    assert find_near_duplicates(np.full((3, 4), np.nan, np.float32)).groups == []
