"""Small tables as HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def html_table(rows: Sequence[Sequence[str]], head: Sequence[str] = (), caption: str = "") -> str:
    """A table whose cells are texts; they are escaped. The first cell of each row is its header.

    Example:
        >>> html_table([["accuracy", "0.9 & more"]])
        '<table><tr><th scope="row">accuracy</th><td>0.9 &amp; more</td></tr></table>'
    """
    parts = [f"<caption>{escape(caption)}</caption>"] if caption else []
    if head:
        parts.append(f"<tr>{''.join(f'<th>{escape(one)}</th>' for one in head)}</tr>")
    for first, *others in rows:
        cells = "".join(f"<td>{escape(one)}</td>" for one in others)
        parts.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    return f"<table>{''.join(parts)}</table>"
