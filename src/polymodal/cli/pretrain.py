"""The command that trains without targets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polymodal.cli.finished import finished
from polymodal.cli.several import More, Test, Valid, one_or_more, with_more


def pretrain(
    data: Annotated[str, typer.Argument(help="A table as `fit` takes it; it needs no target.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Model directory to write.")],
    objective: Annotated[
        list[str] | None,
        typer.Option("--objective", help="What to learn, by name (polymodal list objective); repeat for several."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", "-r", help="Recipe file, YAML or JSON, or the name of a shipped one.")
    ] = None,
    start: Annotated[Path | None, typer.Option("--from", help="Model directory to go on from.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="KEY=VALUE on top of the recipe, as training.epochs=5.")
    ] = None,
    more: More = None,
    valid: Valid = None,
    test: Test = None,
    root: Annotated[Path | None, typer.Option(help="Folder that media paths start from; default: the table's.")] = None,
    strict: Annotated[bool, typer.Option(help="Refuse the data at the first cell that cannot be used.")] = False,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint of a killed run in --out.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace the model directory --out.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")
    ] = False,
) -> None:
    """Train a model on its inputs alone: what belongs together, what was masked. `fit --from` goes on from it."""
    from polymodal.workflows.fit import pretrain as run

    model = run(
        with_more(data, more),
        objective,
        recipe=recipe,
        settings=[*(settings or []), *(["data.strict=true"] if strict else [])],
        valid=one_or_more(valid),
        test=one_or_more(test),
        start=start,
        root=root,
        out=out,
        resume=resume,
        overwrite=overwrite,
        progress=not as_json,
    )
    finished(model, out, as_json)
