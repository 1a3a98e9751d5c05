"""The command that makes a trained model smaller."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polymodal.cli.output import emit, grid


def compress(
    model_dir: Annotated[Path, typer.Argument(help="A model directory, as `fit` leaves it.")],
    data: Annotated[str, typer.Argument(help="Rows with targets that were not trained on.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Model directory to write.")],
    form: Annotated[
        str | None, typer.Option(help="fp32, bf16, int8 or 'int8 arithmetic'; default: the best by measurement.")
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="How much score a smaller form may lose.")] = 0.005,
    root: Annotated[Path | None, typer.Option(help="Folder that media paths start from; default: the table's.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")
    ] = False,
) -> None:
    """Try smaller forms of a model on rows with targets, and write the best: size, latency and score side by side."""
    from polymodal.applications.compression import compress as run
    from polymodal.core.errors import PolymodalError
    from polymodal.model.loading import load
    from polymodal.model.model import Model

    model = load(model_dir)
    if not isinstance(model, Model):
        raise PolymodalError("an ensemble is made small by teaching one model: see training.distillation.teacher")
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
    emit({"out": str(out), **found.to_dict()}, [grid(rows), f"model {out}"], as_json=as_json)
