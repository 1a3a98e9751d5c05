"""The command `weights`: the pretrained checkpoints that recipes can name, and their download."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from rich.console import RenderableType

from polymodal.cli.options import Json
from polymodal.cli.output import print_result
from polymodal.core.terminal import labeled_lines, make_console, plain_text

app = typer.Typer(help="List the pretrained weights, and download them.")

Modality = Literal["text", "image", "audio", "video"]


@app.callback(invoke_without_command=True)
def weights(context: typer.Context, as_json: Json = False) -> None:
    """List presets and starter weights with hub id, revision, license, size and local folder."""
    if context.invoked_subcommand is not None:
        return
    presets, starters = preset_rows(), starter_rows()
    shown: list[RenderableType] = [
        _weights_table(
            "Presets, downloaded on first use (--set pretrained=fast)", [_preset_cells(row) for row in presets]
        ),
        "",
        _weights_table(
            "Starter weights, from packages (--set pretrained=starter)", [_starter_cells(row) for row in starters]
        ),
    ]
    print_result({"presets": presets, "starter": starters}, shown, as_json=as_json)


@app.command()
def fetch(
    name: Annotated[
        str, typer.Argument(help="Preset, starter/NAME, hub id (owner/name, owner/name@revision) or folder.")
    ],
    modality: Annotated[Modality, typer.Option(help="The modality that it encodes.")],
    as_json: Json = False,
) -> None:
    """Download a checkpoint now, to work offline later."""
    from polymodal.pretrained.resolve import read_checkpoint_config, tokenizer_file, weights_folder

    card = read_checkpoint_config(name, modality)
    tokenizer = tokenizer_file(card) if modality == "text" else None
    folder = weights_folder(card)
    value = {
        "model": card.name,
        "source": card.source,
        "revision": card.revision or None,
        "license": card.license or None,
        "folder": str(folder),
        "tokenizer": str(tokenizer) if tokenizer else None,
    }
    lines = [("source", card.source), ("revision", card.revision), ("license", card.license or "not stated")]
    lines.append(("folder", str(folder)))
    print_result(value, [labeled_lines(pair for pair in lines if pair[1])], as_json=as_json)


def preset_rows() -> list[dict[str, Any]]:
    """All presets; `folder` is None if the weights are not on this machine."""
    from polymodal.pretrained.presets import all_presets
    from polymodal.pretrained.resolve import cached_weights

    return [
        {
            "modality": modality,
            "name": name,
            "model": one.model,
            "revision": one.revision,
            "license": one.license,
            "megabytes": one.megabytes,
            "parameters": one.parameters,
            "reads": one.input_format,
            "why": one.reason,
            "folder": cached_weights(one.model, one.revision or one.branch),
        }
        for modality, named in all_presets().items()
        for name, one in named.items()
    ]


def starter_rows() -> list[dict[str, Any]]:
    """All starter checkpoints: whether the package is installed, and whether the checksum was verified."""
    from polymodal.pretrained.starter.registry import STARTERS, is_verified, location

    rows: list[dict[str, Any]] = []
    for name, one in STARTERS.items():
        file = location(name)
        rows.append(
            {
                "modality": one.modality,
                "name": f"starter/{name}",
                "package": one.package,
                "sha256": one.sha256,
                "license": one.license,
                "megabytes": round(file.stat().st_size / 1e6) if file else None,
                "parameters": one.parameters,
                "what": one.description,
                "installed": file is not None,
                "checked": file is not None and is_verified(name, file),
                "file": str(file) if file else None,
            }
        )
    return rows


def _preset_cells(row: dict[str, Any]) -> tuple[list[str], str]:
    model = row["model"] if row["revision"] else f"{row['model']} (unverified)"
    state = "local" if row["folder"] else "hub"
    return [row["modality"], row["name"], str(row["megabytes"] or ""), row["license"], state], model


def _starter_cells(row: dict[str, Any]) -> tuple[list[str], str]:
    state = ("checked" if row["checked"] else "installed") if row["installed"] else "not installed"
    name = row["name"].removeprefix("starter/")
    return [row["modality"], name, str(row["megabytes"] or ""), row["license"], state], row["package"]


def _weights_table(title: str, rows: list[tuple[list[str], str]]) -> RenderableType:
    """A table of checkpoints; on a narrow terminal the source stands on a line of its own."""
    header = ["modality", "name", "MB", "license", "state"]
    widths = [max(len(line[column]) for line in (header, *(cells for cells, _ in rows))) for column in range(5)]
    wide = make_console().width >= sum(widths) + 10 + max(len(source) for _, source in rows)

    def line(cells: list[str]) -> str:
        sides = (">" if name == "MB" else "<" for name in header)
        return "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(cells, sides, widths, strict=True))

    text = plain_text(f"{title}\n")
    text.no_wrap = True
    text.stylize("bold")
    text.append(line(header) + ("  source" if wide else "") + "\n", "bold")
    for cells, source in rows:
        text.append(line(cells))
        text.append(("  " if wide else "\n    ") + source + "\n", "" if wide else "dim")
    text.rstrip()
    return text
