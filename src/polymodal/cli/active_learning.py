"""The command `active-learning`: the rows that are most worth a label."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from polymodal.cli.options import Json, OverwriteFile, Root, Strict
from polymodal.cli.output import open_text, output_file, print_cell_errors, print_note, print_result, rows_table
from polymodal.core.formatting import count_noun

if TYPE_CHECKING:
    from polymodal.checkpoint.output_file import OutputFile

By = Literal["mixed", "margin", "entropy", "least_confident", "committee", "badge", "coreset", "typical"]


def active_learning(
    model_dir: Annotated[Path, typer.Argument(help="A model or ensemble directory.")],
    data: Annotated[str, typer.Argument(help="The table to choose from; rows with a target are skipped.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Number of rows to choose.")] = 20,
    strategy: Annotated[By, typer.Option(help="How rows are chosen; typical suits the very first labels.")] = "mixed",
    output: Annotated[str | None, typer.Option(help="Output to label, if the model has several.")] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target", "-t", help="Column that is filled in labeled rows. Default: the column of the output."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write, .jsonl or .csv, with row, score and reason.")
    ] = None,
    overwrite: OverwriteFile = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    root: Root = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Choose the unlabeled rows of a table that are most worth a label, with a score and a reason for each."""
    import warnings

    from polymodal.applications.active_learning.suggest import suggest as run
    from polymodal.data.table.cell_errors import BadCellsWarning

    file = output_file(out, overwrite, [data], what="suggestions", endings=(".jsonl", ".csv"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BadCellsWarning)  # they are printed below
        found = run(
            model_dir, data, count, strategy=strategy, output=output, target=target, seed=seed, root=root, strict=strict
        )
    rows = [asdict(one) for one in found]
    value = {**asdict(found), "suggestions": rows}
    shown = [rows_table(rows)]
    if file is not None:
        _write(rows, file)
        value["out"] = str(out)
        shown = [f"{count_noun(len(rows), 'row')} in {out}"]
    print_result(value, shown, as_json=as_json)
    if as_json:
        return
    if len(found) < count:
        pool = count_noun(found.pool_size, "unlabeled row")
        print_note(f"only {len(found)} of {count} rows: all others of the {pool} are near-duplicates of these")
    if found.num_duplicates:
        print_note(f"skipped {count_noun(found.num_duplicates, 'near-duplicate')} of the chosen rows")
    print_cell_errors(found.cell_errors, as_json=as_json, then="; its row was skipped")


def _write(rows: list[dict[str, object]], out: OutputFile) -> None:
    """Write the rows."""
    import csv
    import json

    with open_text(out) as file:
        if out.path.suffix == ".jsonl":
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, ["row", "score", "reason"])
            writer.writeheader()
            writer.writerows(rows)
