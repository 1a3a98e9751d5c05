"""Tables and queries of database files: SQLite by the standard library, DuckDB by its package."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from polymodal.core.errors import DataError, MissingExtraError
from polymodal.data.table.columns import check_names
from polymodal.data.table.queries import query_of, quoted
from polymodal.data.table.untyped_rows import UntypedRows

SQLITE, DUCKDB = (".sqlite", ".sqlite3", ".db"), (".duckdb", ".ddb")
SUFFIXES = (*SQLITE, *DUCKDB)
_BLOCK_ROWS = 4096


class SqliteRows(UntypedRows):
    """The rows of a table or query of an SQLite file, which is opened for reading only.

    part: a table, or a query

    Raises:
        DataError: the file is damaged or not of SQLite, there is no such table, or the query fails.
    """

    def __init__(self, path: Path, part: str = "") -> None:
        self.path = path
        with self._opened() as base:
            listed = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
            tables = [name for (name,) in base.execute(f"{listed} ORDER BY name")]
        self._query = query_of(part, tables, quoted, str(path))
        super().__init__()

    def _blocks(self) -> Iterator[list[dict[str, Any]]]:
        with self._opened() as base:
            cursor = base.execute(self._query)
            if cursor.description is None:
                raise DataError("the query returns no columns", file=str(self.path))
            names = [one[0] for one in cursor.description]
            check_names(names, str(self.path))
            while rows := cursor.fetchmany(_BLOCK_ROWS):
                yield [dict(zip(names, row, strict=True)) for row in rows]

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as base:
                yield base
        except sqlite3.Error as error:
            raise DataError(f"SQLite cannot read it: {error}", file=str(self.path)) from error


@contextmanager
def duckdb_batches(path: Path, part: str = "") -> Iterator[pa.RecordBatchReader]:
    """The rows of a table or query of a DuckDB file. It is opened for reading only, and its views read no other files.

    Raises:
        DataError: the file is damaged or not of DuckDB, there is no such table, or the query fails.
        MissingExtraError: duckdb is not installed.
    """
    try:
        import duckdb
    except ImportError:
        raise MissingExtraError("duckdb", "duckdb", "a DuckDB file") from None
    try:
        with duckdb.connect(str(path), read_only=True, config={"enable_external_access": "false"}) as base:
            tables = [name for (name,) in base.execute("SELECT table_name FROM information_schema.tables").fetchall()]
            relation = base.sql(query_of(part, sorted(tables), quoted, str(path)))
            if relation is None:
                raise DataError("the query returns no columns", file=str(path))
            yield pa.RecordBatchReader.from_stream(relation)
    except duckdb.Error as error:
        raise DataError(f"DuckDB cannot read it: {str(error).splitlines()[0]}", file=str(path)) from error
