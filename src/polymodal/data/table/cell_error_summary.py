"""The commonest reasons of unusable cells in one sentence, with counts, rows and cells."""

from __future__ import annotations

import re
from collections.abc import Sequence

from polymodal.core.formatting import count_noun, truncate
from polymodal.data.table.cell_errors import CellError

#: Reasons of a sentence, and examples of a reason.
MAX_REASONS, MAX_EXAMPLES = 3, 3
#: The parts of a reason that differ from cell to cell: quoted cells, and numbers.
_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|-?(?:inf\b|\d[\d.,]*)")


def summarize_reasons(errors: Sequence[CellError], empty: int = 0) -> str:
    """The commonest reasons, most frequent first, with the number of cells and the first rows of each.

    empty: number of further cells that are empty

    >>> summarize_reasons([CellError(row, "photo", "the file does not exist", f"{row}.png") for row in (2, 5)], empty=1)
    "2 cells: the file does not exist (row 2: '2.png', row 5: '5.png'); 1 cell is empty"
    """
    groups: dict[str, list[CellError]] = {}
    for error in errors:
        groups.setdefault(_VARYING.sub("", error.reason.partition("; the nearest")[0]), []).append(error)
    ranked = sorted(groups.values(), key=len, reverse=True)
    parts = [f"{count_noun(len(group), 'cell')}: {group[0].reason} ({_examples(group)})" for group in ranked]
    if len(ranked) > MAX_REASONS:
        rest = sum(len(group) for group in ranked[MAX_REASONS:])
        parts[MAX_REASONS:] = [f"{count_noun(rest, 'cell')}: other reasons"]
    if empty:
        parts.append(f"{count_noun(empty, 'cell')} {'is' if empty == 1 else 'are'} empty")
    return "; ".join(parts)


def _examples(group: Sequence[CellError]) -> str:
    shown = [f"row {one.row}" + (f": {truncate(one.file, 80)!r}" if one.file else "") for one in group[:MAX_EXAMPLES]]
    return ", ".join(shown) + (", ..." if len(group) > MAX_EXAMPLES else "")
