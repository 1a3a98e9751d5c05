"""The readers of table files: a file in the format of its suffix as a schema and batches of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from polymodal.core.errors import DataError
from polymodal.data.table import database_file, excel
from polymodal.data.table.columns import check_names, plain_type, to_plain_type
from polymodal.data.table.compressed import ZIP, decompressed, find_member, format_of
from polymodal.data.table.csv import CsvFile
from polymodal.data.table.csv_form import CsvForm, find_separator, separator_name
from polymodal.data.table.encodings import in_utf8
from polymodal.data.table.json_array import read_json
from polymodal.data.table.json_lines import JsonLines
from polymodal.data.table.source_part import TableFile
from polymodal.data.table.untyped_rows import UntypedRows

Batches = tuple[pa.Schema, Iterable[pa.RecordBatch]]

#: Metadata of a schema: what was assumed about the file.
NOTE_KEY = b"polymodal.note"
_BATCH_BYTES = 16 << 20


@contextmanager
def opened(file: TableFile, cache: Path) -> Iterator[Batches]:
    """The schema and the batches of a file, which may be compressed or in an archive.

    cache: folder for copies, which are deleted at the end

    Raises:
        DataError: the file cannot be read, or has no such part.
    """
    member, part, name = None, file.part, file.path
    if file.path.suffix.lower() == ZIP:
        first, _, rest = file.part.partition("&")
        given, part = ("", file.part) if "=" in first else (first, rest)
        member = find_member(file.path, given or None, SUFFIXES)
        name = Path(member)
    suffix = format_of(name)
    with decompressed(file.path, cache, member) as source:
        if suffix in (".csv", ".tsv"):
            form = CsvForm.parse(part, file.path)
            with in_utf8(source, cache, form.encoding) as (text, note):
                yield _read_csv(text, form, note)
        elif suffix in database_file.DUCKDB:
            with database_file.duckdb_batches(source, part) as reader:
                schema = _plain_schema(reader.schema, source)
                yield schema, (_plain_batch(batch, schema) for batch in reader)
        elif suffix in database_file.SQLITE:
            yield _rows(database_file.SqliteRows(source, part))
        elif suffix in excel.SUFFIXES:
            yield _rows(excel.ExcelSheet(source, part))
        elif part:
            problem = f"a {suffix[1:]} file has no parts, so nothing may follow '#'"
            raise DataError(problem, file=str(file.path))
        else:
            yield _READERS[suffix](source)


def _read_csv(path: Path, form: CsvForm, note: str) -> Batches:
    """A CSV file in UTF-8; `note` is what was assumed about its encoding."""
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    separator = form.separator or (usual if usual == "\t" else find_separator(path))
    notes = [note] if note else []
    if form.separator is None and separator != usual:
        notes.append(f"its cells are separated by {separator_name(separator)}, as in its header")
    source = CsvFile(path, separator)
    return source.schema.with_metadata({NOTE_KEY: "; ".join(notes)} if notes else None), source.batches()


def _rows(source: UntypedRows) -> Batches:
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
    schema, batches = arrow_batches(pa.memory_map(str(path)))
    wanted = _plain_schema(schema, path)
    return wanted, (_plain_batch(batch, wanted) for batch in batches)


_READERS: dict[str, Callable[[Path], Batches]] = {
    ".json": lambda path: _rows(read_json(path)),
    ".jsonl": lambda path: _rows(JsonLines(path)),
    ".ndjson": lambda path: _rows(JsonLines(path)),
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
    ".feather": _read_arrow,
    ".ipc": _read_arrow,
}
SUFFIXES = frozenset({".csv", ".tsv", *excel.SUFFIXES, *database_file.SUFFIXES, *_READERS})


def arrow_batches(source: pa.NativeFile) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
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
