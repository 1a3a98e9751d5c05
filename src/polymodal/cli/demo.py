"""The demonstration: visual question answering on easy-VQA, from the official split to a scored, saved model."""

from __future__ import annotations

from pathlib import Path

from polymodal.datasets.easy_vqa import load_easy_vqa
from polymodal.model.model import Model
from polymodal.workflows.fit import fit


def run_demo(out: Path, settings: list[str] | None = None, *, progress: bool = True) -> Model:
    """Train on easy-VQA by the shipped recipe and leave the model directory in `out`, which is replaced."""
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
