"""The commands `ensemble` and `compress`, which make a model from trained models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from polymodal.cli.inputs import load_single_model
from polymodal.cli.options import Json, ModelDir, ModelOut, Overwrite, Root, Settings
from polymodal.cli.output import print_result, rows_table
from polymodal.core.formatting import count_noun
from polymodal.core.terminal import labeled_lines

if TYPE_CHECKING:
    from polymodal.applications.distillation import DistillationResult

CombineRule = Literal["average", "weighted", "vote", "product", "stack"]


def ensemble(
    members: Annotated[list[Path], typer.Argument(help="Model directories.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory to write.")],
    method: Annotated[CombineRule, typer.Option(help="How their predictions are combined.")] = "average",
    data: Annotated[
        str | None, typer.Option(help="Held-out labeled rows, to fit the methods weighted, product and stack.")
    ] = None,
    overwrite: Overwrite = False,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Combine separately trained models into one."""
    from polymodal.checkpoint.directory_kinds import ENSEMBLE
    from polymodal.checkpoint.output_directory import OutputDirectory
    from polymodal.checkpoint.output_file import paths_in
    from polymodal.model.ensemble import ensemble as run

    OutputDirectory(out, ENSEMBLE, overwrite, inputs=paths_in(*members, data)).check()
    run(list(members), method=method, data=data, root=root).save(out, overwrite=overwrite)
    text = f"{count_noun(len(members), 'model')} combined by {method} in {out}"
    print_result(
        {"out": str(out), "members": [str(member) for member in members], "method": method}, [text], as_json=as_json
    )


def compress(
    model_dir: ModelDir,
    data: Annotated[str, typer.Argument(help="Labeled rows that the model was not trained on.")],
    out: ModelOut,
    dtype: Annotated[
        str | None, typer.Option(help="fp32, bf16, int8_weight_only or int8_dynamic. Default: the best by measurement.")
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="Accepted loss of the leading score.")] = 0.005,
    into: Annotated[
        str | None,
        typer.Option(help="One small member that learns from the model: network, linear, gradient_boosting or kernel."),
    ] = None,
    train: Annotated[str | None, typer.Option(help="With --into: rows to train on, also without targets.")] = None,
    settings: Settings = None,
    overwrite: Overwrite = False,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Write a model in a smaller number format, or with --into as one small member, with its size, time and score."""
    from polymodal.applications.compression import compress as run
    from polymodal.checkpoint.directory_kinds import MODEL
    from polymodal.checkpoint.output_directory import OutputDirectory
    from polymodal.checkpoint.output_file import paths_in

    OutputDirectory(out, MODEL, overwrite, inputs=paths_in(model_dir, data, train)).check()
    if into is not None:
        if train is None:
            raise typer.BadParameter("give the rows that the member is trained on", param_hint="--train")
        from polymodal.applications.distillation import distill

        given: dict[str, Any] = {"settings": settings, "root": root, "out": out, "overwrite": overwrite}
        _print_distilled(distill(model_dir, train, data, into=into, **given), out, as_json)
        return
    if train is not None or settings:
        raise typer.BadParameter(
            "it needs --into, the member that is trained", param_hint="--train" if train else "--set"
        )
    model = load_single_model(
        model_dir, "compress takes one model; distill an ensemble into one model with training.distillation.teacher"
    )
    found = run(model, data, dtype=dtype, tolerance=tolerance, root=root, out=out, overwrite=overwrite)
    rows = [
        {
            "dtype": one.dtype,
            "MiB": f"{one.size_mib:.2f}",
            "one row": f"{one.latency_ms:.2f} ms",
            "rows/s": f"{one.rows_per_second:,.0f}",
            found.metric: "" if one.score is None else f"{one.score:.4f}",
            "same predictions": f"{one.agreement:.2%}",
            "": "chosen" if one.dtype == found.chosen else "",
        }
        for one in found.measurements
    ]
    print_result(
        {"out": str(out), **found.to_dict()},
        [rows_table(rows), "", labeled_lines([("model", str(out))])],
        as_json=as_json,
    )


def _print_distilled(found: DistillationResult, out: Path, as_json: bool) -> None:
    """Show what a small member loses and gains."""
    rows = [
        {
            "": name,
            "MiB": f"{one.size_mib:.2f}",
            "one row": f"{one.latency_ms:.2f} ms",
            "rows/s": f"{one.rows_per_second:,.0f}",
            found.metric: "" if one.score is None else f"{one.score:.4f}",
            "same predictions": f"{one.agreement:.2%}",
        }
        for name, one in (("teacher", found.teacher), (found.member, found.student))
    ]
    paths = labeled_lines([("model", str(out))])
    print_result({"out": str(out), **found.to_dict()}, [rows_table(rows), "", paths], as_json=as_json)
