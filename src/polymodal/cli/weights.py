"""`polymodal weights`: the checkpoints that recipes can name, and preparing a machine for work offline."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from polymodal.cli.options import Json
from polymodal.cli.output import emit, grid, narrow

app = typer.Typer(help="List presets and starter weights of pretrained encoders, and fetch them.")

Modality = Literal["text", "image", "audio", "video"]


@app.callback(invoke_without_command=True)
def weights(context: typer.Context, as_json: Json = False) -> None:
    """List presets and starter weights: hub id, revision, licence, size, and where they lie."""
    if context.invoked_subcommand is not None:
        return
    presets, starters = preset_rows(), starter_rows()
    shown = [
        "[bold]Presets[/bold], fetched from the hub when first used (--set pretrained=fast)",
        grid([_short(row) for row in presets]),
        "",
        "[bold]Starter weights[/bold], which packages carry (--set pretrained=starter)",
        grid([_short(row) for row in starters]),
    ]
    emit({"presets": presets, "starter": starters}, shown, as_json=as_json)


@app.command()
def fetch(
    name: Annotated[
        str, typer.Argument(help="Preset, starter/NAME, hub id (owner/name, owner/name@revision) or folder.")
    ],
    modality: Annotated[Modality, typer.Option(help="What it is to read.")],
    as_json: Json = False,
) -> None:
    """Fetch a checkpoint now, so that everything with it works offline later."""
    from polymodal.pretrained.source import read_card, tokenizer_file, weights_folder

    card = read_card(name, modality)
    tokenizer = tokenizer_file(card) if modality == "text" else None
    folder = weights_folder(card)
    value = {
        "model": card.model,
        "source": card.source,
        "revision": card.revision or None,
        "licence": card.licence or None,
        "folder": str(folder),
        "tokenizer": str(tokenizer) if tokenizer else None,
    }
    at = f" at {card.revision}" if card.revision else ""
    emit(value, [f"{card.source}{at}, licence {card.licence or 'not stated'}, in {folder}"], as_json=as_json)


def preset_rows() -> list[dict[str, Any]]:
    """Every preset; `folder` is None where its weights are not on this machine."""
    from polymodal.pretrained.presets import all_presets
    from polymodal.pretrained.source import found_weights

    return [
        {
            "modality": modality,
            "name": name,
            "model": one.model,
            "revision": one.revision,
            "licence": one.licence,
            "megabytes": one.megabytes,
            "parameters": one.parameters,
            "reads": one.reads,
            "why": one.why,
            "folder": found_weights(one.model, one.revision or one.branch),
        }
        for modality, named in all_presets().items()
        for name, one in named.items()
    ]


def starter_rows() -> list[dict[str, Any]]:
    """Every starter checkpoint, whether its package is installed, and whether its weights were found to be right."""
    from polymodal.pretrained.starter.registry import STARTERS, checked, location

    rows: list[dict[str, Any]] = []
    for name, one in STARTERS.items():
        file = location(name)
        rows.append(
            {
                "modality": one.modality,
                "name": f"starter/{name}",
                "package": one.package,
                "sha256": one.sha256,
                "licence": one.licence,
                "megabytes": round(file.stat().st_size / 1e6) if file else None,
                "parameters": one.parameters,
                "what": one.what,
                "installed": file is not None,
                "checked": file is not None and checked(name, file),
                "file": str(file) if file else None,
            }
        )
    return rows


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """What people want to see of a row."""
    facts = {"reads": row["modality"], "name": row["name"].removeprefix("starter/")}
    facts |= {"MB": row["megabytes"], "licence": row["licence"]}
    if "package" in row:
        state = ("checked" if row["checked"] else "installed") if row["installed"] else "not installed"
        return {**facts, "state": state, "package": row["package"]}
    model = row["model"] if row["revision"] else f"{row['model']} (unverified)"
    model = model.replace("/", "/\n") if narrow() else model
    return {**facts, "here": "yes" if row["folder"] else "no", "model": model}
