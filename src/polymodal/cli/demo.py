"""The command `demo`: visual question answering on easy-VQA."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from polymodal.cli.options import Json, ModelOut, Overwrite, Settings
from polymodal.cli.training import print_run

if TYPE_CHECKING:
    from polymodal.model.model import Model


def demo(
    out: ModelOut = Path("runs/demo"), settings: Settings = None, overwrite: Overwrite = False, as_json: Json = False
) -> None:
    """Train a model on easy-VQA (image + question -> answer), score it, and write a model directory."""
    print_run(run_demo(out, settings, overwrite=overwrite, progress=not as_json), out, as_json)


def run_demo(out: Path, settings: list[str] | None = None, *, overwrite: bool = False, progress: bool = True) -> Model:
    """Train on easy-VQA with the recipe `easy_vqa` and write the model directory `out`."""
    from polymodal.datasets.easy_vqa import load_easy_vqa
    from polymodal.workflows.fit import fit
    from polymodal.workflows.run_folder import RunFolder

    RunFolder.from_arguments(out, False, overwrite)
    tables, root = load_easy_vqa()
    return fit(
        tables["train"],
        "answer",
        recipe="easy_vqa",
        settings=settings,
        test=tables["test"],
        root=root,
        out=out,
        overwrite=overwrite,
        progress=progress,
    )
