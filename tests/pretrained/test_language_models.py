"""Models that write with a pretrained language model: trained, saved, read without the checkpoint, converted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

import polymodal
from laws.lm_checkpoints import language_model
from polymodal.errors import RecipeError
from polymodal.model import Model
from polymodal.pretrained import weights
from polymodal.pretrained.card import Card
from polymodal.pretrained.language_model import LanguageModel

pytest.importorskip("transformers")

COLOURS = ["red", "green", "blue", "grey"]
ROWS = {
    "number": [float(row % 4) for row in range(48)],
    "caption": [f"a {COLOURS[row % 4]} ball" for row in range(48)],
    "asked": ["what is it"] * 48,
}


def fitted(folder: Path, checkpoint: str, epochs: int = 1, **decoder: Any) -> Model:
    recipe = {
        "inputs": {"number": "number"},
        "outputs": {
            "caption": {
                "task": {"name": "text", "prompt": "{asked}"},
                "decoder": {"name": "causal_lm", "model": checkpoint, "tokens": 2, **decoder},
            }
        },
        "width": 16,
        "size": "tiny",
        "training": {"epochs": epochs, "precision": "fp32", "threads": 1, "learning_rate": 0.01, "batch": 8},
        "evaluation": {"bootstrap": 20, "singles": "mask"},
    }
    return polymodal.fit(ROWS, "caption", recipe=recipe, out=folder)


@pytest.mark.parametrize(("kind", "decoder"), [("gemma3_text", {"tune": "lora", "rank": 2}), ("gpt2", {"read": "cross"})])
def test_a_saved_model_writes_the_same_without_its_checkpoint(
    kind: str, decoder: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if decoder.get("tune") == "lora":
        pytest.importorskip("peft")
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(language_model(kind), checkpoint)
    model = fitted(tmp_path / "run", str(checkpoint), **decoder)
    some = {name: cells[:6] for name, cells in ROWS.items()}
    wanted = model.generate(some, max_tokens=6)
    model.save(tmp_path / "saved")
    shutil.rmtree(checkpoint)
    monkeypatch.setattr(weights, "_kept", {})
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path / "nothing"))
    read = Model.load(tmp_path / "saved")
    found = read.generate(some, max_tokens=6)
    assert [[one.tokens for one in row] for row in found] == [[one.tokens for one in row] for row in wanted]
    assert all(isinstance(text, str) for text in read.predict(some))
