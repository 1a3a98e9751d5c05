"""The command that writes texts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from polymodal.cli.output import emit, grid, note


def generate(
    model_dir: Annotated[Path, typer.Argument(help="A model directory, as `fit` leaves it.")],
    data: Annotated[str, typer.Argument(help='A table, or a row as JSON: \'{"image": "a.png", "question": "..."}\'.')],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", "-s", help="KEY=VALUE of the options of writing, as beams=4; json_schema may name a file."
        ),
    ] = None,
    output: Annotated[str | None, typer.Option(help="The text to write, where the model writes several.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write, .jsonl: a line for each row with its texts.")
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print the text of one row while it is written.")] = False,
    root: Annotated[Path | None, typer.Option(help="Folder that media paths start from; default: the table's.")] = None,
    strict: Annotated[bool, typer.Option(help="Refuse the data at the first cell that cannot be used.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")
    ] = False,
) -> None:
    """Write texts for every row of a table, and tell how likely the model holds them."""
    from polymodal.core.errors import PolymodalError
    from polymodal.data.table.cell_errors import Faults
    from polymodal.model.loading import load
    from polymodal.model.model import Model

    if stream and (out is not None or as_json):
        raise typer.BadParameter(
            "a stream is shown as it is written; leave out --out and --json", param_hint="--stream"
        )
    if out is not None and out.suffix != ".jsonl":
        raise typer.BadParameter(f"texts are written as .jsonl, not as {out.suffix!r}", param_hint="--out")
    changes = writing_options(settings or [])
    model = load(model_dir)
    if not isinstance(model, Model):
        raise PolymodalError("texts are written by one model; name the directory of a member of the ensemble")
    inline = data.lstrip().startswith(("{", "["))
    table = model.open(data, root or (Path.cwd() if inline else None))
    if stream:
        for piece in model.stream_tokens(table, output=output, **changes):
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
        return
    faults = Faults(strict)
    found = _records(model.stream_texts(table, faults, output=output, **changes))
    if out is None:
        rows = list(found)
        value: dict[str, Any] = {"rows": len(rows), "texts": rows}
        lines = [{"row": one["row"], **text} for one in rows for text in one["texts"]]
        shown: list[Any] = [grid(lines)] if lines else []
    else:
        value = {"rows": write_lines(found, out), "out": str(out)}
        shown = [f"texts of {value['rows']} rows in {out}"]
    value["faults"] = [vars(fault) for fault in faults.found]
    emit(value, shown, as_json=as_json)
    for fault in faults.found[:10] if not as_json else []:
        note(f"row {fault.row}, column {fault.column}: {fault.reason}")
    if len(faults.found) > 10 and not as_json:
        note(f"and {len(faults.found) - 10} more cells that could not be used")


def writing_options(settings: list[str]) -> dict[str, Any]:
    """Options of `Writing` from KEY=VALUE: a regular expression as it stands, all others read as YAML.

    Raises:
        RecipeError: a setting has no `=`, its value cannot be read, or the file of a schema cannot.
    """
    from polymodal.core.errors import RecipeError
    from polymodal.recipe.overrides import apply_overrides

    regex = [one.partition("=")[2] for one in settings if one.partition("=")[0].strip() == "regex"]
    found = apply_overrides({}, [one for one in settings if one.partition("=")[0].strip() != "regex"])
    if regex:
        found["regex"] = regex[-1]
    schema = found.get("json_schema")
    if isinstance(schema, str):
        try:
            found["json_schema"] = json.loads(Path(schema).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RecipeError("json_schema", f"the file {schema!r} cannot be read: {error}") from None
    return found


def _records(blocks: Iterator[list[list[Any]]]) -> Iterator[dict[str, Any]]:
    """A JSON-ready record of each row: its number and its texts."""
    number = 0
    for block in blocks:
        for texts in block:
            shown = [{"text": t.text, "log_probability": t.log_probability, "ended": t.ended} for t in texts]
            yield {"row": number, "texts": shown}
            number += 1


def write_lines(records: Iterator[dict[str, Any]], path: Path) -> int:
    """Write records as lines; the file appears when it is complete."""
    from polymodal.checkpoint.model_directory import json_ready

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    count = 0
    with part.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(json_ready(record), ensure_ascii=False) + "\n")
            count += 1
    part.replace(path)
    return count
