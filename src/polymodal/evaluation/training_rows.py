"""Which rows of a table a model was trained on, by hashes of their cells."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from pydantic.dataclasses import dataclass

from polymodal.core.caller import warn_caller
from polymodal.core.errors import PolymodalWarning
from polymodal.core.formatting import count_noun
from polymodal.core.record import RECORD_CONFIG
from polymodal.data.partition import Split
from polymodal.data.table.table import Table

#: Training rows whose hash is kept, at even steps: at most 43 KiB of text in `run.json`.
MAX_KEPT = 4096
#: Cells that are read for the hashes of one table.
MAX_CELLS = 400_000
#: Rows whose cells are in memory at once.
BLOCK_ROWS = 256


class TrainingRowsWarning(PolymodalWarning):
    """Rows are scored on which the model was trained. The scores do not tell how it does on new rows."""


@dataclass(frozen=True, config=RECORD_CONFIG)
class TrainingRows:
    """The training rows of a model.

    fingerprint: that of the table of the training rows
    rows: number of training rows
    hashes: hashes of up to `MAX_KEPT` training rows that have different cells (little-endian uint64, base64)
    """

    fingerprint: str = ""
    rows: int = 0
    hashes: str = ""

    @classmethod
    def of(cls, split: Split[Table], columns: Sequence[str], fingerprint: str) -> TrainingRows:
        """The record of the training rows `split`; `columns` are those that the model reads, with its targets."""
        rows = _evenly(split.rows, min(MAX_KEPT, MAX_CELLS // max(1, len(columns))))
        hashes, counts = np.unique(row_hashes(split.table, rows, columns), return_counts=True)
        kept = np.sort(hashes[counts == 1]).astype("<u8")
        return cls(fingerprint, len(split), base64.b64encode(kept.tobytes()).decode())

    def count_in(self, table: Table, read: Table, columns: Sequence[str]) -> int:
        """The number of rows of `table` that are training rows. `read` is the table, read as the training table was.

        All training rows, if it is the training table itself. Otherwise, the rows with the cells of a kept training
        row, which are fewer than the training rows in it if not all are kept. Rows whose cells several training rows
        share are not counted, since they may be other rows.
        """
        if not self.rows:
            return 0
        if self.fingerprint == table.fingerprint():
            return self.rows
        known = np.frombuffer(base64.b64decode(self.hashes), dtype="<u8")
        rows = _evenly(np.arange(len(read)), MAX_CELLS // max(1, len(columns)))
        return int(np.isin(row_hashes(read, rows, columns), known).sum()) if len(known) else 0


def row_hashes(table: Table, rows: np.ndarray, columns: Sequence[str]) -> np.ndarray:
    """A hash of the cells of each row in these columns, `[rows]` uint64. Paths are hashed, not the files they name. The
    cells, which may be media, are in memory for `BLOCK_ROWS` rows at once."""
    blocks = [
        _block_hashes(table, rows[start : start + BLOCK_ROWS], columns) for start in range(0, len(rows), BLOCK_ROWS)
    ]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.uint64)


def _block_hashes(table: Table, rows: np.ndarray, columns: Sequence[str]) -> np.ndarray:
    parts = []
    for column in columns:
        values = table.values(column, rows) if column in table.columns else [None] * len(rows)
        parts.append(values.to_pylist() if isinstance(values, pa.ChunkedArray | pa.Array) else list(values))
    rendered = (repr([_plain(cell) for cell in cells]) for cells in zip(*parts, strict=True))
    digests = (xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass")) for text in rendered)
    return np.fromiter(digests, dtype=np.uint64, count=len(rows) if parts else 0)


def warn_training_rows(rows: int, of: int, table: str) -> None:
    """A `TrainingRowsWarning`, if a model is scored on rows on which it was trained."""
    if rows:
        warn_caller(
            f"the model was trained on {rows:,} of {count_noun(of, 'row')} of {table}, so the scores do not tell "
            "how it does on new rows",
            TrainingRowsWarning,
        )


def _evenly(rows: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of `rows`, at even steps."""
    if len(rows) <= most:
        return rows
    return np.asarray(rows[np.linspace(0, len(rows) - 1, max(1, most)).astype(np.int64)])


def _plain(cell: Any) -> Any:
    """A cell with one form for equal numbers, and with the bytes of an array."""
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    if isinstance(cell, np.ndarray):
        return xxhash.xxh3_64_intdigest(np.ascontiguousarray(cell).tobytes())
    return cell if not hasattr(cell, "tobytes") else xxhash.xxh3_64_intdigest(cell.tobytes())
