"""Law 9: a saved model is a folder of plain files, and predicts without network, home or cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from laws.samples import FIXED, sample_table
from polymodal.workflows.fit import fit

ROWS = 32
SUFFIXES = {".safetensors", ".json", ".jsonl", ".yaml", ".md", ".html"}
#: Variables by which the other process finds its programs, and computes with the same instructions.
KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")
SCRIPT = """
import json, socket, sys
class Refused(socket.socket):
    def __init__(self, *arguments, **named):
        raise AssertionError("the network was asked for")
socket.socket = socket.create_connection = socket.getaddrinfo = Refused
import torch
torch.set_num_threads(1)
from polymodal.model.model import Model
model = Model.load(sys.argv[1])
found = model.predict_proba(json.loads(sys.argv[2]), root=sys.argv[3])
print(json.dumps({name: values.tolist() for name, values in found.items()}))
"""


def test_loads_and_predicts_with_everything_else_gone(tmp_path: Path) -> None:
    columns, recipe = sample_table(
        ["text", "image", "number", "category"], ["classification", "regression", "text_generation"], ROWS
    )
    for row, image in enumerate(columns["image"]):
        image.save(tmp_path / f"{row}.png")
    columns["image"] = [f"{row}.png" for row in range(ROWS)]
    settings = {
        "training": {**FIXED, "epochs": 1},
        "evaluation": {"bootstrap_samples": 20, "unimodal_scores": "mask"},
        "hidden_size": 16,
    }
    folder = tmp_path / "model"
    model = fit(columns, recipe={**recipe, **settings}, root=tmp_path, out=folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= SUFFIXES
    assert not [path for path in files if path.read_bytes()[:2] in (b"PK", b"\x80\x02", b"\x80\x04")]  # zip, pickle

    read = {name: columns[name] for name in model.preparation.input_columns}
    home = tmp_path / "home"
    home.mkdir()
    kept = {key: value for key, value in os.environ.items() if key in KEPT}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), json.dumps(read), str(tmp_path)],
        env={**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for name, values in model.predict_proba(columns, root=tmp_path).items():
        np.testing.assert_array_equal(np.array(found[name]), values)
