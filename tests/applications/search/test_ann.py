"""Approximate search nearly always gives the results of exact search, after any additions and deletions. It never
returns filtered or deleted rows, and never fewer rows than there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polymodal.applications.search import HNSWOptions, Index, ann, storage
from polymodal.core.errors import MissingExtraError
from search.vectors import clusters

pytest.importorskip("usearch", reason="an approximate index needs the extra search")
ROWS, FLOOR = 3000, 0.97


@pytest.fixture(autouse=True)
def always_by_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are searched exactly otherwise."""
    monkeypatch.setattr(ann, "_EXACT_BELOW", 0)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    columns = {"number": list(range(ROWS)), "tenth": [row % 10 for row in range(ROWS)]}
    return Index.build(tmp_path / "index", clusters(ROWS), columns, method="approximate")


def test_recall_stays_above_the_floor_as_rows_come_and_go(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = clusters(100, seed=1)
    assert index.recall(queries) >= FLOOR
    assert index.recall() >= FLOOR
    monkeypatch.setattr(storage, "MAX_UNLINKED_ROWS", 500)
    for step in range(4):
        rows = 300 * (step + 1)
        index.add(clusters(rows, seed=2 + step), {"number": [-1] * rows, "tenth": [step] * rows})
        index.delete(index.ids[step :: 7 + step])
        assert index.recall(queries) >= FLOOR
        assert Index.open(index.folder).recall(queries) >= FLOOR
    assert index.manifest.graph is not None
    assert index.manifest.graph.num_rows > ROWS
    index.compact()
    assert index.recall(queries) >= FLOOR


def test_recall_tells_a_graph_that_finds_little(tmp_path: Path) -> None:
    """Directions without any cluster, and hardly any links: the stated recall must show it."""
    vectors = np.random.default_rng(0).standard_normal((4000, 64))
    poor = Index.build(
        tmp_path / "poor",
        vectors,
        method="approximate",
        graph=HNSWOptions(connectivity=2, ef_construction=2, ef_search=1),
    )
    good = Index.build(tmp_path / "good", vectors, method="approximate")
    assert poor.recall() < 0.6 < good.recall()


def test_a_wider_walk_finds_more(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((4050, 64))
    narrow = Index.build(
        tmp_path / "narrow",
        vectors[:4000],
        method="approximate",
        graph=HNSWOptions(connectivity=8, ef_search=1),
    )
    exact = narrow.search(vectors[4000:], exact=True).ids
    shares = [(narrow.search(vectors[4000:], ef_search=rows).ids == exact).mean() for rows in (None, 1000)]
    assert shares[0] + 0.2 < shares[1]
    assert shares[1] > FLOOR - 0.05


def test_similarities_are_those_of_exact_search(index: Index) -> None:
    queries = clusters(50, seed=1)
    near, exact = index.search(queries), index.search(queries, exact=True)
    same = near.ids == exact.ids
    assert same.mean() > FLOOR
    np.testing.assert_array_equal(near.similarity[same], exact.similarity[same])


def test_rows_beside_the_graph_are_found(index: Index) -> None:
    added = clusters(20, seed=5)
    ids = index.add(added, {"number": [0] * 20, "tenth": [0] * 20})
    assert index.manifest.graph is not None
    assert index.manifest.graph.last_id < ids[0]
    np.testing.assert_array_equal(index.search(added, 1).ids[:, 0], ids)


def test_deleted_rows_never_come_back(index: Index) -> None:
    query = clusters(5, seed=1)
    gone: set[int] = set()
    for _ in range(5):
        found = index.search(query, 20).ids
        assert not gone & set(found.ravel().tolist())
        gone |= set(found.ravel().tolist())
        index.delete(np.unique(found))
    index.compact()
    assert not gone & set(index.ids.tolist())
    assert not gone & set(index.search(query, 50).ids.ravel().tolist())
    ids = index.add(clusters(10), {"number": [1] * 10, "tenth": [1] * 10})
    assert ids.min() == ROWS


@pytest.mark.parametrize("where", ["tenth == 3", "tenth != 3", "number < 40", "number == 17", "number < 0"])
@pytest.mark.parametrize("most", [10, 1000])
def test_filtered_search_finds_as_many_as_there_are(
    index: Index, where: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ann, "_MAX_CANDIDATES", most)
    index.delete([17, 23, 39])
    queries = clusters(40, seed=1)
    allowed = [row for row in range(ROWS) if eval(where, {"number": row, "tenth": row % 10})]
    allowed = sorted(set(allowed) - {17, 23, 39})
    near, exact = index.search(queries, 30, filter=where), index.search(queries, 30, filter=where, exact=True)
    assert ((near.ids >= 0).sum(1) == min(30, len(allowed))).all()
    assert set(near.ids[near.ids >= 0].tolist()) <= set(allowed)
    if allowed:
        assert (near.ids == exact.ids)[exact.ids >= 0].mean() > FLOOR


def test_a_filter_against_the_query_still_finds_all(index: Index) -> None:
    """The allowed rows are the farthest of all from the query: no walk from it meets them early."""
    query = clusters(1, seed=1)
    far = np.sort(index.search(query, ROWS, exact=True).ids[0][-100:])
    where = f"number in {tuple(far.tolist())}"
    np.testing.assert_array_equal(
        index.search(query, 10, filter=where).ids, index.search(query, 10, filter=where, exact=True).ids
    )


def test_without_usearch_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "usearch.index", None)
    with pytest.raises(MissingExtraError, match=r"polymodal\[search\]"):
        Index.build(tmp_path / "index", clusters(10), method="approximate")
    assert not (tmp_path / "index").exists()
    assert len(Index.build(tmp_path / "index", clusters(10))) == 10
