"""Row groups of an object store are read ahead by one thread: the same rows, no byte twice, one batch ahead."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from polymodal.core.errors import DataError
from polymodal.data import objects
from polymodal.data.table import row_groups
from polymodal.data.table.table import Table, open_table

GROUPS, GROUP_ROWS = 6, 64
ROWS = GROUPS * GROUP_ROWS


class SlowFile:
    """A file whose reads take a while and are recorded."""

    def __init__(self, store: SlowStore, path: Path) -> None:
        self._store, self._path, self._file = store, path, path.open("rb")
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        place = self._file.tell()
        if self._store.broken.is_set():
            raise OSError("the connection was reset")
        time.sleep(self._store.seconds)
        content = self._file.read(size)
        with self._store.lock:
            self._store.reads.append((threading.current_thread().name, place, len(content)))
        return content

    def seek(self, place: int, whence: int = 0) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        self.closed = True

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False


class SlowStore(fs.FileSystemHandler):  # type: ignore[misc]
    """An object store over a folder of this machine."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self.seconds, self.lock = folder, seconds, threading.Lock()
        self.reads: list[tuple[str, int, int]] = []
        self.broken = threading.Event()

    def get_type_name(self) -> str:
        return "slow"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[Any]:
        found = fs.LocalFileSystem().get_file_info([str(self.folder / path) for path in paths])
        return [
            fs.FileInfo(path, one.type, size=one.size, mtime_ns=one.mtime_ns)
            for path, one in zip(paths, found, strict=True)
        ]

    def get_file_info_selector(self, selector: Any) -> list[Any]:
        names = sorted(path.relative_to(self.folder).as_posix() for path in (self.folder / selector.base_dir).iterdir())
        return self.get_file_info(names)

    def open_input_file(self, path: str) -> Any:
        return pa.PythonFile(SlowFile(self, self.folder / path), mode="r")

    def _unused(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    open_input_stream = open_output_stream = open_append_stream = create_dir = delete_dir = _unused
    delete_dir_contents = delete_root_dir_contents = delete_file = move = copy_file = _unused

    def ahead(self) -> list[tuple[int, int]]:
        """The reads of the thread that reads ahead, as place and bytes."""
        with self.lock:
            return [(place, size) for name, place, size in self.reads if name.startswith("polymodal-read-ahead")]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlowStore:
    """A store with a table of six row groups in two files; a batch has half of the rows of a row group."""
    monkeypatch.setattr(row_groups, "BATCH_BYTES", 32 * 1008)
    folder = tmp_path / "bucket" / "table"
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    cells = [draw.bytes(1000) for _ in range(ROWS)]
    table = pa.table({"number": list(range(ROWS)), "bytes": cells})
    for part in range(2):
        rows = table.slice(part * ROWS // 2, ROWS // 2)
        options: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_batch_size": 16}
        pq.write_table(rows, folder / f"part-{part}.parquet", row_group_size=GROUP_ROWS, data_page_size=4096, **options)
    slow = SlowStore(tmp_path, 0.001)
    monkeypatch.setattr(objects, "_file_system", lambda scheme, bucket, options: fs.PyFileSystem(slow))
    return slow


def opened(tmp_path: Path) -> Table:
    return open_table("s3://bucket/table/", cache=tmp_path / "cache")


def blocks(table: Table, rows: int = 32) -> list[pa.ChunkedArray]:
    return [table.values("bytes", np.arange(start, start + rows)) for start in range(0, ROWS, rows)]


def test_a_scan_reads_the_same_rows_and_each_byte_once(store: SlowStore, tmp_path: Path) -> None:
    local = open_table(tmp_path / "bucket" / "table", cache=tmp_path / "cache").values("bytes", np.arange(ROWS))
    table = opened(tmp_path)
    store.reads.clear()
    assert pa.chunked_array([one for block in blocks(table) for one in block.chunks]).equals(
        pa.chunked_array(local.chunks)
    )
    by_place = Counter((place, size) for _, place, size in store.reads if size > 100)
    parts = [pq.read_metadata(path).num_row_groups for path in (tmp_path / "bucket" / "table").iterdir()]
    assert sum(parts) == GROUPS
    assert max(by_place.values()) <= 2, "the two files have equal places"
    assert sum(size * count for (_, size), count in by_place.items()) < 1.2 * 1000 * ROWS
    assert len(store.ahead()) > 0.5 * sum(by_place.values())
    assert opened(tmp_path).values("bytes", np.arange(ROWS)).equals(local), "also in one call"


def test_the_next_batch_is_read_while_rows_are_used_and_no_more(store: SlowStore, tmp_path: Path) -> None:
    table = opened(tmp_path)
    for start in range(0, 3 * 32, 32):
        table.values("bytes", np.arange(start, start + 32))
    end = time.monotonic() + 120
    while sum(size for _, size in store.ahead()) < 2 * 32 * 1000 and time.monotonic() < end:
        time.sleep(0.01)
    held = sum(size for _, size in store.ahead())
    time.sleep(0.1)
    assert sum(size for _, size in store.ahead()) == held, "the thread waits until the batch is used"
    assert held < 3.5 * 32 * 1000, "the batches that were used and one more"


def test_rows_in_another_order_read_nothing_ahead_of_their_call(store: SlowStore, tmp_path: Path) -> None:
    table = opened(tmp_path)
    store.reads.clear()
    for row in (200, 3, 130, 64, 300, 20):
        assert table.values("number", np.array([row])).to_pylist() == [row]
    assert store.ahead() == []


def test_an_error_of_the_thread_is_that_of_its_rows(store: SlowStore, tmp_path: Path) -> None:
    table = opened(tmp_path)
    for start in (0, 32, 64):
        table.values("bytes", np.arange(start, start + 32))
    store.broken.set()
    with pytest.raises(DataError, match="connection was reset"):
        table.values("bytes", np.arange(96, ROWS))
