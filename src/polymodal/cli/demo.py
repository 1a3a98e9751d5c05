"""The command `demo`: visual question answering on easy-VQA."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from polymodal.cli.options import Json, ModelOut, Settings
from polymodal.cli.training import print_run

if TYPE_CHECKING:
    from polymodal.model.model import Model


def demo(out: ModelOut = Path("runs/demo"), settings: Settings = None, as_json: Json = False) -> None:
    """Train a model on easy-VQA (image + question -> answer), score it, and write a model directory."""
    print_run(run_demo(out, settings, progress=not as_json), out, as_json)


def run_demo(out: Path, settings: list[str] | None = None, *, progress: bool = True) -> Model:
    """Train on easy-VQA with the recipe `easy_vqa` and write the model directory `out`, which is replaced."""
    from polymodal.datasets.easy_vqa import load_easy_vqa
    from polymodal.workflows.fit import fit

    tables, root = load_easy_vqa()
    return fit(
        tables["train"],
        "answer",
        recipe="easy_vqa",
        settings=settings,
        test=tables["test"],
        root=root,
        out=out,
        overwrite=out.exists(),
        progress=progress,
    )
