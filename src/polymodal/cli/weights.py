"""`polymodal weights`: the checkpoints that recipes can name, and preparing a machine for work offline."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from polymodal.cli.options import Json
from polymodal.cli.output import print_result
from polymodal.core.terminal import plain_table

app = typer.Typer(help="List presets and starter weights of pretrained encoders, and fetch them.")

Modality = Literal["text", "image", "audio", "video"]


@app.callback(invoke_without_command=True)
def weights(context: typer.Context, as_json: Json = False) -> None:
    """List presets and starter weights: hub id, revision, licence, size, and where they lie."""
    if context.invoked_subcommand is not None:
        return
    presets, starters = preset_rows(), starter_rows()
    shown: list[RenderableType] = [
        _weights_table("Presets, downloaded on first use (--set pretrained=fast)", [_preset_cells(row) for row in presets]),
        "",
        _weights_table("Starter weights, from packages (--set pretrained=starter)", [_starter_cells(row) for row in starters]),
    ]
    print_result({"presets": presets, "starter": starters}, shown, as_json=as_json)


@app.command()
def fetch(
    name: Annotated[
        str, typer.Argument(help="Preset, starter/NAME, hub id (owner/name, owner/name@revision) or folder.")
    ],
    modality: Annotated[Modality, typer.Option(help="What it is to read.")],
    as_json: Json = False,
) -> None:
    """Fetch a checkpoint now, so that everything with it works offline later."""
    from polymodal.pretrained.resolve import read_card, tokenizer_file, weights_folder

    card = read_card(name, modality)
    tokenizer = tokenizer_file(card) if modality == "text" else None
    folder = weights_folder(card)
    value = {
        "model": card.model,
        "source": card.source,
        "revision": card.revision or None,
        "license": card.licence or None,
        "folder": str(folder),
        "tokenizer": str(tokenizer) if tokenizer else None,
    }
    at = f" at {card.revision}" if card.revision else ""
    print_result(value, [f"{card.source}{at}, licence {card.licence or 'not stated'}, in {folder}"], as_json=as_json)


def preset_rows() -> list[dict[str, Any]]:
    """Every preset; `folder` is None where its weights are not on this machine."""
    from polymodal.pretrained.presets import all_presets
    from polymodal.pretrained.resolve import found_weights

    return [
        {
            "modality": modality,
            "name": name,
            "model": one.model,
            "revision": one.revision,
            "license": one.licence,
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
                "license": one.licence,
                "megabytes": round(file.stat().st_size / 1e6) if file else None,
                "parameters": one.parameters,
                "what": one.what,
                "installed": file is not None,
                "checked": file is not None and checked(name, file),
                "file": str(file) if file else None,
            }
        )
    return rows


def _preset_cells(row: dict[str, Any]) -> tuple[list[str], str]:
    model = row["model"] if row["revision"] else f"{row['model']} (unverified)"
    state = "downloaded" if row["folder"] else "not downloaded"
    return [row["modality"], row["name"], str(row["megabytes"] or ""), row["license"], state], model


def _starter_cells(row: dict[str, Any]) -> tuple[list[str], str]:
    state = ("checked" if row["checked"] else "installed") if row["installed"] else "not installed"
    name = row["name"].removeprefix("starter/")
    return [row["modality"], name, str(row["megabytes"] or ""), row["license"], state], row["package"]


def _weights_table(title: str, rows: list[tuple[list[str], str]]) -> Table:
    """A table of checkpoints; on a terminal that is too narrow for a line, the source stands below its name."""
    table = plain_table(title)
    for heading in ("modality", "name", "MB", "license", "state"):
        table.add_column(heading, justify="right" if heading == "MB" else "left", no_wrap=True)
    widest = sum(max(len(cells[column]) for cells, _ in rows) for column in range(5)) + 14
    wide = Console().width >= widest + max(len(source) for _, source in rows)
    if wide:
        table.add_column("source", no_wrap=True)
    for cells, source in rows:
        table.add_row(*cells, *([source] if wide else []))
        if not wide:
            table.add_row("", Text(source, style="dim"))
    return table
