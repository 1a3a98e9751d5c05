"""Seeded odd values: cells, columns, tables and arguments that a user may pass by mistake."""

from __future__ import annotations

import datetime as dt
import io
import math
from collections import OrderedDict, namedtuple
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import torch
from PIL import Image

Pair = namedtuple("Pair", "first second")

CELLS: list[Any] = [
    None, math.nan, math.inf, -math.inf, -0.0, 1e300, 5e-324, 0, 1, -1, 2**31, 2**53 + 1, 2**63, -(10**30), 10**400,
    True, False, "", " ", "\t", "\n", "0", "1.0", "-", "nan", "None", "true", "7 %", "$1,200.50", "2026-01-31",
    "01234", "a\0b", "\x1b[31mred", "\ud800", "e\u0301", "x" * 100_000, "../../etc/passwd", "photo.png",
    "http://a.b/c.png", "data:image/png;base64,!!!", "file:///etc/passwd", "talk.wav", "=1+1", '{"a": 1}',
    "[1, 2, 3]", "|", "a|b|a", b"", b"\x89PNG\r\n", b"\xff\xfe\0", bytearray(b"ab"), memoryview(b"ab"), [],
    [1, 2, 3], [1.0, math.nan, None, 4.0], [[1, 2], [3]], [[1, 2], [3, 4], [5, 6], [7, 8]], ["a", "b"], [None], [{}],
    (), (1, "a"), {}, {"a": 1}, {"bytes": None, "path": None}, {"bytes": b"x", "path": "a.png"}, {"path": 3}, {1: 2},
    {"array": [0.0], "sampling_rate": 8000}, {"start": 0, "end": 1, "label": "a"},
    [{"start": 1, "end": 0, "label": 3}], {1, 2}, frozenset("ab"), OrderedDict(a=1), Pair(1, 2), range(3),
    dt.date(2026, 1, 31), dt.datetime(2026, 1, 31, 12), dt.datetime(1, 1, 1, tzinfo=dt.UTC), dt.time(3),
    dt.timedelta(1), Decimal("1.10"), Decimal("NaN"), Decimal("Infinity"), Fraction(1, 3), 1 + 2j, UUID(int=1),
    Path("a/b.png"), io.BytesIO(b"x"), np.float32(1.5), np.int64(7), np.uint64(2**64 - 1), np.bool_(True),
    np.str_("word"), np.datetime64("2026-01-31"), np.datetime64("NaT"), np.float16("nan"), np.complex64(1),
    np.longdouble(1), np.array(3), np.zeros(0), np.arange(5), np.zeros((2, 2, 3), np.uint8), np.zeros((4, 4)),
    np.full((3, 3), np.nan), np.array(["a", None], object), np.zeros((0, 3)), np.zeros((2, 2, 2, 2, 2)),
    np.zeros((3, 3), complex), np.array(["a"]), np.array([(1, 2)], [("a", int), ("b", float)]), pd.NA, pd.NaT,
    pd.Interval(0, 1), pd.Period("2026-01"), pd.Timestamp("2026-01-31"), pd.Timedelta(1), pd.Series([1]),
    pa.scalar(1), pa.scalar(None), pa.array([1, 2]), pl.Series([1, 2]), torch.zeros(3),
    torch.tensor(1.0, requires_grad=True), Image.new("RGB", (3, 2)), Image.new("1", (1, 1)), Image.new("F", (2, 2)),
    Image.new("RGBA", (0, 1)), object(), Exception("x"), int, len, NotImplemented, ...,
    type("Odd", (), {"__len__": lambda self: 1})(),
]  # fmt: skip

#: Python objects that may stand where an argument of any type is expected.
ARGUMENTS: list[Any] = [
    None, 0, 1, -1, 2.5, math.nan, math.inf, 10**9, 10**30, True, "", " ", "x", "no\0name", "\ud800", "n" * 5000,
    "a.b.c", "no-such-folder/x", "{", "[1", "name == 'x", "(((", "x == 1 or", "-1", "3", b"x", Path("nowhere"),
    Path("a\0b"), Path(), "a-file.txt", "a-folder", [], [None], ["x"], [1, 2], [[]], ["training.epochs"], ["=1"],
    ["a=b=c"], ["seed=[1"], (), ("x",), {}, {"x": 1}, {1: 2}, {None: None}, {"training.epochs": "x"},
    {"a": {"b": {"c": []}}}, {"inputs": 3}, {"x"}, frozenset(), range(3), 1j, Decimal("NaN"), np.float64("nan"),
    np.int64(3), np.zeros(3), np.zeros((2, 2)), np.zeros((0, 2)), np.array(None), pd.NA, pd.DataFrame(), object(),
    int, len, dt.date(2026, 1, 1),
]  # fmt: skip


def odd_cell(draw: Random) -> Any:
    """A cell, sometimes nested."""
    cell = draw.choice(CELLS)
    if draw.random() < 0.06:
        return draw.choice([[cell], {"a": cell}, (cell, cell), [cell, draw.choice(CELLS)]])
    return cell


def odd_column(draw: Random, rows: int, sound: list[Any]) -> Any:
    """A column: odd cells among `sound` ones, one odd cell repeated, all odd, or in another container."""
    kind = draw.randrange(8)
    if kind < 3:
        cells = [draw.choice(sound) for _ in range(rows)]
        for _ in range(draw.randint(1, 3)):
            if rows:
                cells[draw.randrange(rows)] = odd_cell(draw)
    elif kind < 5:
        cells = [odd_cell(draw)] * rows
    elif kind < 6:
        cells = [odd_cell(draw) for _ in range(rows)]
    else:
        return odd_container(draw, rows, sound)
    return tuple(cells) if draw.random() < 0.1 else cells


def odd_container(draw: Random, rows: int, sound: list[Any]) -> Any:
    """A column that is no list: a typed array, a frame's column, an iterator, a set, or no column at all."""
    cells = [draw.choice(sound) for _ in range(rows)]
    makers = [
        lambda: np.array(cells, object),
        lambda: np.arange(rows).astype("datetime64[D]"),
        lambda: np.zeros((rows, 2)),
        lambda: np.zeros((rows, 3, 3, 3), np.uint8),
        lambda: np.zeros(rows, complex),
        lambda: np.zeros(rows, [("a", int)]),
        lambda: np.ma.masked_array(np.arange(rows), np.arange(rows) % 2),
        lambda: pd.Series(cells),
        lambda: pd.Series(cells, index=[1] * rows, dtype="category"),
        lambda: pd.Series(pd.interval_range(0, max(rows, 1)))[:rows],
        lambda: pd.Series(pd.period_range("2026-01", periods=rows)),
        lambda: pd.array(range(rows), dtype="Int64"),
        lambda: pd.arrays.SparseArray(np.arange(rows)),
        lambda: pl.Series(range(rows)),
        lambda: pa.array(range(rows), pa.uint64()),
        lambda: pa.array([Decimal("1.5")] * rows),
        lambda: pa.array([None] * rows),
        lambda: pa.array([b"abc"] * rows, pa.binary(3)),
        lambda: pa.array([{"a": 1}] * rows),
        lambda: pa.array([[("a", 1)]] * rows, pa.map_(pa.string(), pa.int64())),
        lambda: pa.array([0] * rows, pa.duration("s")),
        lambda: pa.array(["a"] * rows).dictionary_encode(),
        lambda: pa.chunked_array([pa.array(range(rows))]),
        lambda: torch.zeros(rows),
        lambda: torch.zeros(rows, 2, requires_grad=True),
        lambda: iter(cells),
        lambda: (cell for cell in cells),
        lambda: set(range(rows)),
        lambda: frozenset(range(rows)),
        lambda: dict.fromkeys(range(rows), 1),
        lambda: range(rows),
        lambda: "x" * rows,
        lambda: b"x" * rows,
        lambda: draw.choice(CELLS),
        lambda: cells[:-1],
    ]
    return draw.choice(makers)()


NAMES: list[Any] = [
    0, 1, -1, "1", "", " ", None, 1.5, True, ("a", "b"), "a\nb", "a.b", "\ud800", "a\0b", "é", "e\u0301", b"x",
    dt.date(2026, 1, 1), "inputs", "name", "probability", "#", "x" * 3000,
]  # fmt: skip


def odd_table(draw: Random, sound: dict[str, list[Any]]) -> Any:
    """The columns `sound` with some of them odd, in one of many containers; or something that is no table."""
    rows = draw.choice([0, 1, 2, 5, 24, 24, 24])
    columns: dict[Any, Any] = {name: (cells * 24)[:rows] for name, cells in sound.items()}
    for _ in range(draw.randint(0, 2)):
        name = draw.choice(list(columns))
        columns[name] = odd_column(draw, rows, sound.get(name, [1, 2]))
    if draw.random() < 0.25:
        columns[draw.choice(NAMES)] = odd_column(draw, rows, [1, 2, 3])
    if draw.random() < 0.05:
        columns.pop(draw.choice(list(columns)))
    return odd_source(draw, columns, rows)


def odd_source(draw: Random, columns: dict[Any, Any], rows: int) -> Any:
    """The columns in a dict, rows, a frame or an Arrow table, as far as it accepts them; sometimes something else."""
    kind = draw.randrange(20)
    if kind < 7:
        return columns
    if kind < 8:
        return {name: odd_cell(draw) for name in columns}
    lists = {name: list(values) if isinstance(values, list | tuple) else [1] * rows for name, values in columns.items()}
    records = [{name: cells[row] for name, cells in lists.items() if row < len(cells)} for row in range(rows)]
    if kind < 10:
        return records
    if kind == 10:
        return draw.choice(
            [tuple(records), iter(records), [*records, None], [*records, {1: 2}], [list(lists.values())]]
        )
    try:
        if kind < 14:
            frame = pd.DataFrame(columns if draw.random() < 0.5 else lists)
            return odd_frame(draw, frame)
        if kind == 14:
            plain = {str(name): [cell if type(cell) in (int, str) else None for cell in lists[name]] for name in lists}
            return pl.DataFrame(plain, strict=False)
        if kind < 17:
            table = pa.table({str(name): cells for name, cells in lists.items()})
            return draw.choice([table, table.to_reader(), *table.to_batches()[:1], table.slice(0, 0)])
    except Exception:  # noqa: BLE001  # the library does not accept these cells
        return columns
    return draw.choice([*CELLS, *ARGUMENTS, [columns, columns], {"one": columns, "other": columns}, {"train": lists}])


def odd_frame(draw: Random, frame: pd.DataFrame) -> Any:
    """A pandas frame with another index or other column names, its transpose, or one of its columns."""
    names = list(frame.columns)
    changed = [
        frame,
        frame.set_index(names[0]),
        frame.set_index(names[:2]),
        frame.T,
        frame.set_axis(range(len(names)), axis=1),
        frame.set_axis([names[0]] * len(names), axis=1),
        frame.set_axis(pd.MultiIndex.from_product([["a"], range(len(names))]), axis=1),
        frame.iloc[:0],
        frame.iloc[:, :0],
        frame[names[0]],
        frame.convert_dtypes(),
        frame.astype(object),
        frame.assign(band=pd.cut(range(len(frame)), 2) if len(frame) else None),
        frame.to_dict("records"),
        frame.to_numpy(),
        frame.groupby(names[0]),
    ]
    return draw.choice(changed)
