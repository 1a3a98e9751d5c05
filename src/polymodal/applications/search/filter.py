"""Filter conditions on metadata columns, in a small subset of Python expressions.

    price < 10 and color == 'red'
    year in (2023, 2024) or not sold
    1 <= rating <= 3 and note is not None
    'bus' in caption and column('unit price') > 2

The text is parsed, not executed. It may contain comparisons, `and`, `or`, `not`, column names, `column('any name')` and
literals. A comparison with a missing value is unknown (neither true nor false), as in SQL, and only rows whose
condition is true are selected. `is None` finds missing values.
"""

from __future__ import annotations

import ast
import io
import tokenize
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
    """`[rows]` bool, True for the rows of `table` that meet `condition`.

    Raises:
        DataError: the condition is invalid, contains an unknown column, or compares values of different types.

    Example:
        >>> import pyarrow as pa
        >>> table = pa.table({"price": [5, 20, None], "color": ["red", "red", "blue"]})
        >>> evaluate_filter(table, "price < 10 and color == 'red'").tolist()
        [True, False, False]
    """
    if len(condition) > _MAX_LENGTH:
        raise DataError(f"a condition may have at most {_MAX_LENGTH:,} characters, not {len(condition):,}")
    try:
        tree = ast.parse(condition.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise DataError(f"the condition {condition!r} cannot be parsed: {reason}") from None
    _refuse_comment(condition)
    try:
        mask = _FilterEvaluator(table).evaluate(tree, 0)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OverflowError) as error:
        raise DataError(f"the condition {condition!r} cannot be evaluated: {error}") from None
    return np.asarray(pc.fill_null(mask, False), dtype=bool)


def _refuse_comment(condition: str) -> None:
    """Raise DataError for a `#` outside of quotes: the parser would ignore all that follows it."""
    for token in tokenize.generate_tokens(io.StringIO(condition.strip()).readline):
        if token.type == tokenize.COMMENT:
            raise DataError(f"the condition {condition!r} has a comment: remove {token.string!r}, or quote it")


class _FilterEvaluator:
    """Evaluates conditions on the rows of one table to columns of true, false and null (unknown)."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def evaluate(self, node: ast.expr, depth: int) -> pa.ChunkedArray:
        if depth > _MAX_DEPTH:
            raise DataError(f"the condition is nested more than {_MAX_DEPTH} levels deep")
        if isinstance(node, ast.BoolOp):
            combine = pc.and_kleene if isinstance(node.op, ast.And) else pc.or_kleene
            result = self.evaluate(node.values[0], depth + 1)
            for value in node.values[1:]:
                result = combine(result, self.evaluate(value, depth + 1))
            return result
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return pc.invert(self.evaluate(node.operand, depth + 1))
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            pairs = zip(sides, node.ops, sides[1:], strict=False)
            result = None
            for left, operator, right in pairs:
                comparison = self._compare(left, operator, right)
                result = comparison if result is None else pc.and_kleene(result, comparison)
            return result
        column = self._column(node)
        if column is None:
            raise DataError(f"{_text(node)} is not a condition; compare a column with a value, as in price < 10")
        if not pa.types.is_boolean(column.type):
            raise DataError(
                f"the column {_text(node)} has the type {column.type}, not boolean; compare it with a value"
            )
        return column

    def _compare(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> pa.ChunkedArray:
        if isinstance(operator, ast.Is | ast.IsNot):
            column = self._column(left)
            if column is None or not (isinstance(right, ast.Constant) and right.value is None):
                raise DataError("`is` can only test for missing values: COLUMN is None, COLUMN is not None")
            return pc.is_null(column) if isinstance(operator, ast.Is) else pc.is_valid(column)
        if isinstance(operator, ast.In | ast.NotIn):
            result = self._within(left, right)
            return result if isinstance(operator, ast.In) else pc.invert(result)
        first, second = self._column(left), self._column(right)
        if first is not None:
            sides = [first, _scalar(right, first.type, left) if second is None else second]
        elif second is not None:
            sides = [_scalar(left, second.type, right), second]
        else:
            raise DataError(f"cannot compare {_text(left)} with {_text(right)}; one of them must be a column")
        return pc.call_function(_COMPARE[type(operator)], sides)

    def _within(self, left: ast.expr, right: ast.expr) -> pa.ChunkedArray:
        """`COLUMN in (values)`, or `'text' in COLUMN`."""
        text = self._column(right)
        if text is not None:
            if not (isinstance(left, ast.Constant) and isinstance(left.value, str) and pa.types.is_string(text.type)):
                raise DataError(
                    f"`in` with a column on the right needs a text and a text column: 'bus' in {_text(right)}"
                )
            return pc.match_substring(text, left.value)
        column = self._column(left)
        if column is None or not isinstance(right, ast.Tuple | ast.List | ast.Set):
            raise DataError("`in` needs a column and a list of values: color in ('red', 'blue')")
        values = [_scalar(element, column.type, left) for element in right.elts]
        kind = _common(column.type, values)
        value_set = pa.array([value.as_py() for value in values], kind)
        return pc.if_else(
            pc.is_valid(column), pc.is_in(column.cast(kind), value_set=value_set), pa.scalar(None, pa.bool_())
        )

    def _column(self, node: ast.expr) -> pa.ChunkedArray | None:
        """The column that `node` refers to; None if it is not a column."""
        if isinstance(node, ast.Name):
            name = node.id
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "column":
            if node.keywords or len(node.args) != 1 or not isinstance(node.args[0], ast.Constant):
                raise DataError("column(...) needs one column name: column('unit price')")
            name = str(node.args[0].value)
        else:
            return None
        if name not in self.table.column_names:
            hint = did_you_mean(name, self.table.column_names)
            raise DataError(f"the index has no metadata column {name!r}; {hint}")
        return self.table[name]


def _common(kind: pa.DataType, values: list[pa.Scalar]) -> pa.DataType:
    """A common type for comparing a column of type `kind` with `values`."""
    if pa.types.is_floating(kind) or any(pa.types.is_floating(value.type) for value in values):
        return pa.float64()
    return pa.int64() if pa.types.is_integer(kind) and not pa.types.is_uint64(kind) else kind


def _scalar(node: ast.expr, kind: pa.DataType, column: ast.expr) -> pa.Scalar:
    """The literal value of `node`, to compare with a column of type `kind`."""
    value = _constant(node)
    types = pa.types
    if types.is_boolean(kind):
        fits, expected = isinstance(value, bool), "True or False"
    elif types.is_integer(kind) or types.is_floating(kind):
        fits, expected = isinstance(value, int | float) and not isinstance(value, bool), "a number"
    elif types.is_string(kind):
        fits, expected = isinstance(value, str), "a text in quotes"
    elif types.is_temporal(kind):
        fits, expected = isinstance(value, str), "a time in quotes, as '2024-05-31'"
    else:
        raise DataError(f"the column {_text(column)} has the type {kind}, which conditions do not support")
    if not fits:
        raise DataError(
            f"the column {_text(column)} has the type {kind}; compare it with {expected}, not with {_text(node)}"
        )
    return pa.scalar(value).cast(kind) if types.is_temporal(kind) else pa.scalar(value)


def _constant(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        value = node.operand.value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return -value
    if isinstance(node, ast.Constant) and node.value is None:
        raise DataError("use `is None` to find missing values; a comparison with None is not supported")
    raise DataError(f"{_text(node)} is neither a column nor a literal; conditions support nothing else")


def _text(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 60 else text[:57] + "..."
