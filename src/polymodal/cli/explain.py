"""The command `explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import RenderableType

from polymodal.cli.options import Json, ModelDir, OverwriteReports, Root, Strict, TableOrRow
from polymodal.cli.output import print_note, print_result, rows_table
from polymodal.core.terminal import labeled_lines

if TYPE_CHECKING:
    from polymodal.explanation.input_contributions import InputContributions
    from polymodal.explanation.row_explanations import Explanations

Method = Literal["occlusion", "shapley", "integrated_gradients", "gradient_x_input"]

#: Parts of a row that are printed.
TOP_PARTS = 5


def explain(
    model_dir: ModelDir,
    data: TableOrRow,
    input: Annotated[
        str | None,
        typer.Option(
            "--input", "-i", help="Explain the parts of this input. Default: how much each input contributes."
        ),
    ] = None,
    method: Annotated[Method | None, typer.Option(help="With --input. Default: occlusion.")] = None,
    output: Annotated[str | None, typer.Option(help="Output to explain. Default: the first.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Class, label or column to explain. Default: the predicted class of each row.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for explanations.html and explanations.json.")
    ] = None,
    overwrite: OverwriteReports = False,
    root: Root = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Explain predictions: the contribution of each input, or of the words, regions or columns of one input."""
    from polymodal.checkpoint.output_file import check_reports, paths_in
    from polymodal.model.model import Model
    from polymodal.report.explanations import FILES, explanation_record, write_explanations

    if input is None and method is not None:
        raise typer.BadParameter("it scores the parts of one input; add --input", param_hint="--method")
    if overwrite and out is None:
        raise typer.BadParameter("--overwrite replaces files in --out; add --out", param_hint="--overwrite")
    if out is not None:
        check_reports(out, FILES, overwrite=overwrite, inputs=paths_in(str(model_dir), data))
    model = Model.load(model_dir)
    table = model.open(data, root)
    found: InputContributions | Explanations
    if input is None:
        found = model.contributions(table, output=output, target=target, strict=strict)
        shown = _contributions_table(found)
    else:
        found = model.explain(
            table, input=input, method=method or "occlusion", output=output, target=target, strict=strict
        )
        shown = _parts_tables(found)
    for note in () if as_json else found.notes:
        print_note(note)
    if out is not None:
        write_explanations(out, found, table.name)
        shown += ["", labeled_lines([("report", str(out / FILES[1]))])]
    print_result({"explanations": explanation_record(found)}, shown, as_json=as_json)


def _contributions_table(found: InputContributions) -> list[RenderableType]:
    rows = [
        {"input": one.input, "share": f"{one.share:.0%}", "mean size": one.mean_absolute, "mean": one.mean}
        for one in found.means()
    ]
    unit = found.scale.replace("_", "-")
    return [rows_table(rows, f"contributions to {found.output} ({unit}), {len(found):,} rows")]


def _parts_tables(found: Explanations) -> list[RenderableType]:
    rows = [
        {
            "row": one.row,
            "explained": str(one.target),
            "parts": "  ".join(f"{label} {score:+.3g}" for label, score in one.top(TOP_PARTS)),
        }
        for one in found
    ]
    gains = [
        {
            "removed parts are": gain.imputation.replace("_", " "),
            "gain": gain.mean,
            "standard error": gain.standard_error,
        }
        for gain in found.gains
    ]
    tables = [rows_table(rows, f"parts of {found.input}")] if rows else ["no row has this input"]
    return [*tables, *(["", rows_table(gains, "gain over random orders of the parts")] if gains else [])]
