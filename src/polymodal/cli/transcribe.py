"""The command that writes down long sounds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from polymodal.cli.generate import write_lines, writing_options
from polymodal.cli.output import emit, grid, note


def transcribe(
    model_dir: Annotated[Path, typer.Argument(help="A model directory, as `fit` leaves it.")],
    data: Annotated[str, typer.Argument(help='A table, or a row as JSON: \'{"sound": "talk.wav"}\'.')],
    window: Annotated[
        float | None, typer.Option(help="Most seconds written at once; default: 28, or what the model reads.")
    ] = None,
    input: Annotated[str | None, typer.Option(help="The input with the sounds, where there are several.")] = None,
    output: Annotated[str | None, typer.Option(help="The text to write, where the model writes several.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="KEY=VALUE of the options of writing, as beams=4.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write, .jsonl: a line for each row with its segments.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder that media paths start from; default: the table's.")] = None,
    strict: Annotated[bool, typer.Option(help="Refuse the data at the first cell that cannot be used.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")
    ] = False,
) -> None:
    """Write down sounds of any length, and the sound of clips, in parts with their times."""
    from polymodal.core.errors import PolymodalError
    from polymodal.data.table.cell_errors import Faults
    from polymodal.model.loading import load
    from polymodal.model.model import Model
    from polymodal.model.transcription import transcribe as run

    if out is not None and out.suffix != ".jsonl":
        raise typer.BadParameter(f"segments are written as .jsonl, not as {out.suffix!r}", param_hint="--out")
    model = load(model_dir)
    if not isinstance(model, Model):
        raise PolymodalError("texts are written by one model; name the directory of a member of the ensemble")
    inline = data.lstrip().startswith(("{", "["))
    table = model.open(data, root or (Path.cwd() if inline else None))
    faults = Faults(strict)
    changes = writing_options(settings or [])
    found = run(model.predictor, table, faults, input=input, output=output, window=window, **changes)
    rows = [{"row": row, "segments": [asdict(segment) for segment in segments]} for row, segments in enumerate(found)]
    value: dict[str, Any] = {"rows": len(rows)}
    if out is None:
        value["transcripts"] = rows
        lines = [
            {"row": row, "start": f"{one.start:.1f}", "end": f"{one.end:.1f}", "text": one.text}
            for row, segments in enumerate(found)
            for one in segments
        ]
        shown: list[Any] = [grid(lines)] if lines else []
    else:
        write_lines(iter(rows), out)
        value["out"] = str(out)
        shown = [f"transcripts of {len(rows)} rows in {out}"]
    value["faults"] = [vars(fault) for fault in faults.found]
    emit(value, shown, as_json=as_json)
    for fault in faults.found[:10] if not as_json else []:
        note(f"row {fault.row}, column {fault.column}: {fault.reason}")
