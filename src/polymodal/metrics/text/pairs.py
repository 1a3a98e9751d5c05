"""A written text beside its references, row by row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from polymodal.core.errors import DataError


def pairs(distribution: np.ndarray, truth: np.ndarray) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The text and the references of every row; no answer (None) is the empty text.

    distribution: object array `[rows]` of str or None
    truth: object array `[rows]` of tuples of str

    Raises:
        DataError: a row has no reference, so that nothing can be said about its text.
    """
    for row, (text, references) in enumerate(zip(distribution, truth, strict=True)):
        if not references:
            raise DataError("there is no reference to compare the text with: leave this row out", row=row)
        yield text or "", references
