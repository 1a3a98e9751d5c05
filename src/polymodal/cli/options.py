"""Arguments and options shared by several commands, with names and help texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    str,
    typer.Argument(
        help="CSV, TSV, JSON, JSON lines, Parquet or Arrow file, a folder of Parquet files, or a folder of images, "
        "audio or videos in class folders."
    ),
]
TableOrRow = Annotated[
    str, typer.Argument(help='A table, or a row as JSON: \'{"image": "a.png", "question": "..."}\'.')
]
ModelDir = Annotated[Path, typer.Argument(help="A model directory written by `fit`.")]
ModelOut = Annotated[Path, typer.Option("--out", "-o", help="Model directory to write.")]

Target = Annotated[list[str] | None, typer.Option("--target", "-t", help="Column to predict; repeat for several.")]
AdditionalData = Annotated[
    list[str] | None, typer.Option("--additional-data", help="Additional table for the same run; repeat for several.")
]
Validation = Annotated[list[str] | None, typer.Option(help="Validation table; repeat for several. Default: split off.")]
Test = Annotated[
    list[str] | None, typer.Option(help="Test table for the final score; repeat for several. Default: split off.")
]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", "-r", help="Recipe file (YAML or JSON), or a name of `polymodal recipes`.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="Setting of a recipe key, such as training.epochs=5; repeat for several."),
]
Quality = Annotated[
    str | None,
    typer.Option("--quality", "-q", help="fast, balanced or best: which members are tried. Default: balanced."),
]
InitFrom = Annotated[
    Path | None, typer.Option("--init-from", help="Start from this saved model: preprocessing and weights.")
]
PreparedRows = Annotated[
    str | None, typer.Option("--prepared", help="Store of `polymodal prepare` for this table: no media are decoded.")
]
Resume = Annotated[bool, typer.Option(help="Continue the interrupted run in --out from its last checkpoint.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the directory --out, when the new one is complete.")
]
OverwriteFile = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file --out.")]
OverwriteReports = Annotated[bool, typer.Option("--overwrite", help="Replace existing files of the report.")]
Storage = Annotated[
    str | None,
    typer.Option(
        envvar="POLYMODAL_STORAGE",
        show_envvar=True,
        help="Database for the record of the trials, so that other machines can join: postgresql:// or mysql://.",
    ),
]
Folds = Annotated[int, typer.Option(min=2, help="Number of folds.")]

TextOutput = Annotated[str | None, typer.Option(help="Output to generate, if the model generates several.")]
Root = Annotated[
    Path | None, typer.Option(help="Folder that media paths are relative to. Default: the folder of the table.")
]
Strict = Annotated[bool, typer.Option(help="Stop at the first cell that cannot be used.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")]
