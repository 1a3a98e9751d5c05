"""The commands that make a model of trained ones: ensemble, compress."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from polymodal.cli.inputs import load_single_model
from polymodal.cli.options import Json, ModelDir, ModelOut, Root
from polymodal.cli.output import print_result, rows_table

CombineRule = Literal["average", "weighted", "vote", "product", "stack"]


def ensemble(
    members: Annotated[list[Path], typer.Argument(help="Model directories.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory to write.")],
    method: Annotated[CombineRule, typer.Option(help="How their decisions become one.")] = "average",
    data: Annotated[
        str | None, typer.Option(help="Held-out rows on which weighted, product and stack are fitted.")
    ] = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Combine separately trained models into one."""
    from polymodal.model.ensemble import ensemble as run

    run(list(members), method=method, data=data, root=root).save(out)
    text = f"{len(members)} models combined by {method} in {out}"
    print_result({"out": str(out), "members": [str(member) for member in members], "method": method}, [text], as_json=as_json)


def compress(
    model_dir: ModelDir,
    data: Annotated[str, typer.Argument(help="Rows with targets that were not trained on.")],
    out: ModelOut,
    form: Annotated[
        str | None, typer.Option(help="fp32, bf16, int8 or 'int8 arithmetic'; default: the best by measurement.")
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="How much score a smaller form may lose.")] = 0.005,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Try smaller forms of a model on rows with targets, and write the best: size, latency and score side by side."""
    from polymodal.applications.compression import compress as run

    model = load_single_model(model_dir, "an ensemble is made small by teaching one model: see training.distillation.teacher")
    found = run(model, data, form=form, tolerance=tolerance, root=root, out=out)
    rows = [
        {
            "form": one.form,
            "MiB": f"{one.size_mib:.2f}",
            "one row": f"{one.latency_ms:.2f} ms",
            "rows/s": f"{one.rows_per_second:,.0f}",
            found.metric: "" if one.score is None else f"{one.score:.4f}",
            "same answers": f"{one.agreement:.2%}",
            "": "chosen" if one.form == found.chosen else "",
        }
        for one in found.measured
    ]
    print_result({"out": str(out), **found.to_dict()}, [rows_table(rows), f"model {out}"], as_json=as_json)
