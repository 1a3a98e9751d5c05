"""What commands print and write: one JSON object on standard output with `--json`, else text for people."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from polymodal.data.table.cell_errors import Fault

#: Faults that are told one by one.
MOST_FAULTS = 10


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


def tell_faults(faults: Sequence[Fault], *, as_json: bool, then: str = "") -> None:
    """Cells that could not be used, one in a line; `then` is what became of their rows."""
    if as_json:
        return
    for fault in faults[:MOST_FAULTS]:
        note(f"row {fault.row}, column {fault.column}: {fault.reason}{then}")
    if len(faults) > MOST_FAULTS:
        note(f"and {len(faults) - MOST_FAULTS} more cells that could not be used")


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


def check_ending(out: Path | None, what: str, *endings: str) -> None:
    """Raises typer.BadParameter where `what` cannot be written to a file of that name."""
    if out is not None and out.suffix not in endings:
        raise typer.BadParameter(
            f"{what} are written as {' or '.join(endings)}, not as {out.suffix!r}", param_hint="--out"
        )


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A text file to write; it appears under its name when it is complete. Its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", newline="") as file:
        yield file
    part.replace(path)


def write_lines(records: Iterator[dict[str, Any]], path: Path) -> int:
    """Write records as lines of JSON, and say how many they were."""
    from polymodal.checkpoint.model_directory import json_ready

    count = 0
    with whole_file(path) as file:
        for record in records:
            file.write(json.dumps(json_ready(record), ensure_ascii=False) + "\n")
            count += 1
    return count
