"""Conditions mean the same as in Python, row by row, and only conditions are accepted."""

from __future__ import annotations

import ast
import datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.applications.search.filter import evaluate_filter
from polymodal.core.errors import DataError

ROWS: list[dict[str, Any]] = [
    {"price": price, "color": color, "sold": sold, "unit price": other}
    for price in (None, -1, 0, 3, 10)
    for color in (None, "red", "blue bus")
    for sold in (None, True, False)
    for other in (None, 0.5, 3.0)
]
TABLE = pa.Table.from_pylist(ROWS)

SIGNS = ["<", "<=", ">", ">=", "==", "!="]
NUMBERS = st.sampled_from(["-1", "0", "3", "2.5", "10", "price", "column('unit price')"])
COMPARISONS = st.one_of(
    st.tuples(
        st.sampled_from(["price", "column('unit price')"]), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), NUMBERS
    ),
    st.tuples(st.just("color"), st.sampled_from(["==", "!=", "<"]), st.sampled_from(["'red'", "'blue bus'", "''"])),
    st.tuples(st.just("price"), st.sampled_from(["in", "not in"]), st.sampled_from(["(3, 10)", "[0.5, 3]", "(-1,)"])),
    st.tuples(st.sampled_from(["'bus'", "'e'"]), st.sampled_from(["in", "not in"]), st.just("color")),
    st.tuples(st.sampled_from(["price", "color", "sold"]), st.sampled_from(["is", "is not"]), st.just("None")),
    st.tuples(st.just("sold"), st.just("=="), st.sampled_from(["True", "False"])),
).map(" ".join)
CONDITIONS = st.recursive(
    st.one_of(COMPARISONS, st.just("sold"), st.just("-1 < price <= 3")),
    lambda inner: st.one_of(
        inner.map(lambda one: f"not ({one})"),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda one: f"({one[0]}) {one[1]} ({one[2]})"),
    ),
    max_leaves=6,
)


def truth(node: Any, row: dict[str, Any]) -> bool | None:
    """The condition for one row by the rules of three-valued logic, written independently and without columns."""
    if isinstance(node, ast.BoolOp):
        values = [truth(one, row) for one in node.values]
        decisive = isinstance(node.op, ast.Or)
        return decisive if decisive in values else None if None in values else not decisive
    if isinstance(node, ast.UnaryOp):
        value = truth(node.operand, row)
        return None if value is None else not value
    if isinstance(node, ast.Compare):
        names = {ast.unparse(one): one for one in [node.left, *node.comparators]}
        cells = {
            text: row["unit price"]
            if text.startswith("column")
            else row[text]
            if text in row
            else ast.literal_eval(one)
            for text, one in names.items()
        }
        if isinstance(node.ops[0], ast.Is | ast.IsNot):
            return (cells[ast.unparse(node.left)] is None) == isinstance(node.ops[0], ast.Is)
        if any(cell is None for cell in cells.values()):
            return None
        return bool(eval(ast.unparse(node), {"column": lambda name: row[name]}, dict(row)))
    return row[ast.unparse(node)]


@settings(max_examples=200, deadline=None)
@given(CONDITIONS)
def test_a_condition_finds_the_rows_for_which_it_is_true(condition: str) -> None:
    tree = ast.parse(condition, mode="eval").body
    assert evaluate_filter(TABLE, condition).tolist() == [truth(tree, row) is True for row in ROWS]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("prise < 3", "did you mean 'price'"),
        ("column('unit prise') < 3", "did you mean 'unit price'"),
        ("price < 'a'", "compare it with a number"),
        ("price == True", "compare it with a number"),
        ("color == 3", "compare it with a text"),
        ("sold == 1", "True or False"),
        ("price", "not boolean"),
        ("price == None", "is None"),
        ("1 < 2", "must be a column"),
        ("True", "is not a condition"),
        ("price <", "cannot be parsed"),
        ("", "cannot be parsed"),
        ("price < 3; sold", "cannot be parsed"),
        ("__import__('os').system('x') == 1", "neither a column|must be a column"),
        ("price.real < 3", "neither a column|must be a column"),
        ("price + 1 < 3", "must be a column"),
        ("color < price + 1", "neither"),
        ("(lambda: 1)() == price", "neither"),
        ("[x for x in price]", "not a condition"),
        ("price in color", "needs a text"),
        ("price in 3", "needs a column and a list"),
        ("column(price) < 3", "needs one column name"),
        ("column('price', x=1) < 3", "needs one column name"),
        ("price if sold else price", "not a condition"),
        ("(price := 3)", "not a condition"),
        ("price < 10**9", "neither"),
        ("price < " + "9" * 30, "cannot be evaluated"),
        ("not " * 200 + "sold", "nested|cannot be parsed"),
        ("sold or " * 3000 + "sold", "characters"),
        ("price is 3", "COLUMN is None"),
        ("price == 3 # and sold", "comment"),
    ],
)
def test_anything_else_is_refused(condition: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate_filter(TABLE, condition)


def test_times_and_unusual_types() -> None:
    day = datetime.date(2024, 5, 31)
    table = pa.table(
        {
            "day": [day, None, day + datetime.timedelta(1)],
            "small": pa.array([1, 200, None], pa.uint8()),
            "list": [[1], [2], None],
            "at": pa.array([0, 10**15, None], pa.timestamp("us")),
        }
    )
    assert evaluate_filter(table, "day == '2024-05-31'").tolist() == [True, False, False]
    assert evaluate_filter(table, "day in ('2024-06-01', '2024-06-02')").tolist() == [False, False, True]
    assert evaluate_filter(table, "at > '1999-12-31 23:00:00'").tolist() == [False, True, False]
    assert evaluate_filter(table, "small in (1, 300) or small > -5 and small != 200").tolist() == [True, False, False]
    for wrong in ("list == 1", "day < 'yesterday'", "day < 3"):
        with pytest.raises(DataError):
            evaluate_filter(table, wrong)
