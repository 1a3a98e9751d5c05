"""The arguments and options that several commands take: each with its names and its help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    str,
    typer.Argument(
        help="CSV, TSV, JSON lines, Parquet or Arrow file, or a folder of images, sounds or clips in class folders."
    ),
]
TableOrRow = Annotated[
    str, typer.Argument(help='A table, or a row as JSON: \'{"image": "a.png", "question": "..."}\'.')
]
ModelDir = Annotated[Path, typer.Argument(help="A model directory, as `fit` leaves it.")]
ModelOut = Annotated[Path, typer.Option("--out", "-o", help="Model directory to write.")]

Target = Annotated[list[str] | None, typer.Option("--target", "-t", help="Column to predict; repeat for several.")]
More = Annotated[list[str] | None, typer.Option("--with", help="Another table of the same run; repeat for more.")]
Valid = Annotated[list[str] | None, typer.Option(help="Table for validation, repeat for several; default: split off.")]
Test = Annotated[
    list[str] | None, typer.Option(help="Table for the final score, repeat for several; default: split off.")
]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", "-r", help="Recipe file, YAML or JSON, or the name of a shipped one.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="KEY=VALUE on top of the recipe, as training.epochs=5.")
]
From = Annotated[
    Path | None, typer.Option("--from", help="Model directory to go on from: its inputs, their weights and all else.")
]
Resume = Annotated[bool, typer.Option(help="Go on from the checkpoint of a killed run in --out.")]
Overwrite = Annotated[bool, typer.Option(help="Replace the model directory --out.")]
Folds = Annotated[int, typer.Option(min=2, help="Number of folds.")]

TextOutput = Annotated[str | None, typer.Option(help="The text to write, where the model writes several.")]
Root = Annotated[Path | None, typer.Option(help="Folder that media paths start from; default: that of the table.")]
Strict = Annotated[bool, typer.Option(help="Refuse the data at the first cell that cannot be used.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")]
