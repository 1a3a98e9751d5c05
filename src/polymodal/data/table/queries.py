"""Queries of databases: a `SELECT`, or the name of a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from polymodal.core.errors import DataError, did_you_mean

_QUERY = re.compile(r"\s*(select|with|from|values|table)\s", re.IGNORECASE)


def is_query(part: str) -> bool:
    """Whether the part of an address after `#` is a query, and not the name of a table.

    >>> is_query("SELECT * FROM a"), is_query("selections")
    (True, False)
    """
    return _QUERY.match(part) is not None


def query_of(part: str, tables: Sequence[str], quote: Callable[[str], str], file: str) -> str:
    """The query of a part: itself, or of all columns of the table that it names. Without a part, the database must have
    one table.

    tables: the names of the tables and views
    quote: a name as a part of a query

    Raises:
        DataError: there is no such table, or there are several. The message lists them.
    """
    if is_query(part):
        return part
    if part:
        if part not in tables:
            raise DataError(f"the database has no table {part!r}; {did_you_mean(part, tables)}", file=file)
        return f"SELECT * FROM {quote(part)}"
    if not tables:
        raise DataError("the database has no tables", file=file)
    if len(tables) > 1:
        listed = ", ".join(map(repr, tables[:10]))
        problem = f"the database has the tables {listed}: name one of them or give a query, as in '{file}#{tables[0]}' "
        raise DataError(f"{problem}or '{file}#SELECT ... ORDER BY ...'", file=file)
    return f"SELECT * FROM {quote(tables[0])}"


def quoted(name: str) -> str:
    """A name in the quotes of standard SQL: `my table` as `"my table"`."""
    return '"' + name.replace('"', '""') + '"'
