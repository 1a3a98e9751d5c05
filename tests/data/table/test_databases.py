"""Tables and queries of SQLite, DuckDB and PostgreSQL, written by their own libraries."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data.table.cells import cells
from polymodal.core.errors import DataError
from polymodal.data.table.table import Table, open_table
from polymodal.model.rows import open_rows

ROWS = pd.DataFrame(
    {
        "name": ["Müller", None, 'a "b"; c'],
        "n": [3, 1, 2],
        "price": [1.5, None, 3.0],
        "photo": [b"\x89PNG", b"", None],
    }
)
QUERY = "SELECT name, n * 2 AS double FROM products WHERE n::TEXT <> '1' AND name LIKE '%l%' ORDER BY n"


def read(source: object, tmp_path: Path) -> Table:
    return open_table(source, cache=tmp_path / "cache")


def expected(tmp_path: Path) -> dict[str, list[Any]]:
    ROWS.to_parquet(tmp_path / "t.parquet")
    return cells(read(tmp_path / "t.parquet", tmp_path))


@pytest.fixture
def sqlite(tmp_path: Path) -> Path:
    path = tmp_path / "shop.sqlite"
    with closing(sqlite3.connect(path)) as base:
        ROWS.to_sql("products", base, index=False)
        base.execute('CREATE TABLE "old prices" (x)')
        base.execute("INSERT INTO \"old prices\" VALUES (1), ('two'), (NULL)")
        base.commit()
    return path


def test_a_table_of_sqlite_has_the_rows_of_parquet(sqlite: Path, tmp_path: Path) -> None:
    table = read(f"{sqlite}#products", tmp_path)
    assert cells(table) == expected(tmp_path)
    assert table.root == tmp_path
    assert cells(read(f"{sqlite}#old prices", tmp_path)) == {"x": ["1", "two", None]}
    query = f"{sqlite}#SELECT n, name FROM products WHERE name LIKE '%l%' ORDER BY n"
    assert cells(read(query, tmp_path)) == {"n": [3], "name": ["Müller"]}
    assert cells(open_rows(query, None, ["n"])) == {"n": [3], "name": ["Müller"]}


def test_changes_beside_the_file_of_sqlite_are_seen(sqlite: Path, tmp_path: Path) -> None:
    """A write-ahead log holds rows that the file does not have yet."""
    assert len(read(f"{sqlite}#products", tmp_path)) == 3
    with closing(sqlite3.connect(sqlite)) as base:
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("INSERT INTO products (n) VALUES (9)")
        base.commit()
        assert len(read(f"{sqlite}#products", tmp_path)) == 4
        base.execute("INSERT INTO products (n) VALUES (10)")
        base.commit()
        assert cells(read(f"{sqlite}#products", tmp_path))["n"] == [3, 1, 2, 9, 10]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            "",
            r"tables 'old prices', 'products': name one of them or give a query, as in '.*#old prices'",
        ),
        ("#product", "no table 'product'; did you mean 'products'"),
        ("#SELECT * FROM missing", "SQLite cannot read it: no such table: missing"),
        ("#WITH x AS (SELECT 1) DELETE FROM products", "SQLite cannot read it: attempt to write a readonly database"),
        ("#SELECT 1 AS a, 2 AS a", "several columns have the name 'a'"),
        ("#SELECT * FROM products WHERE n > 5", "no rows"),
    ],
)
def test_a_wrong_part_of_sqlite_is_named(part: str, message: str, sqlite: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(f"{sqlite}{part}", tmp_path)
    assert cells(read(f"{sqlite}#products", tmp_path))["n"] == [3, 1, 2]


def test_a_table_of_duckdb_has_the_rows_of_parquet(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    path = tmp_path / "shop.duckdb"
    with duckdb.connect(str(path)) as base:
        base.register("frame", ROWS)
        base.execute("CREATE TABLE products AS SELECT * FROM frame")
    assert cells(read(path, tmp_path)) == expected(tmp_path)
    assert cells(read(f"{path}#{QUERY}", tmp_path)) == {"name": ["Müller"], "double": [6]}
    with pytest.raises(DataError, match=r"DuckDB cannot read it: .*Table with name nothing does not exist"):
        read(f"{path}#SELECT * FROM nothing", tmp_path)
    with pytest.raises(DataError, match=r"DuckDB cannot read it: .*disabled by configuration"):
        read(f"{path}#SELECT * FROM read_csv('{tmp_path}/t.csv')", tmp_path)
    path.write_bytes(b"no database")
    with pytest.raises(DataError, match=r"shop.duckdb: DuckDB cannot read it"):
        read(path, tmp_path)


def test_a_duckdb_relation_is_a_table(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    with duckdb.connect() as base:
        base.register("frame", ROWS)
        assert cells(read(base.sql("SELECT * FROM frame"), tmp_path)) == expected(tmp_path)


def test_tables_and_queries_of_postgresql(postgresql: str, tmp_path: Path) -> None:
    from sqlalchemy import LargeBinary, create_engine, text

    engine = create_engine(postgresql.replace("postgresql", "postgresql+psycopg", 1))
    ROWS.to_sql("products", engine, index=False, dtype={"photo": LargeBinary()})
    with engine.begin() as base:
        base.execute(text("CREATE SCHEMA old; CREATE TABLE old.prices (price numeric(9, 2), tags text[], about jsonb)"))
        base.execute(text("INSERT INTO old.prices VALUES (1.25, '{a,b}', '{\"x\": {\"y\": 1}}'), (NULL, NULL, NULL)"))
    try:
        assert cells(read(f"{postgresql}#products", tmp_path)) == expected(tmp_path)
        assert cells(read(f"{postgresql}#{QUERY}", tmp_path)) == {"name": ["Müller"], "double": [6]}
        assert cells(read(f"{postgresql}#old.prices", tmp_path)) == {
            "price": [1.25, None],
            "tags": [["a", "b"], None],
            "about.x.y": [1, None],
        }
        for part, message in [
            ("#product", "no table 'product'; did you mean 'products'"),
            ("#SELECT nothing FROM products", 'the database cannot be read: column "nothing" does not exist'),
            ("#WITH x AS (DELETE FROM products RETURNING n) SELECT * FROM x", "read-only transaction|data-modifying"),
        ]:
            with pytest.raises(DataError, match=message) as error:
                read(f"{postgresql}{part}", tmp_path)
            assert "only-of-a-test" not in str(error.value)
        with engine.begin() as base:  # another call reads the rows anew
            base.execute(text("DELETE FROM products WHERE n = 3"))
        table = read(f"{postgresql}#products", tmp_path)
        assert table.values("n", np.arange(len(table))).to_pylist() == [1, 2]
        assert "only-of-a-test" not in table.name
    finally:
        with engine.begin() as base:
            base.execute(text("DROP TABLE products; DROP SCHEMA old CASCADE"))
        engine.dispose()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://me:secret@127.0.0.1:1/shop#products", "the database cannot be read"),
        ("postgres:///[bad#products", "cannot be read|is not valid"),
    ],
)
def test_a_database_that_cannot_be_reached(url: str, message: str, tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises(DataError, match=message) as error:
        read(url, tmp_path)
    assert "secret" not in str(error.value)
