"""Parquet files read by row groups where they are, in an object store or on this machine: no copy is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from polymodal.core.errors import DataError, did_you_mean
from polymodal.data.objects import ObjectFile, Root, object_errors
from polymodal.data.table.base import StoredTable, Table, restore_order, spread_rows
from polymodal.data.table.cell_kinds import CellKind, Cells, cell_kind, kind_type, read_as
from polymodal.data.table.columns import check_names, plain_type
from polymodal.data.table.remembered import remembered_text
from polymodal.data.table.row_group_pass import PassKey, ReadAhead, RowGroupPass

#: Bytes of a batch of rows. A pass over rows holds one batch, and one that is read ahead.
BATCH_BYTES = 16 << 20
MIN_BATCH_ROWS, MAX_BATCH_ROWS = 16, 65536
#: Passes over rows that are open at once: the columns of an input, of a target, of a weight.
MAX_PASSES = 4
#: Row groups from which a sample is drawn.
MAX_SAMPLED_GROUPS = 64
#: Footers that are read at once.
READERS = 16


@dataclass(frozen=True)
class ParquetFooter:
    """A Parquet file and what its footer says.

    key: a hash of the footer, the size, and the version of the content in the object store or, without one, the time
        of the last change
    """

    file: ObjectFile
    metadata: Any
    schema: pa.Schema
    key: str

    @classmethod
    def read(cls, file: ObjectFile) -> ParquetFooter:
        """Read the footer of a file.

        Raises:
            DataError: it cannot be read, or is no Parquet file.
        """
        from pyarrow import parquet  # slow to import

        with object_errors(file.path), file.path.open() as source:
            version = (source.metadata() or {}).get("ETag", file.version.encode())
            try:
                opened = parquet.ParquetFile(source, pre_buffer=False)
            except pa.ArrowException as error:
                reason = str(error).splitlines()[0]
                raise DataError(
                    f"the file is damaged or not a parquet file ({reason})", file=file.path.shown
                ) from error
            check_names(opened.schema_arrow.names, file.path.shown)
            size = opened.metadata.serialized_size + 8
            footer = source.read_at(size, file.size - size)
            key = xxhash.xxh3_128_hexdigest(b"%d %s\n" % (file.size, version) + footer)
            return cls(file, opened.metadata, opened.schema_arrow, key)

    def column_bytes(self, group: int, columns: Sequence[str]) -> int:
        """Uncompressed bytes of some columns of a row group."""
        part = self.metadata.row_group(group)
        chunks = (part.column(number) for number in range(part.num_columns))
        return sum(one.total_uncompressed_size for one in chunks if _is_part_of(one.path_in_schema, columns))


class RowGroupTable(StoredTable):
    """The rows of Parquet files, one file after the other, read where they are.

    Rows are read in passes: a pass holds one batch of `BATCH_BYTES` of a row group. Rows in ascending order are read
    once; other orders begin the row group again. So memory does not grow with the table or its row groups. In an object
    store, a thread reads the batch that is needed next, also that of the next call if calls go on one after the other.

    files: in order; they have one schema
    cache: folder where the fingerprint is remembered

    Raises:
        DataError: a file cannot be read or has another schema than the first one, or there are no rows.
    """

    def __init__(
        self,
        files: Sequence[ObjectFile],
        *,
        name: str,
        root: Root | None,
        cache: Path,
        footers: Sequence[ParquetFooter] | None = None,
        kinds: Mapping[str, CellKind] | None = None,
    ) -> None:
        self.name, self.root, self.files, self._cache = name, root, list(files), cache
        self.footers = list(footers) if footers is not None else _read_footers(self.files, name)
        self._kinds = dict(kinds or {})
        groups = [
            (number, group)
            for number, footer in enumerate(self.footers)
            for group in range(footer.metadata.num_row_groups)
            if footer.metadata.row_group(group).num_rows
        ]
        if not groups:
            raise DataError("the table has no rows", file=name)
        self.groups = groups
        sizes = [self.footers[number].metadata.row_group(group).num_rows for number, group in groups]
        self.starts = np.cumsum([0, *sizes])
        self._length = int(self.starts[-1])
        self._types = {field.name: plain_type(field.type) for field in self.footers[0].schema}
        self._passes: dict[PassKey, RowGroupPass] = {}
        self._ahead = ReadAhead() if self.files[0].path.scheme != "file" else None

    @property
    def columns(self) -> list[str]:
        return list(self._types)

    def column_type(self, column: str) -> pa.DataType | None:
        self._check(column)
        return kind_type(self._kinds[column]) or self._types[column] if column in self._kinds else self._types[column]

    def read_with(self, kinds: Mapping[str, CellKind]) -> Table:
        changed = {
            column: kind
            for column, kind in kinds.items()
            if column in self._types and kind != "other" and kind != cell_kind(self.column_type(column))
        }
        if not changed:
            return self
        options: dict[str, Any] = {"name": self.name, "root": self.root, "cache": self._cache}
        table = RowGroupTable(self.files, **options, footers=self.footers, kinds={**self._kinds, **changed})
        table.folder = self.folder
        return table

    def values(self, column: str, rows: np.ndarray) -> pa.ChunkedArray | list[Any]:
        found = self._cells([column], rows)[column]
        return found if isinstance(found, pa.ChunkedArray) else list(found)

    def fingerprint(self) -> str:
        return remembered_text(self._cache, self.source_key(), super().fingerprint)

    def source_key(self) -> str:
        digest = xxhash.xxh3_128()
        for footer in self.footers:
            digest.update(f"{footer.file.path.name} {footer.key}\n".encode())
        return digest.hexdigest()

    def shard_bounds(self, rows: int) -> list[int]:
        bounds = [0]
        for start, stop in zip(self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True):
            if stop - bounds[-1] > rows and start > bounds[-1]:
                bounds.append(start)
            while stop - bounds[-1] > rows:
                bounds.append(bounds[-1] + rows)
        return [*bounds, self._length]

    def _cells(self, columns: list[str], rows: np.ndarray) -> dict[str, pa.ChunkedArray | Sequence[Any]]:
        rows = self.check_rows(rows)
        for column in columns:
            self._check(column)
        order = np.argsort(rows, kind="stable")
        parts = self._read(tuple(columns), rows[order])
        found: dict[str, pa.ChunkedArray | Sequence[Any]] = {}
        for column in columns:
            arrays = [part[column] for part in parts] or [pa.array([], self._types[column])]
            cells: Cells = pa.chunked_array([restore_order(pa.concat_arrays(arrays), order)])
            found[column] = read_as(cells, self._kinds[column]) if column in self._kinds else cells
        return found

    def _read(self, columns: tuple[str, ...], ascending: np.ndarray) -> list[dict[str, pa.Array]]:
        if not columns or not len(ascending):
            return []
        group = np.searchsorted(self.starts, ascending, side="right") - 1
        touched, first = np.unique(group, return_index=True)
        goes_on = self._ahead is not None and self._ahead.goes_on(columns, ascending)
        last = [int(touched[-1]) + 1] if goes_on and touched[-1] + 1 < len(self.groups) else [None]
        following = [*touched[1:].tolist(), *last]
        parts = np.split(ascending, first[1:])
        return [
            part
            for number, then, rows in zip(touched.tolist(), following, parts, strict=True)
            for part in self._take(number, columns, rows - self.starts[number], then, goes_on)
        ]

    def _take(
        self, number: int, columns: tuple[str, ...], rows: np.ndarray, following: int | None, goes_on: bool
    ) -> Iterator[dict[str, pa.Array]]:
        """The cells of ascending `rows` of a row group, in parts.

        following: the row group that is read next, if it is known
        goes_on: whether the rows after the last one are likely to be read next
        """
        with object_errors(self.footers[self.groups[number][0]].file.path):
            while len(rows):
                one = self._pass((number, columns), int(rows[0]))
                here = int(np.searchsorted(rows, one.stop))
                if not here:
                    one.advance()
                    continue
                if self._ahead is not None:
                    self._read_ahead(self._ahead, one, len(rows) > here or goes_on, following, columns)
                yield one.take(rows[:here])
                rows = rows[here:]

    def _pass(self, key: PassKey, row: int) -> RowGroupPass:
        """The pass over a row group that has not gone beyond a row."""
        if key not in self._passes or self._passes[key].start > row:
            while key in self._passes or len(self._passes) >= MAX_PASSES:
                self._passes.pop(key if key in self._passes else next(iter(self._passes))).close()
            ahead = self._ahead
            self._passes[key] = ahead.take() if ahead is not None and ahead.has(key) else self._open(key)
        return self._passes[key]

    def _open(self, key: PassKey, advance: bool = False) -> RowGroupPass:
        file, group = self.groups[key[0]]
        footer = self.footers[file]
        opened = RowGroupPass(footer.file, footer.metadata, group, key[1], self.batch_rows(*key))
        if advance:
            opened.advance()
        return opened

    def _read_ahead(
        self, ahead: ReadAhead, one: RowGroupPass, goes_on: bool, following: int | None, columns: tuple[str, ...]
    ) -> None:
        """Let the thread read what comes after the batch of a pass: its next batch, or the next row group."""
        if goes_on and one.stop < one.num_rows:
            one.read_ahead(ahead.thread)
        elif following is not None:
            key = (following, columns)
            if key not in self._passes and not ahead.has(key):
                ahead.begin(key, ahead.thread.submit(self._open, key, True))

    def _sampled_rows(self, column: str, limit: int, seed: int) -> np.ndarray:
        """Rows of up to `MAX_SAMPLED_GROUPS` row groups; of a row group larger than four batches, of its first
        batch, since a later row is read by reading those before it."""
        self._check(column)
        some = np.unique(np.linspace(0, len(self.groups) - 1, MAX_SAMPLED_GROUPS).astype(np.int64))
        reach = []
        for number in some.tolist():
            rows, size = int(np.diff(self.starts)[number]), self._group_bytes(number, [column])
            reach.append(rows if size <= 4 * BATCH_BYTES else min(rows, self.batch_rows(number, (column,))))
        edges = np.cumsum([0, *reach])
        drawn = spread_rows(int(edges[-1]), limit, seed)
        place = np.searchsorted(edges, drawn, side="right") - 1
        found: np.ndarray = self.starts[some[place]] + drawn - edges[place]
        return found

    def batch_rows(self, number: int, columns: tuple[str, ...]) -> int:
        """The rows of a batch of a row group."""
        rows = int(self.starts[number + 1] - self.starts[number])
        row_bytes = self._group_bytes(number, columns) / rows
        return int(np.clip(BATCH_BYTES / max(1.0, row_bytes), MIN_BATCH_ROWS, MAX_BATCH_ROWS))

    def _group_bytes(self, number: int, columns: Sequence[str]) -> int:
        file, group = self.groups[number]
        return self.footers[file].column_bytes(group, columns)

    def _row_bytes(self, columns: list[str]) -> float:
        return max(
            self._group_bytes(n, columns) / (self.starts[n + 1] - self.starts[n]) for n in range(len(self.groups))
        )

    def _check(self, column: str) -> None:
        if column not in self._types:
            raise DataError(f"there is no column {column!r}; {did_you_mean(column, self._types)}", file=self.name)


def _is_part_of(path: str, columns: Sequence[str]) -> bool:
    """Whether a leaf of the schema, such as `tags.list.element`, belongs to one of the columns."""
    return any(path == column or path.startswith(f"{column}.") for column in columns)


def _read_footers(files: Sequence[ObjectFile], name: str) -> list[ParquetFooter]:
    """The footers of all files, which must have one schema.

    Raises:
        DataError: a file has other columns or types than the first one.
    """
    with ThreadPoolExecutor(min(READERS, len(files))) as threads:
        footers = list(threads.map(ParquetFooter.read, files))
    first = footers[0]
    for footer in footers[1:]:
        one, other = first.file.path.name, footer.file.path.name
        if footer.schema.names != first.schema.names:
            different = ", ".join(sorted(set(footer.schema.names) ^ set(first.schema.names))) or "another order"
            raise DataError(f"{other!r} has other columns than {one!r} ({different}); they must be the same", file=name)
        for field, wanted in zip(footer.schema, first.schema, strict=True):
            if plain_type(field.type) != plain_type(wanted.type):
                problem = f"is {wanted.type} in {one!r} and {field.type} in {other!r}; write both alike"
                raise DataError(problem, column=field.name, file=name)
    return footers
