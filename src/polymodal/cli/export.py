"""The command `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from polymodal.cli.inputs import load_single_model
from polymodal.cli.options import Json, ModelDir, Overwrite, Root
from polymodal.cli.output import print_result
from polymodal.core.terminal import labeled_lines


def export(
    model_dir: ModelDir,
    data: Annotated[str, typer.Argument(help="Rows on which the export is compared with the model.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory to write.")],
    to: Annotated[Literal["onnx"], typer.Option("--to", help="The format.")] = "onnx",
    overwrite: Overwrite = False,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Write a model for another runtime, and check in a new process that it predicts the same."""
    from polymodal.export.onnx import export_onnx

    model = load_single_model(model_dir, "an ensemble cannot be exported; export one of its members")
    found = export_onnx(model, data, out, root=root, overwrite=overwrite)
    value = {"out": str(out), "format": to, "parity_rows": found.parity_rows, "gap": found.gap}
    shown = [
        ("graph", str(out / "model.onnx")),
        ("compared", f"{found.parity_rows} rows, largest difference {found.gap:.1g}"),
    ]
    print_result(value, [labeled_lines(shown)], as_json=as_json)
