"""Output of commands: one JSON object on standard output with `--json`, otherwise text for people.

Results go to standard output. Notes, errors and progress go to standard error.
"""

from __future__ import annotations

import json
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer
from rich.console import Group, RenderableType

from polymodal.core.errors import PolymodalWarning
from polymodal.core.formatting import count_noun, escape_controls
from polymodal.core.terminal import cells_table, make_console, plain_text, print_labeled

if TYPE_CHECKING:
    from polymodal.checkpoint.output_file import OutputFile
    from polymodal.data.table.cell_errors import CellError

#: Cell errors that are printed one by one, and rows of a table.
MAX_CELL_ERRORS, MAX_ROWS = 10, 50


def print_result(
    value: dict[str, Any], shown: list[RenderableType], *, as_json: bool, then: Sequence[Sequence[str]] = ()
) -> None:
    """Print `value` as one JSON object, or `shown` for people, and `then` the commands to run next.

    then: the words of each command, without `polymodal`
    """
    if as_json:
        from polymodal.checkpoint.model_directory import json_ready

        _print_json(json_ready(value))
        return
    console = make_console()
    for part in shown:
        console.print(plain_text(part) if isinstance(part, str) else part)
    print_next(then)


def _print_json(value: Any) -> None:
    """Print a JSON object on one line. Control characters in its texts are written as JSON escape sequences."""
    text = json.dumps(value, ensure_ascii=False)
    sys.stdout.write(escape_controls(text, unicode_only=True) + "\n")


def print_next(commands: Sequence[Sequence[str]]) -> None:
    """Print the commands to run next; `commands` are the words of each, without `polymodal`."""
    console = make_console()
    if commands:
        console.print("\nnext", style="bold")
    for words in commands:
        console.print(plain_text(f"  polymodal {shell_line(words)}", "cyan", keep=""), soft_wrap=True)


def shell_line(words: Sequence[str]) -> str:
    """Words of a command line; those in capitals stand for what the user has to fill in and are not quoted."""
    return " ".join(word if word.isupper() else shlex.quote(word) for word in words)


def print_error(error: Exception, *, as_json: bool) -> None:
    """Print an error: as a JSON object on standard output, or as text on standard error."""
    if as_json:
        _print_json({"error": str(error), "kind": type(error).__name__})
        return
    print_labeled(make_console(stderr=True), "error", str(error), "bold red")


def print_note(text: str) -> None:
    """Print a note on standard error."""
    print_labeled(make_console(stderr=True), "note", escape_controls(text), "yellow")


def print_cell_errors(errors: Sequence[CellError], *, as_json: bool, then: str = "") -> None:
    """Print the first cells that could not be used, one on each line.

    then: the consequence for their rows
    """
    if as_json:
        return
    for error in errors[:MAX_CELL_ERRORS]:
        print_note(f"row {error.row}, column {error.column}: {error.reason}{then}")
    if len(errors) > MAX_CELL_ERRORS:
        print_note(f"{count_noun(len(errors) - MAX_CELL_ERRORS, 'more cell')} could not be used")


def show_warnings_as_notes() -> None:
    """Show the warnings of Polymodal as notes, without the line of code that raised them."""
    usual = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, PolymodalWarning):
            print_note(str(message))
        else:
            usual(message, category, filename, lineno, file, line)

    warnings.showwarning = show


def rows_table(rows: Sequence[dict[str, Any]], title: str = "") -> RenderableType:
    """Rows as a table, the first 50 of them."""
    cells = [[format_cell(cell) for cell in row.values()] for row in rows[:MAX_ROWS]]
    table = cells_table(list(rows[0]), cells, title)
    if len(rows) <= MAX_ROWS:
        return table
    return Group(table, f"and {count_noun(len(rows) - MAX_ROWS, 'more row')}; write all of them to a file with --out")


def separated(parts: Sequence[RenderableType]) -> list[RenderableType]:
    """The parts with an empty line between each two."""
    return [line for part in parts for line in ("", part)][1:]


def scores_table(scores: dict[str, dict[str, Any]], title: str = "") -> RenderableType:
    """Scores by output and metric: value, interval, baseline, and the score of each single input."""
    from polymodal.report.model_summary import ScoreRow
    from polymodal.report.score_table import scores_table

    rows = {
        output: [ScoreRow.from_dict(metric, found) for metric, found in metrics.items()]
        for output, metrics in scores.items()
    }
    return scores_table(rows, title)


def format_cell(value: Any) -> str:
    """A cell for people: four significant digits of a float, an empty text for None."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def output_file(
    out: Path | None, overwrite: bool, inputs: Sequence[Any], *, what: str = "", endings: Sequence[str] = ()
) -> OutputFile | None:
    """The file --out, checked before the work begins; None without --out.

    inputs: the arguments of the command that may be paths
    what, endings: what is written, and the suffixes that it may have

    Raises:
        typer.BadParameter: the suffix is not one of `endings`, or --overwrite is set without --out.
        OutputError: the file may not be written.
    """
    from polymodal.checkpoint.output_file import OutputFile, paths_in
    from polymodal.data.objects import ObjectPath

    if out is None:
        if overwrite:
            raise typer.BadParameter("there is no file to replace; give --out", param_hint="--overwrite")
        return None
    if ObjectPath.parse(str(out)) is not None:
        raise typer.BadParameter(f"only shards are written to an address, and {out} is one", param_hint="--out")
    if endings and out.suffix not in endings:
        raise typer.BadParameter(
            f"{what} are written as {' or '.join(endings)}, not as {out.suffix!r}", param_hint="--out"
        )
    found = OutputFile(out, overwrite, paths_in(*inputs))
    found.check()
    return found


@contextmanager
def open_text(out: OutputFile) -> Iterator[TextIO]:
    """A text file to write; it gets its name when it is complete. Its folder is created."""
    with out.writing() as part, part.open("w", encoding="utf-8", newline="") as file:
        yield file


def write_jsonl(records: Iterator[dict[str, Any]], out: OutputFile) -> int:
    """Write records as lines of JSON; returns their number."""
    from polymodal.checkpoint.model_directory import json_ready

    count = 0
    with open_text(out) as file:
        for record in records:
            file.write(json.dumps(json_ready(record), ensure_ascii=False) + "\n")
            count += 1
    return count
