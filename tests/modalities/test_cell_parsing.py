"""Columns encoded as distinct values agree with their cells for every Arrow type."""

import pyarrow as pa
import pytest

from polymodal.modalities.cell_parsing import read_distinct

STRINGS = ["b", None, "a", "b", ""]
COLUMNS = [
    pa.array(STRINGS),
    pa.chunked_array([STRINGS[:2], STRINGS[2:]]),
    pa.chunked_array([pa.array(STRINGS[:3]).dictionary_encode(), pa.array(STRINGS[3:]).dictionary_encode()]),
    pa.chunked_array([], pa.string()),
    pa.array([], pa.dictionary(pa.int8(), pa.string())),
    pa.array([None, None]),
    pa.array([True, None, False]),
    pa.array([1.5, None, 1.5]),
    pa.array([[1], None, [2]]),
    pa.array([{"a": 1}, None]),
    pa.array([b"x", None], pa.large_binary()),
    pa.array(["b", "a"], pa.string_view()),
    STRINGS,
    [],
]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: str(getattr(column, "type", "list")))
def test_codes_and_values_give_the_cells_back(column):
    codes, values = read_distinct(column)
    cells = column.to_pylist() if isinstance(column, pa.Array | pa.ChunkedArray) else column
    assert [None if code < 0 else values[code] for code in codes] == cells
