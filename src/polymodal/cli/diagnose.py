"""The command `diagnose`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from polymodal.cli.options import Json, ModelDir, Root, Strict
from polymodal.cli.output import print_result, rows_table

#: Tests of drift that are printed.
MAX_TESTS = 20


def diagnose(
    model_dir: ModelDir,
    data: Annotated[Path, typer.Argument(help="A table with targets that the model was not trained on.")],
    reference: Annotated[
        Path | None, typer.Option(help="Also test whether the inputs have the distribution of this table.")
    ] = None,
    output: Annotated[str | None, typer.Option(help="Output whose slices are sought. Default: the first.")] = None,
    columns: Annotated[
        list[str] | None, typer.Option("--column", "-c", help="Seek slices of this column only; repeat for several.")
    ] = None,
    root: Root = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Find the rows in which a model is worse, and how a table differs from another."""
    from polymodal.model.model import Model

    model = Model.load(model_dir)
    found = model.slices(data, output=output, columns=columns or None, root=root, strict=strict)
    rows = [
        {
            "slice": one.name,
            "rows": one.rows,
            found.unit: one.loss,
            "elsewhere": one.loss_elsewhere,
            "corrected p-value": one.p_value,
        }
        for one in found
    ]
    looks = f"{found.looks} slices of {found.output!r} were tried"
    shown: list[RenderableType] = [rows_table(rows, looks) if rows else f"{looks}: in none is the model worse"]
    record: dict[str, Any] = {"slices": asdict(found)}
    if reference is not None:
        drift = model.drift(reference, data, root=root, strict=strict)
        record["drift"] = [asdict(one) for one in drift]
        tests = [
            {"column or input": one.name, "test": one.kind, "size": one.size, "corrected p-value": one.p_value}
            for one in drift[:MAX_TESTS]
        ]
        changed = len(drift.found)
        shown += ["", rows_table(tests, f"{changed} of {len(drift)} tests find a difference to {reference}")]
    print_result(record, shown, as_json=as_json)
