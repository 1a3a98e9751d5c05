"""Warnings that name the line of the user's program, however deep in the package they arise."""

from __future__ import annotations

import contextlib
import sys
import warnings
from pathlib import Path

from polymodal.core.formatting import escape_controls

_PASSED_OVER = (str(Path(__file__).parents[1]), contextlib.__file__)


def warn_caller(text: str, category: type[Warning]) -> None:
    """Issue a warning for the first line outside of Polymodal that led to this call; control characters are escaped.

    Example:
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_caller("two cells are bad", UserWarning)
        >>> str(caught[0].message)
        'two cells are bad'
    """
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PASSED_OVER):
        frame, level = frame.f_back, level + 1
    warnings.warn(escape_controls(text), category, stacklevel=level)
