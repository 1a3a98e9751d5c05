"""The command that names the rows most worth a label."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from polymodal.cli.options import Json, Root, Strict
from polymodal.cli.output import check_suffix, print_result, rows_table, print_note, print_cell_errors, atomic_text_file

By = Literal["mixed", "margin", "entropy", "least_confident", "committee", "badge", "coreset", "typical"]


def suggest(
    model_dir: Annotated[Path, typer.Argument(help="A model or ensemble directory.")],
    data: Annotated[str, typer.Argument(help="The table to choose from; rows that have the target are passed over.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many rows to name.")] = 20,
    by: Annotated[By, typer.Option(help="How rows are chosen; typical for the first labels of all.")] = "mixed",
    output: Annotated[str | None, typer.Option(help="The output to ask about, where the model has several.")] = None,
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="Column that tells which rows are labelled; default: its own.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write, .jsonl or .csv: row, score and reason.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of draws and of clusters.")] = 0,
    root: Root = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Name the rows of a table that are most worth a label, each with a score and a reason."""
    import warnings

    from polymodal.applications.active_learning.suggest import suggest as run
    from polymodal.data.table.cell_errors import BadCellsWarning

    check_suffix(out, "suggestions", ".jsonl", ".csv")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BadCellsWarning)  # they are told below
        found = run(model_dir, data, count, by=by, output=output, target=target, seed=seed, root=root, strict=strict)
    rows = [asdict(one) for one in found]
    value = {**asdict(found), "chosen": rows}
    shown = [rows_table(rows)]
    if out is not None:
        _write(rows, out)
        value["out"] = str(out)
        shown = [f"{len(rows)} rows in {out}"]
    print_result(value, shown, as_json=as_json)
    if as_json:
        return
    if len(found) < count:
        print_note(f"{len(found)} of {count} rows: the {found.pool} rows without a label hold no more that differ")
    if found.alike:
        print_note(f"{found.alike} rows are almost the same as one of these and were passed over")
    print_cell_errors(found.faults, as_json=as_json, then="; its row was passed over")


def _write(rows: list[dict[str, object]], path: Path) -> None:
    """Write the rows."""
    import csv
    import json

    with atomic_text_file(path) as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, ["row", "score", "reason"])
            writer.writeheader()
            writer.writerows(rows)
