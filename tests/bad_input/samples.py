"""A small audio table and a fast recipe. Each test breaks one part of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polymodal.datasets.planted import make_planted_images, make_planted_table
from polymodal.model.model import Model
from polymodal.workflows.fit import fit

Columns = dict[str, list[Any]]

ROWS = 40
QUICK: dict[str, Any] = {
    "hidden_size": 16,
    "training": {"epochs": 1, "batch_size": 8, "precision": "fp32", "num_threads": 1},
    "evaluation": {"bootstrap_samples": 0, "unimodal_scores": "none"},
}
TABLE = {"inputs": {"length": "number", "maker": "category"}}


def train(columns: Any, target: str = "grade", settings: list[str] | None = None, **options: Any) -> Model:
    """`fit` with the quick recipe."""
    recipe = {**QUICK, **options.pop("recipe", {})}
    return fit(columns, target, recipe=recipe, settings=settings, **options)


def table(rows: int = ROWS) -> Columns:
    return make_planted_table(rows, 0)


def pictures(folder: Path, rows: int = ROWS) -> Columns:
    """PNG files in `folder`, their paths and their shapes."""
    found = make_planted_images(rows, 0)
    for row, image in enumerate(found["image"]):
        image.save(folder / f"{row}.png")
    return {"image": [f"{row}.png" for row in range(rows)], "shape": found["shape"]}
