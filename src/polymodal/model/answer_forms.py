"""Predictions in the form of the rows: pandas in, pandas out with its index; the same for polars and Arrow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

#: The packages whose frames are answered with their own columns and frames.
PACKAGES = ("pandas", "polars", "pyarrow")


def package_of_frame(data: Any) -> str:
    """The package of a pandas or polars frame or an Arrow table; empty for other rows.

    Example:
        >>> import pyarrow
        >>> package_of_frame(pyarrow.table({"x": [1]})), package_of_frame({"x": [1]})
        ('pyarrow', '')
    """
    package = type(data).__module__.partition(".")[0]
    return package if package in PACKAGES and hasattr(data, "columns") else ""


def shaped_values(data: Any, answers: Mapping[str, list[Any]]) -> Any:
    """The predicted values of each output for the rows `data`.

    A pandas frame gives a Series with its index, a polars frame a Series, an Arrow table an array, each of one output;
    with several outputs, a frame or table with a column for each. Other rows give a list, or a dict of lists.
    """
    package = package_of_frame(data)
    if not package:
        return next(iter(answers.values())) if len(answers) == 1 else dict(answers)
    columns = {name: _column(package, data, name, values) for name, values in answers.items()}
    return next(iter(columns.values())) if len(columns) == 1 else _frame(package, data, [*columns], [*columns.values()])


def shaped_probabilities(data: Any, found: Mapping[str, np.ndarray], labels: Mapping[str, list[Any]]) -> Any:
    """The probabilities or numbers of each output, `[rows, k]`: an array, or a frame with a column for each of the
    labels, in the form of the rows `data`; with several outputs, a dict of them.

    The names of columns are the labels themselves in pandas, and their texts in polars and Arrow. Distributions that
    are no table (of events in time) stay arrays.
    """
    package = package_of_frame(data)
    shaped: dict[str, Any] = {}
    for name, array in found.items():
        own = labels[name]
        if not package or array.ndim != 2 or array.shape[1] != len(own):
            shaped[name] = array
            continue
        keys = own if package == "pandas" else [str(one) for one in own]
        shaped[name] = _frame(package, data, keys, list(array.T))
    return next(iter(shaped.values())) if len(shaped) == 1 else shaped


def _column(package: str, data: Any, name: str, values: list[Any]) -> Any:
    if package == "pandas":
        import pandas

        return pandas.Series(values, index=data.index, name=name, dtype=object if _is_nested(values) else None)
    if package == "polars":
        import polars

        return polars.Series(name, values, strict=False)
    import pyarrow

    return pyarrow.array(values)


def _frame(package: str, data: Any, names: list[Any], columns: list[Any]) -> Any:
    if package == "pandas":
        import pandas

        return pandas.DataFrame(dict(zip(names, columns, strict=True)), index=data.index)
    if package == "polars":
        import polars

        return polars.DataFrame(columns, schema=names, orient="col")
    import pyarrow

    return pyarrow.table(columns, names=names)


def _is_nested(values: list[Any]) -> bool:
    """Whether some answers are lists or mappings, such as labels or events."""
    return any(isinstance(value, list | tuple | dict) for value in values)
