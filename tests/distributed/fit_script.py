"""A training for the real launcher: `fit_script.py FOLDER KILLED_STEP [SHARDING]`. Process 1 is killed at this step,
once."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import polymodal
from polymodal.data.store.items import PreparedInput
from polymodal.data.store.store import MediaStore
from polymodal.data.store.writer import PreparedWriter
from polymodal.training.trainer import Trainer

RECIPE = {
    "inputs": {side: {"columns": [f"{side}{i}" for i in range(3)], "modality": "number"} for side in "ab"},
    "outputs": {"target": "classification"},
    "training": {
        "epochs": 3,
        "batch_size": 16,
        "save_steps": 2,
        "precision": "fp32",
        "num_threads": 1,
        "modality_dropout": 0.3,
    },
    "evaluation": {"bootstrap_samples": 0},
    "hidden_size": 8,
}


#: Without a directory.
BRIEF = {"training.epochs": 1, "training.save_steps": 500}


def table(rows: int = 96) -> dict[str, list[object]]:
    draw = np.random.default_rng(0)
    columns = {f"{side}{i}": draw.normal(size=rows).tolist() for side in "ab" for i in range(3)}
    return {**columns, "target": ["yes" if sign > 0 else "no" for sign in columns["a0"]]}


def decode_once() -> None:
    """One process of a machine prepares inputs and decodes media, and the others map what it has written."""
    decoded: list[bytes] = []
    appended: list[PreparedInput] = []
    ordinary, ordinary_append = MediaStore.add, PreparedWriter.append

    def append(self: PreparedWriter, block: PreparedInput) -> None:
        appended.append(block)
        ordinary_append(self, block)

    def add(self: MediaStore, keys: list[bytes], items: list[dict[str, np.ndarray]]) -> None:
        decoded.extend(keys)
        ordinary(self, keys, items)

    pictures = []
    for shade in range(40):
        encoded = io.BytesIO()
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(encoded, "PNG")
        pictures.append(encoded.getvalue())
    picture = {"columns": ["picture"], "modality": {"name": "image", "image_size": 32}}
    recipe = {**RECIPE, "inputs": {**RECIPE["inputs"], "picture": picture}}  # type: ignore[dict-item]
    MediaStore.add, PreparedWriter.append = add, append  # type: ignore[method-assign]
    polymodal.fit({**table(40), "picture": pictures}, recipe=recipe, settings=BRIEF)
    MediaStore.add, PreparedWriter.append = ordinary, ordinary_append  # type: ignore[method-assign]
    is_new = os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"
    expected = len(pictures) if is_new and os.environ["LOCAL_RANK"] == "0" else 0
    assert len(set(decoded)) == expected, (len(decoded), expected)
    assert bool(appended) == (os.environ["LOCAL_RANK"] == "0")


def main(folder: Path, killed: int, sharding: str = "none") -> None:
    ordinary = Trainer._step

    def step(self: Trainer, rows: np.ndarray) -> None:
        first = os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"
        if first and os.environ["RANK"] == "1" and self.history.steps == killed:
            os.kill(os.getpid(), signal.SIGKILL)
        ordinary(self, rows)

    Trainer._step = step  # type: ignore[method-assign]
    folder.with_name(f"started-{os.environ['RANK']}").touch()
    decode_once()  # a run before, with its own group
    model = polymodal.fit(table(), recipe=RECIPE, settings={"training.sharding": sharding}, out=folder)
    assert (folder / "model.safetensors").is_file()
    assert model.metrics["validation"]["target"]["accuracy"]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
