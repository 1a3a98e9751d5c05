"""What commands print: one JSON object on standard output with `--json`, else text for people."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text


def emit(value: dict[str, Any], shown: list[RenderableType], *, as_json: bool) -> None:
    """Print `value` as one JSON object, or `shown` for people."""
    if as_json:
        from polymodal.checkpoint.model_directory import json_ready

        sys.stdout.write(json.dumps(json_ready(value), ensure_ascii=False) + "\n")
        return
    console = Console()
    for one in shown:
        console.print(one)


def fail(error: Exception, *, as_json: bool) -> None:
    """Print an error: as a JSON object on standard output, or as a short text on standard error."""
    if as_json:
        sys.stdout.write(json.dumps({"error": str(error), "kind": type(error).__name__}, ensure_ascii=False) + "\n")
        return
    Console(stderr=True).print(Text.assemble(("error  ", "bold red"), str(error)), soft_wrap=True)


def note(text: str) -> None:
    """A line beside the result, on standard error."""
    Console(stderr=True).print(Text.assemble(("note  ", "yellow"), text), soft_wrap=True)


def plain_warnings() -> None:
    """Show the warnings of Polymodal as notes, without the line of code that raised them."""
    package, usual = str(Path(__file__).parents[1]), warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, UserWarning) and filename.startswith(package):
            note(str(message))
        else:
            usual(message, category, filename, lineno, file, line)

    warnings.showwarning = show


def grid(rows: list[dict[str, Any]]) -> RenderableType:
    """Rows as a plain table, the first 50 of them."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows[:50]:
        table.add_row(*(Text(short(cell)) for cell in row.values()))
    if len(rows) <= 50:
        return table
    return Group(table, f"and {len(rows) - 50} more rows; write them all with --out")


def narrow() -> bool:
    """Whether the terminal is too narrow for long names beside other columns."""
    return Console().width < 110


def scores_grid(scores: dict[str, dict[str, Any]]) -> RenderableType:
    """Scores by output and metric: value, interval, the best constant answer, and each input alone."""
    return grid(
        [
            {
                "output": output,
                "metric": metric,
                "score": one["value"],
                "interval": f"{short(one['low'])} to {short(one['high'])}" if one["low"] is not None else "",
                "constant": one["majority"],
                **{f"{name} alone": value for name, value in (one.get("alone") or {}).items()},
            }
            for output, metrics in scores.items()
            for metric, one in metrics.items()
        ]
    )


def short(value: Any) -> str:
    """A cell for people: four digits of a number, nothing for None."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
