"""Text on the terminal: one look for notes, errors, tables and labeled lines.

Color and widths follow the terminal: `NO_COLOR` turns color off, and a file or a pipe gets plain text. Only this module
makes texts for the terminal (`plain_text`), so that no cell, label or file name can send it control characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from polymodal.core.formatting import escape_controls, is_number

#: Columns with cells up to this length are not wrapped if the terminal is wide enough. Minimum width of other columns.
SHORT_CELL, MIN_WRAPPED = 18, 10
#: Control characters that stay in a text of several lines.
_LINES = "\n\t"


def make_console(*, stderr: bool = False) -> Console:
    """The console of standard output or standard error. It prints texts as they are, without markup."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def plain_text(text: str, style: str = "", *, keep: str = _LINES) -> Text:
    """A text for the terminal in one style: control characters are escaped, and nothing in it is markup.

    keep: control characters that stay
    """
    return Text(escape_controls(text, keep), style)


def print_labeled(console: Console, label: str, text: str, style: str) -> None:
    """Print `label  text`: on a terminal, the text is wrapped in a column of its own; in a file, it is one line."""
    if console.is_terminal:
        line = Table.grid(padding=(0, 2, 0, 0))
        line.add_column(no_wrap=True, style=style)
        line.add_column(overflow="fold")
        line.add_row(label, plain_text(text))
        console.print(line)
    else:
        console.print(plain_text(f"{label}  {text}"), soft_wrap=True)


def plain_table(title: str = "") -> Table:
    """An empty table in the package's style: a rule below the header, and no other lines."""
    return Table(
        title=plain_text(title, "bold") if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        header_style="bold",
        show_edge=False,
        padding=(0, 1, 0, 0),
    )


def cells_table(header: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> RenderableType:
    """A table of short cells and texts. Numbers are aligned right. Only columns of long texts are wrapped.

    A table whose short columns are wider than the terminal is shown as one block of `name  value` lines per row.
    """
    header = [escape_controls(name, _LINES) for name in header]
    cells = [[escape_controls(cell, _LINES) for cell in row] for row in rows]
    columns = list(zip(*cells, strict=True)) if cells else [() for _ in header]
    longest = [max(map(len, [name, *column])) for name, column in zip(header, columns, strict=True)]
    narrowest = [width if width <= SHORT_CELL else SHORT_CELL for width in longest]
    room = make_console().width - sum(narrowest) - 2 * (len(header) - 1)
    widest = max(narrowest, default=0)
    if cells and room < 0 and widest + room < MIN_WRAPPED:
        return _blocks(header, cells)
    wrapped = SHORT_CELL if room >= 0 else widest - 1
    table = plain_table(title)
    for name, column, width in zip(header, columns, longest, strict=True):
        table.add_column(
            plain_text(name),
            justify="right" if column and all(map(_is_number, column)) and any(column) else "left",
            no_wrap=width <= wrapped,
            overflow="fold",
        )
    for row in cells:
        table.add_row(*map(plain_text, row))
    return table


def labeled_lines(pairs: Iterable[tuple[str, str]]) -> Table:
    """Lines of `label  text` with the texts below each other."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for label, text in pairs:
        grid.add_row(plain_text(label), plain_text(text))
    return grid


def _blocks(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, max_width=30, overflow="ellipsis", style="bold")
    grid.add_column(overflow="fold")
    for number, row in enumerate(rows):
        if number:
            grid.add_row("", "")
        for name, cell in zip(header, row, strict=True):
            grid.add_row(plain_text(name), plain_text(cell))
    return grid


def _is_number(cell: Any) -> bool:
    text = cell.replace(",", "").removesuffix("%").strip()
    return text in ("", "–") or is_number(text)
