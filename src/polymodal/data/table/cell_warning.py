"""The warning about cells that could not be used."""

from __future__ import annotations

import warnings

from polymodal.data.table.cell_errors import Fault


class BadCellsWarning(UserWarning):
    """Some cells could not be used and counted as missing; the message lists the first."""


def warn_of_faults(found: list[Fault]) -> None:
    """Warn of cells that could not be used, if there are any; the message lists the first."""
    if found:
        first = "; ".join(f"row {f.row}, column {f.column!r}: {f.reason}" for f in found[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        text = f"{len(found)} cells could not be used and count as missing: {first}{more}"
        warnings.warn(text, BadCellsWarning, stacklevel=3)
