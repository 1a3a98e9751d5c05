"""A search whose trials read a store of prepared rows makes the choice that it makes from the table."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import polymodal
from laws.checkpoints import checkpoint
from polymodal.core.errors import DataError, RecipeError
from polymodal.data.table.table import open_table
from polymodal.experiments.stored_inputs import StoredInputs
from polymodal.preparation.prepared_store import PreparedStore
from polymodal.tuning.results import TuningResult

ROWS = 24
#: The pictures become features of a frozen checkpoint; the words are tokens of a vocabulary that each fold learns.
RECIPE: dict[str, Any] = {
    "inputs": {
        "picture": {"columns": ["picture"], "modality": "image"},
        "length": {"columns": ["length"], "modality": "number"},
        "words": {"columns": ["words"], "modality": "text", "encoder": "embedding_bag"},
    },
    "network": True,
    "members": [],
}
SETTINGS = [
    "training.epochs=1",
    "training.batch_size=8",
    "training.feature_cache.dtype=fp32",
    "training.num_threads=1",
    "hidden_size=8",
    "evaluation.bootstrap_samples=0",
]
SPACE = {"fusion": ["concat", "gated"]}


def write_table(folder: Path) -> Path:
    draw = np.random.default_rng(0)
    rows = []
    for row in range(ROWS):
        shade = 200 * (row % 2) + draw.integers(0, 40)
        Image.new("RGB", (8, 8), (int(shade), 0, 0)).save(folder / f"{row}.png")
        rows.append([f"{row}.png", row % 2 + draw.normal(), f"word{row % 5}", "yn"[row % 2]])
    (folder / "3.png").write_bytes(b"no picture")
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["picture", "length", "words", "kind"], *rows])
    return folder / "table.csv"


def scores(found: TuningResult) -> dict[str, bytes]:
    """The out-of-fold predictions of every trial, by its settings, and of every baseline, by its name."""
    return {
        f"{entry.overrides or entry.candidate.name}": entry.candidate.distributions["kind"].tobytes()
        for entry in found.entries
        if entry.candidate.kind in ("trial", "baseline")
    }


def test_the_choice_is_that_from_the_table_and_no_picture_is_read(tmp_path: Path) -> None:
    table = write_table(tmp_path)
    encoder = {"name": "pretrained_image", "checkpoint": checkpoint("image")}
    picture = {**RECIPE["inputs"]["picture"], "encoder": encoder}
    recipe = {**RECIPE, "inputs": {**RECIPE["inputs"], "picture": picture}}
    polymodal.prepare(table, "kind", out=tmp_path / "store", recipe=recipe, settings=SETTINGS, shard_rows=10)
    given: dict[str, Any] = {"settings": SETTINGS, "space": SPACE, "folds": 2, "trials": 2, "time_limit": None}
    plain = polymodal.tune(table, "kind", recipe=recipe, **given, out=tmp_path / "plain")
    for file in tmp_path.glob("*.png"):
        file.unlink()
    stored = polymodal.tune(
        table, "kind", recipe=recipe, **given, prepared=tmp_path / "store", jobs=2, out=tmp_path / "stored"
    )
    assert scores(stored) == scores(plain)
    assert len(scores(plain)) > 8
    assert any("linear: picture" in one.candidate.name for one in stored.entries)
    assert stored.best.score == plain.best.score
    weights = [load_file(tmp_path / name / "best" / "model.safetensors") for name in ("plain", "stored")]
    assert all(torch.equal(one, weights[1][name]) for name, one in weights[0].items())
    own = StoredInputs(PreparedStore.open(tmp_path / "store"), open_table(table, cache=tmp_path), None).search_recipe()
    assert own["inputs"]["picture"]["encoder"]["checkpoint"] == encoder["checkpoint"]
    assert own["inputs"]["words"].keys() == {"columns", "modality"}  # its encoder can be searched
    changed = {**recipe, "inputs": {**recipe["inputs"], "words": {"columns": ["words"], "modality": "category"}}}
    with pytest.raises(RecipeError, match="was prepared with 'text'") as raised:
        polymodal.tune(table, "kind", recipe=changed, **given, prepared=tmp_path / "store", out=tmp_path / "c")
    assert raised.value.path == "inputs.words.modality.name"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(DataError, match="holds the rows of another table"):
        polymodal.tune(table, "kind", **given, prepared=tmp_path / "store", out=tmp_path / "d")
