"""Exact search is the definition: every cosine, most similar first, of equals the earlier row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.applications.search import Index, exact
from polymodal.applications.search.exact import exact_search
from polymodal.applications.search.rows import unit_vectors
from polymodal.core.errors import DataError
from search.vectors import brute, clusters


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 60),
    count=st.integers(1, 12),
    split=st.floats(0, 1),
    share=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    seed=st.integers(0, 1000),
)
def test_it_is_brute_force_with_ties_by_row(rows: int, count: int, split: float, share: float, seed: int) -> None:
    """Few directions, each of many lengths: most rows have rivals that are exactly as similar."""
    rng = np.random.default_rng(seed)
    kinds = rng.standard_normal((5, 7))
    vectors = (kinds[rng.integers(0, 5, rows)] * 2.0 ** rng.integers(-2, 3, (rows, 1))).astype(np.float32)
    queries = rng.standard_normal((3, 7)).astype(np.float32)
    allowed = rng.random(rows) < share
    whole = unit_vectors(vectors)
    cut = int(split * rows)
    found, similarity = exact_search(unit_vectors(queries), [whole[:cut], whole[cut:]], count, allowed)
    places = np.flatnonzero(allowed)
    expected, cosines = brute(queries, vectors[allowed], count, places)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(similarity, cosines)


@pytest.mark.parametrize("share", [1.0, 0.7, 0.1])
def test_blocks_change_nothing(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries = unit_vectors(clusters(3000)), unit_vectors(clusters(20, seed=1))
    allowed = np.random.default_rng(0).random(3000) < share
    whole = exact_search(queries, [vectors], 10, allowed)
    monkeypatch.setattr(exact, "_BLOCK_BYTES", 1)  # blocks of 256 rows
    for one, other in zip(whole, exact_search(queries, [vectors], 10, allowed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_rows_that_are_all_alike_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    index = Index.build(tmp_path / "index", np.ones((5000, 33)), method="exact")
    index.add(np.full((70, 33), 3.0))
    hits = index.search(np.ones((2, 33)), 9)
    np.testing.assert_array_equal(hits.ids, np.tile(np.arange(9), (2, 1)))
    index.delete([0, 2])
    np.testing.assert_array_equal(index.search(np.ones(33), 3).ids, [[1, 3, 4]])


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-6), ("float16", 2e-3)])
def test_an_index_gives_the_results_of_brute_force(tmp_path: Path, dtype: str, error: float) -> None:
    vectors, queries = clusters(2000), clusters(30, seed=1)
    vectors[[50, 900, 1999]] = vectors[3]
    index = Index.build(tmp_path / "index", vectors, dtype=dtype)  # type: ignore[arg-type]
    hits = index.search(queries, 10)
    expected, cosines = brute(queries, vectors, 10, np.arange(2000))
    np.testing.assert_allclose(hits.similarity, cosines, atol=error)
    if dtype == "float32":
        np.testing.assert_array_equal(hits.ids, expected)
    np.testing.assert_array_equal(index.search(vectors[3], 4).ids, [[3, 50, 900, 1999]])
    np.testing.assert_allclose(index.vectors([7, 3]), unit_vectors(vectors[[7, 3]]), atol=error)


def test_opening_maps_the_vectors(tmp_path: Path) -> None:
    Index.build(tmp_path / "index", clusters(500))
    index = Index.open(tmp_path / "index")
    assert all(isinstance(part, np.memmap) and not part.flags.writeable for part in index._storage.rows.vectors)


def test_more_rows_are_sought_than_there_are(tmp_path: Path) -> None:
    index = Index.build(tmp_path / "index", clusters(3))
    for top_k in (5, 10**9, 2**62):
        hits = index.search(clusters(1), top_k)
        assert sorted(hits.ids[0]) == [0, 1, 2]
        assert hits.similarity.shape == (1, 3)
    for top_k in (0, -1):
        with pytest.raises(DataError, match="top_k must be at least 1"):
            index.search(clusters(1), top_k)
