"""The filter language: conditions on kept columns, in a small strict part of Python's expressions.

    price < 10 and colour == 'red'
    year in (2023, 2024) or not sold
    1 <= rating <= 3 and note is not None
    'bus' in caption and column('unit price') > 2

The text is parsed, never run: only comparisons, `and`, `or`, `not`, names of columns, `column('any name')` and plain
values are known. A comparison with a missing value is neither true nor false, as in SQL, and a row whose condition is
not true is left out; `is None` finds the missing ones.
"""

from __future__ import annotations

import ast
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from polymodal.core.errors import DataError, did_you_mean

_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
}
_MAX_LENGTH, _MAX_DEPTH = 10_000, 50


def evaluate_filter(table: pa.Table, condition: str) -> np.ndarray:
    """The rows `[rows]` bool of `table` for which `condition` is true.

    Raises:
        DataError: the condition is not of the filter language, names no column of the table (the nearest is given),
            or compares what cannot be compared.
    """
    if len(condition) > _MAX_LENGTH:
        raise DataError(f"a condition has up to {_MAX_LENGTH:,} characters, not {len(condition):,}")
    try:
        tree = ast.parse(condition.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise DataError(f"the condition {condition!r} cannot be read: {reason}") from None
    try:
        found = _FilterEvaluator(table).where(tree, 0)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OverflowError) as error:
        raise DataError(f"the condition {condition!r} cannot be computed: {error}") from None
    return np.asarray(pc.fill_null(found, False), dtype=bool)


class _FilterEvaluator:
    """Conditions on the rows of one table, each as a column of true, false and unknown."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def where(self, node: ast.expr, depth: int) -> pa.ChunkedArray:
        if depth > _MAX_DEPTH:
            raise DataError(f"the condition is nested more than {_MAX_DEPTH} deep")
        if isinstance(node, ast.BoolOp):
            combine = pc.and_kleene if isinstance(node.op, ast.And) else pc.or_kleene
            found = self.where(node.values[0], depth + 1)
            for value in node.values[1:]:
                found = combine(found, self.where(value, depth + 1))
            return found
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return pc.invert(self.where(node.operand, depth + 1))
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            pairs = zip(sides, node.ops, sides[1:], strict=False)
            found = None
            for left, operator, right in pairs:
                one = self._compare(left, operator, right)
                found = one if found is None else pc.and_kleene(found, one)
            return found
        column = self._column(node)
        if column is None:
            raise DataError(f"{_text(node)} is not a condition; compare a column with a value, as in price < 10")
        if not pa.types.is_boolean(column.type):
            raise DataError(f"the column {_text(node)} holds {column.type}, not true or false; compare it with a value")
        return column

    def _compare(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> pa.ChunkedArray:
        if isinstance(operator, ast.Is | ast.IsNot):
            column = self._column(left)
            if column is None or not (isinstance(right, ast.Constant) and right.value is None):
                raise DataError("`is` finds missing values: COLUMN is None, COLUMN is not None")
            return pc.is_null(column) if isinstance(operator, ast.Is) else pc.is_valid(column)
        if isinstance(operator, ast.In | ast.NotIn):
            found = self._within(left, right)
            return found if isinstance(operator, ast.In) else pc.invert(found)
        one, other = self._column(left), self._column(right)
        if one is not None:
            sides = [one, _scalar(right, one.type, left) if other is None else other]
        elif other is not None:
            sides = [_scalar(left, other.type, right), other]
        else:
            raise DataError(f"{_text(left)} is compared with {_text(right)}; one of them must be a column")
        return pc.call_function(_COMPARE[type(operator)], sides)

    def _within(self, left: ast.expr, right: ast.expr) -> pa.ChunkedArray:
        """`COLUMN in (values)`, or `'text' in COLUMN`."""
        text = self._column(right)
        if text is not None:
            if not (isinstance(left, ast.Constant) and isinstance(left.value, str) and pa.types.is_string(text.type)):
                raise DataError(
                    f"only a text can be sought in a column, and only in one of texts: 'bus' in {_text(right)}"
                )
            return pc.match_substring(text, left.value)
        column = self._column(left)
        if column is None or not isinstance(right, ast.Tuple | ast.List | ast.Set):
            raise DataError("`in` takes a column and values: colour in ('red', 'blue')")
        values = [_scalar(one, column.type, left) for one in right.elts]
        kind = _common(column.type, values)
        chosen = pa.array([value.as_py() for value in values], kind)
        return pc.if_else(
            pc.is_valid(column), pc.is_in(column.cast(kind), value_set=chosen), pa.scalar(None, pa.bool_())
        )

    def _column(self, node: ast.expr) -> pa.ChunkedArray | None:
        """The column that `node` names, None if it is something else."""
        if isinstance(node, ast.Name):
            name = node.id
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "column":
            if node.keywords or len(node.args) != 1 or not isinstance(node.args[0], ast.Constant):
                raise DataError("column('unit price') takes the name of one column")
            name = str(node.args[0].value)
        else:
            return None
        if name not in self.table.column_names:
            hint = did_you_mean(name, self.table.column_names)
            raise DataError(f"the condition names {name!r}, which is no kept column; {hint}")
        return self.table[name]


def _common(kind: pa.DataType, values: list[pa.Scalar]) -> pa.DataType:
    """A type in which a column of `kind` and `values` can be compared."""
    if pa.types.is_floating(kind) or any(pa.types.is_floating(value.type) for value in values):
        return pa.float64()
    return pa.int64() if pa.types.is_integer(kind) and not pa.types.is_uint64(kind) else kind


def _scalar(node: ast.expr, kind: pa.DataType, column: ast.expr) -> pa.Scalar:
    """The plain value of `node`, to be compared with a column of `kind`."""
    value = _constant(node)
    types = pa.types
    if types.is_boolean(kind):
        fits, wanted = isinstance(value, bool), "True or False"
    elif types.is_integer(kind) or types.is_floating(kind):
        fits, wanted = isinstance(value, int | float) and not isinstance(value, bool), "a number"
    elif types.is_string(kind):
        fits, wanted = isinstance(value, str), "a text in quotes"
    elif types.is_temporal(kind):
        fits, wanted = isinstance(value, str), "a time in quotes, as '2024-05-31'"
    else:
        raise DataError(f"the column {_text(column)} holds {kind}, which conditions cannot compare")
    if not fits:
        raise DataError(f"the column {_text(column)} holds {kind}; compare it with {wanted}, not with {_text(node)}")
    return pa.scalar(value).cast(kind) if types.is_temporal(kind) else pa.scalar(value)


def _constant(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        value = node.operand.value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return -value
    if isinstance(node, ast.Constant) and node.value is None:
        raise DataError("a missing value is found with `is None`, not by comparing with None")
    raise DataError(f"{_text(node)} is neither a column nor a plain value; conditions know nothing else")


def _text(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 60 else text[:57] + "..."
