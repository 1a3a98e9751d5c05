"""A pass over the rows of a row group, batch by batch, with the next batch read ahead by a thread."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from polymodal.core.errors import DataError
from polymodal.data.objects import ObjectFile
from polymodal.data.table.columns import to_plain_type

#: Bytes of a read from the file.
READ_BYTES = 1 << 20


class RowGroupPass:
    """One pass over the rows of a row group: the batch that it holds begins at `start` and ends before `stop`.

    file, metadata: the Parquet file and its footer
    batch_rows: the rows of a batch

    Raises:
        DataError: the file has changed.
    """

    def __init__(self, file: ObjectFile, metadata: Any, group: int, columns: Sequence[str], batch_rows: int) -> None:
        from pyarrow import parquet  # slow to import

        self._source = file.path.open()
        if self._source.size() != file.size:
            self._source.close()
            raise DataError("the file has changed since it was opened", file=file.path.shown)
        opened = parquet.ParquetFile(
            self._source, metadata=metadata, pre_buffer=False, buffer_size=READ_BYTES, memory_map=False
        )
        self._batches = opened.iter_batches(batch_rows, row_groups=[group], columns=list(columns), use_threads=False)
        self.columns, self.start, self.stop = columns, 0, 0
        self.num_rows = int(metadata.row_group(group).num_rows)
        self._batch: pa.RecordBatch | None = None
        self._next: Future[pa.RecordBatch] | None = None

    def advance(self) -> None:
        """Go to the next batch, which is read now unless it was read ahead."""
        self._batch = next(self._batches) if self._next is None else self._next.result()
        self._next = None
        self.start, self.stop = self.stop, self.stop + self._batch.num_rows

    def read_ahead(self, thread: Executor) -> None:
        """Let a thread read the next batch, if there is one."""
        if self._next is None and self.stop < self.num_rows:
            self._next = thread.submit(next, self._batches)

    def take(self, rows: np.ndarray) -> dict[str, pa.Array]:
        """The cells of rows of the batch."""
        assert self._batch is not None
        places = pa.array(rows - self.start)
        return {column: to_plain_type(self._batch.column(column).take(places)) for column in self.columns}

    def close(self) -> None:
        """Close the file, after a read that is under way."""
        if self._next is not None and not self._next.cancel():
            self._next.exception()
        self._source.close()


#: A row group and the columns that are read from it.
PassKey = tuple[int, tuple[str, ...]]


class ReadAhead:
    """One thread that reads the batch that is needed next: of the same row group, or the first of the next one. It
    never reads further ahead, so it holds one batch."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="polymodal-read-ahead")
        self._key: PassKey | None = None
        self._opened: Future[RowGroupPass] | None = None
        self._ends: dict[tuple[str, ...], int] = {}

    def goes_on(self, columns: tuple[str, ...], rows: np.ndarray) -> bool:
        """Whether ascending `rows` go on where the rows of the call before ended, without a gap: then those after them
        are likely to be asked for next."""
        first, last = int(rows[0]), int(rows[-1])
        is_next = self._ends.get(columns) == first and last - first + 1 == len(rows)
        self._ends[columns] = last + 1
        return is_next

    def begin(self, key: PassKey, opened: Future[RowGroupPass]) -> None:
        """Keep the pass over another row group, which the thread opens and whose first batch it reads."""
        self.end()
        self._key, self._opened = key, opened

    def has(self, key: PassKey) -> bool:
        """Whether this pass is read ahead."""
        return self._key == key

    def take(self) -> RowGroupPass:
        """The pass that was begun, at its first batch."""
        assert self._opened is not None
        opened, self._key, self._opened = self._opened, None, None
        return opened.result()

    def end(self) -> None:
        """Give up the pass that was begun, if there is one."""
        if self._opened is not None and not self._opened.cancel():
            self._opened.add_done_callback(_close)
        self._key, self._opened = None, None


def _close(opened: Future[RowGroupPass]) -> None:
    if opened.exception() is None:
        opened.result().close()
