"""Tables and queries of database servers, read by SQLAlchemy in one transaction."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa

from polymodal.core.errors import DataError, MissingExtraError
from polymodal.data.table.arrow_cache import map_batches
from polymodal.data.table.columns import check_names
from polymodal.data.table.nested import flat_row
from polymodal.data.table.queries import is_query, query_of
from polymodal.data.table.source_part import DatabaseTable
from polymodal.data.table.untyped_rows import UntypedRows

#: The package that connects to each database, and the extra that installs it.
_DRIVERS = {
    "postgresql": ("psycopg", "postgresql"),
    "mysql": ("pymysql", "mysql"),
    "mariadb": ("pymysql", "mysql"),
}
_BLOCK_ROWS = 4096
#: A colon before a name, which SQLAlchemy would read as a parameter.
_PARAMETER = re.compile(r"(?<!:):(?=\w)")


class SqlRows(UntypedRows):
    """The rows of a query.

    connection: of SQLAlchemy, in a transaction in which the rows do not change between two readings
    """

    def __init__(self, connection: Any, query: str, shown: str) -> None:
        self._connection, self._query, self._shown = connection, query, shown
        super().__init__()

    def _blocks(self) -> Iterator[list[dict[str, Any]]]:
        from sqlalchemy import text

        result = self._connection.execute(text(_PARAMETER.sub(r"\\:", self._query)))
        names = list(result.keys())
        check_names(names, self._shown)
        while rows := result.fetchmany(_BLOCK_ROWS):
            yield [flat_row({n: _plain(cell) for n, cell in zip(names, row, strict=True)}) for row in rows]


def read_database(source: DatabaseTable, cache: Path) -> pa.Table:
    """The rows of a table or query, copied into `cache`. They are read again at each call.

    Raises:
        DataError: there is no connection, no such table, or the query fails.
        MissingExtraError: the package that connects to the database is not installed.
    """
    with _connected(source) as connection:
        query = source.part
        if not is_query(query):
            query = _query_of_table(connection, source)
        rows = SqlRows(connection, query, source.shown)
        return map_batches(rows.schema, rows.batches(), cache, "query")


def _query_of_table(connection: Any, source: DatabaseTable) -> str:
    from sqlalchemy import inspect

    found = inspect(connection)
    names = sorted([*found.get_table_names(), *found.get_view_names()])
    schema, dot, table = source.part.rpartition(".")
    quote = connection.dialect.identifier_preparer.quote
    if dot and schema in found.get_schema_names():
        tables = [*found.get_table_names(schema), *found.get_view_names(schema)]
        return query_of(table, sorted(tables), lambda name: f"{quote(schema)}.{quote(name)}", source.shown)
    return query_of(source.part, names, quote, source.shown)


@contextmanager
def _connected(source: DatabaseTable) -> Iterator[Any]:
    """A connection that only reads, and sees the same rows at all times."""
    scheme, _, rest = source.url.partition("://")
    package, extra = _DRIVERS[scheme]
    try:
        from sqlalchemy import create_engine
        from sqlalchemy.exc import ArgumentError, SQLAlchemyError

        __import__(package)
    except ImportError:
        raise MissingExtraError(f"sqlalchemy and {package}", extra, f"a {scheme} database") from None
    try:
        engine = create_engine(f"{scheme}+{package}://{rest}")
    except (ArgumentError, ValueError):
        problem = f"the URL of the database is not valid: write {scheme}://user:password@host/database#table"
        raise DataError(problem) from None
    options: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "stream_results": True}
    if scheme == "postgresql":
        options["postgresql_readonly"] = True
    try:
        with engine.connect().execution_options(**options) as connection:
            yield connection
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).strip()
        problem = f"the database cannot be read: {cause.splitlines()[0] if cause else type(error).__name__}"
        raise DataError(problem, file=source.shown) from error
    finally:
        engine.dispose()


def _plain(cell: Any) -> Any:
    """A cell in a form that Arrow reads as other formats give it."""
    if isinstance(cell, Decimal):
        return float(cell)
    if isinstance(cell, memoryview | bytearray):
        return bytes(cell)
    return str(cell) if isinstance(cell, UUID) else cell
