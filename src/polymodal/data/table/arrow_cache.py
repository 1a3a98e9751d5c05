"""CSV, JSON lines, Parquet and Arrow files as memory-mapped Arrow tables. Files are streamed, so memory use is
constant."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import xxhash

from polymodal.core.caller import warn_caller
from polymodal.core.checksum import file_checksum, is_unchanged
from polymodal.core.errors import DataError, PolymodalWarning
from polymodal.core.paths import CacheWarning, cache_writes
from polymodal.data.table.cell_kinds import CellKind
from polymodal.data.table.columns import Columns, check_names
from polymodal.data.table.compressed import format_of
from polymodal.data.table.csv import KIND_KEY, RAW_KEY
from polymodal.data.table.readers import NOTE_KEY, arrow_batches, opened
from polymodal.data.table.source_part import TableFile

# Part of the name of every cache entry: increase it when the conversion of a file changes.
_VERSION = 3


class AssumedFormatWarning(PolymodalWarning):
    """A file does not say how it is written, and the message states what was assumed."""


def map_file(file: TableFile, cache: Path) -> pa.Table:
    """The table in `file`, memory-mapped. Any file other than an uncompressed Arrow file is converted into `cache`
    once. What was assumed about its separator and encoding is an `AssumedFormatWarning`, each time.

    An entry of the cache is compared with its checksum. A damaged one is removed with a `CacheWarning`, and the file is
    converted again.

    Raises:
        DataError: the file cannot be read in the format of its suffix.
        PolymodalError: the cache cannot be written to.
    """
    path = file.path
    try:
        if path.suffix.lower() in (".arrow", ".feather", ".ipc"):
            mapped = _map_uncompressed(path)
            if mapped is not None:
                return mapped
        table = _map_converted(file, cache)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    note = (table.schema.metadata or {}).get(NOTE_KEY)
    if note is not None:
        warn_caller(f"{path.name}: {note.decode()}", AssumedFormatWarning)
    return table


@dataclass(frozen=True)
class ColumnForms:
    """The forms of the columns of a CSV file (see `csv.CsvFile`).

    kinds: the kinds of columns that are stored as texts
    texts: the texts, as they are written, of columns that are stored as values
    """

    kinds: dict[str, CellKind] = field(default_factory=dict)
    texts: dict[str, pa.ChunkedArray] = field(default_factory=dict)


def split_forms(table: pa.Table) -> tuple[Columns, ColumnForms]:
    """The columns of a mapped file, and their other forms."""
    columns: Columns = {}
    forms = ColumnForms()
    for at, one in enumerate(table.schema):
        notes = one.metadata or {}
        if RAW_KEY in notes:
            forms.texts[notes[RAW_KEY].decode()] = table.column(at)
            continue
        columns[one.name] = table.column(at)
        if KIND_KEY in notes:
            forms.kinds[one.name] = notes[KIND_KEY].decode()
    return columns, forms


def file_key(file: TableFile) -> str:
    """A name for the content of a file: a hash of its bytes, size, modification time, and the part that is read; also
    of the changes that a database keeps beside its file."""
    path, status = file.path, file.path.stat()
    identity = f"{_VERSION} {status.st_size} {status.st_mtime_ns} {path.suffix.lower()} {file.part}\n"
    digest = xxhash.xxh3_128(identity.encode())
    for one in (path, Path(f"{path}-wal"), Path(f"{path}.wal")):
        if one == path or one.is_file():
            with open(one, "rb") as data:
                while chunk := data.read(1 << 20):
                    digest.update(chunk)
    return digest.hexdigest()


def _map_converted(file: TableFile, cache: Path) -> pa.Table:
    """The converted table of a file. The name of a cache entry is the key of the file and the checksum of the entry."""
    key = file_key(file)
    with cache_writes(cache):
        cache.mkdir(parents=True, exist_ok=True)
        entries = sorted(cache.glob(f"{key}-*.arrow"))
    for entry in entries:
        if is_unchanged(entry, entry.stem.rpartition("-")[2]):
            return pa.ipc.open_file(pa.memory_map(str(entry))).read_all()
        warn_caller(f"{entry} in the cache is damaged: {file.path} is converted again", CacheWarning)
        with cache_writes(cache):
            entry.unlink()
    with opened(file, cache) as (schema, batches):
        return map_batches(schema, _source_errors(batches, file.path), cache, key)


def map_batches(schema: pa.Schema, batches: Iterable[pa.RecordBatch], cache: Path, key: str) -> pa.Table:
    """The batches as a memory-mapped file in `cache`, whose name is `key` and its checksum."""
    partial = cache / f"{uuid.uuid4().hex}.partial"
    try:
        with cache_writes(cache):
            cache.mkdir(parents=True, exist_ok=True)
        _write(partial, schema, batches, cache)
        with cache_writes(cache):
            target = cache / f"{key}-{file_checksum(partial)}.arrow"
            os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
        pa.default_memory_pool().release_unused()
    return pa.ipc.open_file(pa.memory_map(str(target))).read_all()


def _write(target: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], cache: Path) -> None:
    with cache_writes(cache), pa.OSFile(str(target), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch.replace_schema_metadata(schema.metadata))


def _source_errors(batches: Iterable[pa.RecordBatch], path: Path) -> Iterator[pa.RecordBatch]:
    """The batches. An error of the file system in reading them is a DataError, since the errors that remain are those
    of the cache."""
    try:
        yield from batches
    except OSError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"the file is damaged or not a {format_of(path)[1:]} file ({reason})", file=str(path))


def _map_uncompressed(path: Path) -> pa.Table | None:
    """The mapped table; None if its buffers are compressed, since reading it would copy it into memory."""
    whole = pa.memory_map(str(path)).read_buffer()
    schema, batches = arrow_batches(pa.BufferReader(whole))
    check_names(schema.names, str(path))
    kept = []
    for batch in batches:
        buffers = [buffer for column in batch.columns for buffer in column.buffers() if buffer and buffer.size]
        if any(not whole.address <= buffer.address < whole.address + whole.size for buffer in buffers):
            return None
        kept.append(batch)
    return pa.Table.from_batches(kept, schema)
