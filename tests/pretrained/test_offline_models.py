"""Saved models are complete: they load and predict in a new process without the checkpoint and without network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from laws.checkpoints import checkpoint
from laws.samples import FIXED, sample_table
from polymodal.model.model import Model
from polymodal.workflows.fit import fit

ROWS = 32
MODES = {
    "freeze": {},
    "last": {"num_layers": 1},
    "lora": {"num_layers": 2, "lora_rank": 2},
    "dora": {"lora_rank": 2},
    "full": {"gradient_checkpointing": True},
    "freeze int8": {"quantization": "int8"},
    "lora nf4": {"num_layers": 2, "lora_rank": 2, "quantization": "nf4"},
}
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
texts = json.loads(sys.argv[1])
print(json.dumps([Model.load(folder).predict_proba({"text": texts}).tolist() for folder in sys.argv[2:]]))
"""


def test_models_of_every_mode_load_without_checkpoint_or_network(tmp_path: Path) -> None:
    columns, recipe = sample_table(["text"], ["classification"], ROWS)
    model_folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint("text"), model_folder)
    settings = {
        "training": {**FIXED, "epochs": 2},
        "evaluation": {"bootstrap_samples": 20, "unimodal_scores": "none"},
        "hidden_size": 16,
    }
    expected = []
    for mode, options in MODES.items():
        recipe["inputs"]["in_text"]["encoder"] = {
            "name": "pretrained_text",
            "checkpoint": str(model_folder),
            "fine_tuning": mode.split()[0],
            **options,
        }
        model = fit(columns, recipe={**recipe, **settings}, out=tmp_path / mode)
        expected.append(model.predict_proba({"text": columns["text"]}))
    shutil.rmtree(model_folder)
    home = tmp_path / "home"
    home.mkdir()
    kept = {key: value for key, value in os.environ.items() if key in KEPT}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(columns["text"]), *(str(tmp_path / mode) for mode in MODES)],
        env={**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for mode, ours, theirs in zip(MODES, expected, found, strict=True):
        np.testing.assert_array_equal(np.array(theirs), ours, err_msg=mode)


@pytest.mark.parametrize("modality", ["image", "audio", "video"])
def test_other_modalities_load_without_their_checkpoint(modality: str, tmp_path: Path) -> None:
    columns, recipe = sample_table([modality], ["classification"], 24)
    model_folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint(modality), model_folder)
    recipe["inputs"][f"in_{modality}"]["encoder"] = {
        "name": f"pretrained_{modality}",
        "checkpoint": str(model_folder),
        "fine_tuning": "lora",
        "num_layers": 1,
    }
    settings = {
        "training": {**FIXED, "epochs": 2},
        "evaluation": {"bootstrap_samples": 20, "unimodal_scores": "none"},
        "hidden_size": 16,
    }
    model = fit(columns, recipe={**recipe, **settings}, out=tmp_path / "model")
    expected = model.predict_proba(columns)
    shutil.rmtree(model_folder)
    np.testing.assert_array_equal(Model.load(tmp_path / "model").predict_proba(columns), expected)


def test_training_changes_exactly_the_trainable_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    columns, recipe = sample_table(["text"], ["classification"], ROWS)
    settings = {
        "training": {**FIXED, "epochs": 2},
        "evaluation": {"bootstrap_samples": 20, "unimodal_scores": "none"},
        "hidden_size": 16,
    }
    original = load_file(Path(checkpoint("text")) / "model.safetensors")
    for mode, options in MODES.items():
        recipe["inputs"]["in_text"]["encoder"] = {
            "name": "pretrained_text",
            "checkpoint": checkpoint("text"),
            "fine_tuning": mode.split()[0],
            **options,
        }
        model = fit(columns, recipe={**recipe, **settings}, out=tmp_path / mode)
        encoder = model.network.encoders()["in_text"]
        now = {name.removeprefix("backbone.model."): value for name, value in encoder.state_dict().items()}
        now = {name.replace(".base_layer", ""): value for name, value in now.items()}
        moved = {name for name, value in original.items() if name in now and not bool((now[name] == value).all())}
        if mode.split()[0] in ("freeze", "lora", "dora"):
            assert not moved
        elif mode == "last":
            assert moved
            assert all(name.startswith("encoder.layer.2.") for name in moved)
        else:
            assert {name.split(".")[0] for name in moved} == {"embeddings", "encoder"}
        if mode.split()[0] in ("lora", "dora"):
            assert all(bool(value.abs().max() > 0) for name, value in now.items() if "lora_B" in name)
