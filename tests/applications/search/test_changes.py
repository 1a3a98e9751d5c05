"""An index changes wholly or not at all, refuses what was altered, and never uses an id twice."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from damage import change_signed
from polymodal.applications.search import Index, storage
from polymodal.checkpoint.write_lock import WriteLock
from polymodal.core.errors import ArtifactError, DataError, OutputError
from search.vectors import clusters

COLUMNS = {"name": ["a", "b", None, "d"] * 50}


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index.build(tmp_path / "index", clusters(200), COLUMNS)


def state(index: Index) -> tuple[list[int], list[object], bytes]:
    ids = index.ids
    return ids.tolist(), index.take(ids)["name"].to_pylist(), index.vectors(ids).tobytes()


def test_ids_are_never_used_again(index: Index) -> None:
    assert index.add(clusters(3), {"name": ["x"] * 3}).tolist() == [200, 201, 202]
    index.delete([202])
    index.compact()
    assert index.add(clusters(2), {"name": ["y"] * 2}).tolist() == [203, 204]
    assert index.take([204, 0, 2])["name"].to_pylist() == ["y", "a", None]
    with pytest.raises(DataError, match="no row 202"):
        index.take([202])
    with pytest.raises(DataError, match="no row 202"):
        index.delete([202])


def test_missing_vectors_are_skipped_and_keep_their_ids(tmp_path: Path) -> None:
    vectors = clusters(10)
    vectors[[0, 4]] = np.nan
    before = vectors.copy()
    index = Index.build(tmp_path / "index", vectors, {"row": list(range(10))})
    assert index.ids.tolist() == [1, 2, 3, 5, 6, 7, 8, 9]
    assert index.take(index.ids)["row"].to_pylist() == index.ids.tolist()
    assert index.add(vectors, {"row": list(range(10))}).tolist() == [-1, 11, 12, 13, -1, 15, 16, 17, 18, 19]
    np.testing.assert_array_equal(vectors, before)


@pytest.mark.parametrize("bad", [[np.nan, 1.0], [np.inf, 1.0], [0.0, 0.0]])
def test_vectors_without_a_direction_are_refused(tmp_path: Path, bad: list[float]) -> None:
    with pytest.raises(DataError, match="row 1"):
        Index.build(tmp_path / "index", [[1.0, 2.0], bad])
    assert not (tmp_path / "index").exists()
    index = Index.build(tmp_path / "index", [[1.0, 2.0]])
    with pytest.raises(DataError, match="row 0"):
        index.search(bad)


@pytest.mark.parametrize(
    ("vectors", "columns", "message"),
    [
        (clusters(2, 5), {"name": ["a", "b"]}, "have dimension 5, but the index has dimension 24"),
        (clusters(2), {"nam": ["a", "b"]}, "did you mean 'nam'"),
        (
            clusters(2),
            {"name": ["a", "b"], "more": [1, 2]},
            "has no such metadata column; (did you mean|choose)",
        ),
        (clusters(2), None, "column 'name'"),
        (clusters(2), {"name": ["a"]}, "2 vectors and 1 rows"),
        (np.array(["a", "b"]), {"name": ["a", "b"]}, "must be a numeric array"),
    ],
)
def test_rows_that_do_not_fit_are_refused(index: Index, vectors: np.ndarray, columns: object, message: str) -> None:
    before = state(index)
    with pytest.raises(DataError, match=message):
        index.add(vectors, columns)
    assert state(Index.open(index.folder)) == before


def test_many_small_additions_leave_few_files(index: Index) -> None:
    rng = np.random.default_rng(0)
    expected = state(index)[1]
    for _ in range(60):
        index.add(rng.standard_normal((3, 24)), {"name": ["p", "q", "r"]})
        expected += ["p", "q", "r"]
    assert len(index.manifest.segments) < 12
    assert state(Index.open(index.folder))[:2] == (list(range(380)), expected)
    assert {path.name for path in index.folder.iterdir()} == {
        "manifest.json",
        *(file.name for file in index.manifest.files()),
    }


def die_at(number: int) -> None:
    """Kill this process before it syncs, replaces or removes a file for the `number`-th time."""
    left = number

    def deadly(call: Callable[..., None]) -> Callable[..., None]:
        def dying(*arguments: Any, **named: Any) -> None:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            call(*arguments, **named)

        return dying

    for name in ("fsync", "replace", "unlink"):
        setattr(os, name, deadly(getattr(os, name)))


def changed(folder: Path, change: str) -> Index:
    one = Index.open(folder)
    if change == "add":
        one.add(clusters(50, seed=9), {"name": ["new"] * 50})
    elif change == "delete":
        one.delete(filter="name == 'b'")
    else:
        one.compact()
    return one


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("change", ["add", "delete", "compact"])
def test_a_process_that_dies_in_a_change_leaves_the_old_index_or_the_new(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is killed at each change of the folder in turn, until it completes."""
    pytest.importorskip("usearch")
    monkeypatch.setattr(storage, "MAX_UNLINKED_ROWS", 20)
    index = Index.build(tmp_path / "index", clusters(200), COLUMNS, method="approximate")
    index.delete([3])
    old = state(index)
    new = state(changed(shutil.copytree(index.folder, tmp_path / "changed"), change))
    assert (old == new) == (change == "compact")
    found = []
    for number in range(100):
        folder = shutil.copytree(index.folder, tmp_path / f"{number}")
        child = os.fork()
        if child == 0:
            die_at(number)
            changed(folder, change)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        opened = Index.open(folder)
        opened.search(clusters(3, seed=1), 5)
        found.append(state(opened))
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        opened.delete([7])
        assert {path.name for path in folder.glob("*-*")} == {file.name for file in opened.manifest.files()}
    assert len(found) > 3
    assert found[-1] == new
    assert all(one in (old, new) for one in found)


def test_an_open_index_does_not_change(index: Index) -> None:
    reader = Index.open(index.folder)
    before, hits = state(reader), reader.search(clusters(5, seed=1)).ids
    index.delete(list(range(100)))
    index.compact()
    assert state(reader) == before
    np.testing.assert_array_equal(reader.search(clusters(5, seed=1)).ids, hits)
    assert reader.add(clusters(1), {"name": ["z"]}).tolist() == [200]
    assert len(reader) == 101


@pytest.mark.skipif(os.name == "nt", reason="there are no such locks")
def test_one_process_changes_at_a_time(index: Index) -> None:
    lock = WriteLock(index.folder)
    lock.write({})
    with pytest.raises(OutputError, match=rf"is being written by process {os.getpid()} on "):
        index.delete([0])
    lock.release()
    assert index.delete([0]) == 1


def test_modified_files_are_rejected(index: Index) -> None:
    index.delete([0])
    for path in sorted(index.folder.glob("*-*")):
        whole = path.read_bytes()
        for changed in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
            path.write_bytes(changed)
            with pytest.raises(ArtifactError, match=path.name):
                Index.open(index.folder)
        path.unlink()
        with pytest.raises(ArtifactError, match=r"is missing"):
            Index.open(index.folder)
        path.write_bytes(whole)
    Index.open(index.folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 99, "format 99"),
        ("kind", "other", "is not an index"),
        ("dim", 23, "contains float32"),
        ("dim", "many", "IndexManifest: dim"),
        ("dtype", "float64", "IndexManifest: dtype"),
        ("next_id", None, "IndexManifest: next_id"),
    ],
)
def test_a_changed_manifest_is_refused(index: Index, key: str, value: object, message: str) -> None:
    path = index.folder / "manifest.json"
    change_signed(path, **{key: value})
    with pytest.raises(ArtifactError, match=message):
        Index.open(index.folder)


def test_files_outside_the_index_are_not_opened(index: Index) -> None:
    path = index.folder / "manifest.json"
    path.write_text(path.read_text().replace("segment-000001.ids.npy", "../segment-000001.ids.npy"))
    with pytest.raises(ArtifactError, match="was changed"):
        Index.open(index.folder)
    change_signed(path)
    with pytest.raises(ArtifactError, match="outside"):
        Index.open(index.folder)


def test_only_an_index_is_replaced(index: Index, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds a search index"):
        Index.build(index.folder, clusters(5))
    assert len(Index.build(index.folder, clusters(5), overwrite=True)) == 5
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="is not a search index, and is not overwritten"):
        Index.build(other, clusters(5), overwrite=True)
    assert (other / "letter.txt").read_text() == "dear"
