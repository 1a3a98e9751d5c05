"""CSV, JSON lines, Parquet and Arrow files as memory-mapped Arrow tables. Files are streamed, so memory use is
constant."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import xxhash

from polymodal.core.caller import warn_caller
from polymodal.core.checksum import file_checksum, is_unchanged
from polymodal.core.errors import DataError
from polymodal.core.paths import CacheWarning, cache_writes
from polymodal.data.table.cell_kinds import CellKind
from polymodal.data.table.columns import Columns, check_names, plain_type, to_plain_type
from polymodal.data.table.csv import KIND_KEY, RAW_KEY, CsvFile
from polymodal.data.table.gzipped import decompressed, format_of
from polymodal.data.table.json_array import read_json
from polymodal.data.table.json_lines import JsonLines

# Part of the name of every cache entry: increase it when the conversion of a file changes.
_VERSION = 2
_BATCH_BYTES = 16 << 20

Batches = tuple[pa.Schema, Iterable[pa.RecordBatch]]


def map_file(path: Path, cache: Path) -> pa.Table:
    """The table in `path`, memory-mapped. Any file other than an uncompressed Arrow file is converted into `cache`
    once.

    An entry of the cache is compared with its checksum. A damaged one is removed with a `CacheWarning`, and the file is
    converted again.

    Raises:
        DataError: the file cannot be read in the format of its suffix.
        PolymodalError: the cache cannot be written to.
    """
    try:
        if path.suffix.lower() in (".arrow", ".feather", ".ipc"):
            mapped = _map_uncompressed(path)
            if mapped is not None:
                return mapped
        return _map_converted(path, cache, _READERS[format_of(path)])
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


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


def file_key(path: Path) -> str:
    """A name for the content of a file: a hash of its bytes, size and modification time."""
    status = path.stat()
    identity = f"{_VERSION} {status.st_size} {status.st_mtime_ns} {path.suffix.lower()}\n"
    digest = xxhash.xxh3_128(identity.encode())
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _map_converted(path: Path, cache: Path, read: Callable[[Path], Batches]) -> pa.Table:
    """The converted table of a file. The name of a cache entry is the key of the file and the checksum of the entry."""
    key = file_key(path)
    with cache_writes(cache):
        cache.mkdir(parents=True, exist_ok=True)
        entries = sorted(cache.glob(f"{key}-*.arrow"))
    for entry in entries:
        if is_unchanged(entry, entry.stem.rpartition("-")[2]):
            return pa.ipc.open_file(pa.memory_map(str(entry))).read_all()
        warn_caller(f"{entry} in the cache is damaged: {path} is converted again", CacheWarning)
        with cache_writes(cache):
            entry.unlink()
    partial = cache / f"{uuid.uuid4().hex}.partial"
    try:
        with decompressed(path, cache) as source:
            schema, batches = read(source)
            with cache_writes(cache), pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                for batch in _source_errors(batches, path):
                    writer.write_batch(batch)
        with cache_writes(cache):
            target = cache / f"{key}-{file_checksum(partial)}.arrow"
            os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
        pa.default_memory_pool().release_unused()
    return pa.ipc.open_file(pa.memory_map(str(target))).read_all()


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


def _read_csv(path: Path) -> Batches:
    source = CsvFile(path, "\t" if path.suffix.lower() == ".tsv" else None)
    return source.schema, source.batches()


def _read_json_lines(path: Path) -> Batches:
    source = JsonLines(path)
    return source.schema, source.batches()


def _read_json(path: Path) -> Batches:
    source = read_json(path)
    return source.schema, source.batches()


def _read_parquet(path: Path) -> Batches:
    from pyarrow import parquet  # slow to import

    file = parquet.ParquetFile(str(path), memory_map=True, pre_buffer=False)
    schema = _plain_schema(file.schema_arrow, path)
    groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
    row_bytes = sum(group.total_byte_size for group in groups) / max(1, file.metadata.num_rows)
    rows = min(4096, max(16, int(_BATCH_BYTES / max(1.0, row_bytes))))
    return schema, (_plain_batch(batch, schema) for batch in file.iter_batches(batch_size=rows))


def _read_arrow(path: Path) -> Batches:
    schema, batches = _arrow_batches(pa.memory_map(str(path)))
    wanted = _plain_schema(schema, path)
    return wanted, (_plain_batch(batch, wanted) for batch in batches)


_READERS: dict[str, Callable[[Path], Batches]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
    ".feather": _read_arrow,
    ".ipc": _read_arrow,
}
SUFFIXES = frozenset(_READERS)


def _map_uncompressed(path: Path) -> pa.Table | None:
    """The mapped table; None if its buffers are compressed, since reading it would copy it into memory."""
    whole = pa.memory_map(str(path)).read_buffer()
    schema, batches = _arrow_batches(pa.BufferReader(whole))
    check_names(schema.names, str(path))
    kept = []
    for batch in batches:
        buffers = [buffer for column in batch.columns for buffer in column.buffers() if buffer and buffer.size]
        if any(not whole.address <= buffer.address < whole.address + whole.size for buffer in buffers):
            return None
        kept.append(batch)
    return pa.Table.from_batches(kept, schema)


def _arrow_batches(source: pa.NativeFile) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Schema and batches of an Arrow file or stream. A file begins with a magic number."""
    magic = source.read(6)
    source.seek(0)
    if magic == b"ARROW1":
        file = pa.ipc.open_file(source)
        return file.schema, (file.get_batch(number) for number in range(file.num_record_batches))
    stream = pa.ipc.open_stream(source)
    return stream.schema, iter(stream)


def _plain_schema(schema: pa.Schema, path: Path) -> pa.Schema:
    check_names(schema.names, str(path))
    return pa.schema([pa.field(field.name, plain_type(field.type)) for field in schema])


def _plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([to_plain_type(column) for column in batch.columns], schema=schema)
