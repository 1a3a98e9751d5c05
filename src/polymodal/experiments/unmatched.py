"""Why no modality reads a column."""

from __future__ import annotations

import numbers

import numpy as np

from polymodal.data.table.cell_kinds import MAX_EXACT_INTEGER
from polymodal.data.table.sample import ColumnSample
from polymodal.modalities.number import looks_like_row_id
from polymodal.modalities.text import looks_like_identifiers

_REMEDY = "to use them, list the column in `inputs` with a modality"


def why_unmatched(sample: ColumnSample) -> str:
    """The reason that a plan gives for a column that no modality matches.

    Example:
        >>> codes = [f"A-{number:04}" for number in range(40)]
        >>> why_unmatched(ColumnSample("code", codes, None, rows=40, sampled=40, nulls=0, root=None))
        "identifiers such as 'A-0000', which differ in nearly every row"
    """
    values = sample.values
    if all(isinstance(value, str) for value in values) and looks_like_identifiers(list(values)):
        return f"identifiers such as {values[0]!r}, which differ in nearly every row"
    if all(isinstance(value, numbers.Real) and not isinstance(value, bool) for value in values):
        if looks_like_row_id(sample, np.array([float(value) for value in values])):
            return f"whole numbers such as {values[0]} that differ in every row, like row numbers or keys; {_REMEDY}"
        if any(isinstance(value, numbers.Integral) and abs(int(value)) > MAX_EXACT_INTEGER for value in values):
            return f"whole numbers such as {values[0]}, which have too many digits for a number and do not repeat"
    return "no modality matches its values"
