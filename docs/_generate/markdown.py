"""Plain text and docstrings as Markdown."""

from __future__ import annotations

import inspect
import re
from typing import Any

from pydantic import BaseModel


def escaped(text: str) -> str:
    """Text outside of code spans without `<` and `|`, which Markdown reads as HTML and as the border of a cell."""
    parts = text.split("`")
    for index in range(0, len(parts), 2):
        parts[index] = parts[index].replace("<", "&lt;").replace("|", "&#124;")
    return "`".join(parts)


def table_cell(text: str) -> str:
    """Text as one cell of a table. A `|` inside of a code span needs a backslash there, and only there."""
    parts = " ".join(text.split()).split("`")
    for index in range(1, len(parts), 2):
        parts[index] = parts[index].replace("|", "\\|")
    return escaped("`".join(parts))


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a table. The cells are Markdown already."""
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def first_sentence(documented: Any) -> str:
    """The first sentence of a docstring without citations, as one table cell."""
    paragraph = " ".join(inspect.cleandoc(documented.__doc__ or "").split("\n\n")[0].split())
    uncited = re.sub(r" \([^()]*\b(19|20)\d\d\b[^()]*\)", "", paragraph)
    sentence = re.split(r"(?<=[.!?])\s+(?=[A-Z`])", uncited)[0]
    return table_cell(re.sub(r":$", ".", sentence))


def docstring(documented: Any) -> str:
    """A docstring as Markdown. Indented formulas stay blocks of code; arguments and `Raises:` become lists; the
    doctests below `Example:` become a fenced block."""
    lines: list[str] = []
    names, in_item, in_example = _argument_names(documented), False, False
    for line in inspect.cleandoc(documented.__doc__ or "").splitlines():
        if in_example and (line.startswith("    ") or not line):
            lines.append(line[4:])
            continue
        if in_example:
            lines, in_example = _closed(lines), False
        before, colon, after = line.partition(": ")
        if line in ("Example:", "Examples:"):
            lines, in_example, in_item = [*_ended(lines), f"**{line[:-1]}**", "", "```pycon"], True, False
        elif line == "Raises:":
            lines, in_item = [*_ended(lines), "**Raises**", ""], True
        elif in_item and (lines[-1] == "" or re.match(r"    ([A-Z]\w+(, )?)+: ", line)):
            lines.append(f"- {line.strip()}")
        elif in_item and line.startswith("    "):
            lines[-1] += f" {line.strip()}"
        elif colon and names and set(before.split(", ")) <= names:
            lines, in_item = [*(lines if in_item else _ended(lines)), f"- **{before}**: {after}"], True
        else:
            lines, in_item = [*lines, line], False
    if in_example:
        lines = _closed(lines)
    return "\n".join(_escaped_lines(lines)).rstrip()


def _escaped_lines(lines: list[str]) -> list[str]:
    """The lines, escaped outside of code blocks. `_closed` writes the only fences."""
    escaped_lines, in_fence = [], False
    for line in lines:
        in_fence = line.startswith("```pycon") or (in_fence and line != "```")
        is_code = in_fence or line == "```" or line.startswith("    ")
        escaped_lines.append(line if is_code else escaped(line))
    return escaped_lines


def _closed(lines: list[str]) -> list[str]:
    """The lines of an open fenced block without blank lines at its end, and its closing fence."""
    while lines[-1] == "":
        lines = lines[:-1]
    return [*lines, "```", ""]


def _ended(lines: list[str]) -> list[str]:
    """The lines with one blank line at the end, which Markdown wants before a list."""
    return lines if not lines or lines[-1] == "" else [*lines, ""]


def _argument_names(documented: Any) -> set[str]:
    """The names that a docstring may describe in lines `name: text`: parameters, and the fields of a class."""
    if isinstance(documented, property | classmethod):
        documented = getattr(documented, "__func__", None)
    if documented is None or (inspect.isclass(documented) and issubclass(documented, BaseModel | Exception)):
        return set()
    if not inspect.isclass(documented) and not inspect.isfunction(documented):
        return set()
    return set(inspect.signature(documented).parameters) | set(getattr(documented, "__annotations__", {}))
