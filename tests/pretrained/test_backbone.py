"""Backbones: selection of a part of a checkpoint, building from its configuration, loading its weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from laws.checkpoints import checkpoint
from polymodal.core.errors import RecipeError
from polymodal.pretrained.backbone import Backbone
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from pretrained.kinds import KINDS, backbone, card, inputs


def folder_card(folder: Path | str) -> CheckpointConfig:
    config = json.loads((Path(folder) / "config.json").read_text())
    return CheckpointConfig(str(folder), str(folder), "", "", {"config": config})


def changed(modality: str, folder: Path, change: Any) -> CheckpointConfig:
    """A copy of a tiny checkpoint with other weights."""
    shutil.copytree(checkpoint(modality), folder)
    weights = load_file(folder / "model.safetensors")
    save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})
    return folder_card(folder)


@pytest.mark.parametrize(
    ("modality", "kind"), [("text", "BertModel"), ("image", "ViTModel"), ("video", "VideoMAEModel")]
)
def test_features_are_those_of_transformers(modality: str, kind: str) -> None:
    import transformers

    found = Backbone(folder_card(checkpoint(modality)), modality).eval()
    found.load()
    expected = getattr(transformers, kind).from_pretrained(checkpoint(modality)).eval()
    kinds = {"text": "bert", "image": "vit", "video": "videomae"}
    given = inputs(kinds[modality])
    with torch.no_grad():
        torch.testing.assert_close(
            found.forward_full(given).last_hidden_state, expected(**given).last_hidden_state, rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("name", ["t5", "bart", "whisper"])
def test_decoders_are_removed(name: str) -> None:
    network = backbone(name)
    assert not [key for key in network.state_dict() if "decoder" in key]
    assert network.num_layers == 3


@pytest.mark.parametrize("name", ["clip:text", "clip:image", "siglip:text", "siglip:image", "clap:text", "clap:audio"])
def test_only_one_tower_and_its_projection_are_kept(name: str) -> None:
    network = backbone(name)
    kept = {key.split(".")[0] for key, _ in network.model.named_children()}
    assert ("projection" in kept) == (not name.startswith("siglip"))
    assert network.embedding_dim == (None if name.startswith("siglip") else 12)
    other = {"text": ("vision_model", "audio_model"), "image": ("text_model",), "audio": ("text_model",)}
    assert not [key for key in network.state_dict() if key.split(".")[1] in other[name.split(":")[1]]]


@pytest.mark.parametrize("name", ["bert", "vit", "roberta", "deit", "mpnet"])
def test_unused_poolers_are_removed(name: str) -> None:
    assert not [key for key in backbone(name).state_dict() if "pooler" in key]


def test_an_encoder_of_another_modality_is_rejected() -> None:
    with pytest.raises(RecipeError, match="pixel_values, so it cannot encode text"):
        Backbone(card("vit"), "text")


def test_unknown_model_types_are_rejected() -> None:
    with pytest.raises(RecipeError, match="cannot build"):
        Backbone(CheckpointConfig("x", "", "", "", {"config": {"model_type": "no_such_network"}}), "text")


def test_quantized_weights_are_rejected() -> None:
    config = {**card("bert").config, "quantization_config": {"bits": 4}}
    with pytest.raises(RecipeError, match="quantized"):
        Backbone(CheckpointConfig("x", "", "", "", {"config": config}), "text")


@pytest.mark.parametrize("name", ["bert", "llama", "modernbert", "vit", "whisper", "wav2vec2:layer", "swin"])
def test_buffers_without_weights_are_right_before_loading(name: str) -> None:
    """Positions and rotary frequencies are not in the weights; they are computed from the configuration."""
    from transformers import AutoConfig, AutoModel

    found = backbone(name)
    values = card(name).config
    whole = AutoModel.from_config(AutoConfig.for_model(values.pop("model_type"), **values))
    saved = set(whole.state_dict())
    buffers = {key: value for key, value in whole.named_buffers() if key not in saved}
    own = dict(found.model.named_buffers())
    for key, value in buffers.items():
        name_here = key.removeprefix("encoder.") if key not in own else key
        if "decoder" not in key:
            torch.testing.assert_close(own[name_here], value)


def test_building_draws_the_same_weights_from_the_same_seed() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(Backbone(card("vit"), "image").state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert all(bool(value.isfinite().all()) for value in states[0].values())


def test_missing_weights_are_an_error_that_names_them(tmp_path: Path) -> None:
    found = changed(
        "text",
        tmp_path / "hole",
        lambda weights: {key: value for key, value in weights.items() if "layer.1.output.dense.weight" not in key},
    )
    with pytest.raises(RecipeError, match=r"no weights for .*layer\.1\.output\.dense\.weight"):
        Backbone(found, "text").load()


def test_weights_of_another_shape_are_an_error(tmp_path: Path) -> None:
    found = changed(
        "text",
        tmp_path / "wide",
        lambda weights: {
            key: value[:, :8].contiguous() if "layer.1.output.dense.weight" in key else value
            for key, value in weights.items()
        },
    )
    with pytest.raises(RecipeError):
        Backbone(found, "text").load()


def test_unused_weights_may_be_missing_or_additional(tmp_path: Path) -> None:
    """Poolers are removed, and many files contain the head of the original task."""
    found = changed(
        "text",
        tmp_path / "other",
        lambda weights: {
            **{key: value for key, value in weights.items() if "pooler" not in key},
            "cls.predictions.bias": torch.zeros(3),
        },
    )
    network = Backbone(found, "text")
    network.load()
    expected = Backbone(folder_card(checkpoint("text")), "text")
    expected.load()
    assert all(torch.equal(value, expected.state_dict()[key]) for key, value in network.state_dict().items())


def test_only_safetensors_are_read(tmp_path: Path) -> None:
    shutil.copytree(checkpoint("text"), tmp_path / "pickled")
    weights = load_file(tmp_path / "pickled" / "model.safetensors")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(RecipeError, match="safetensors"):
        Backbone(folder_card(tmp_path / "pickled"), "text").load()


def test_half_precision_weights_become_fp32(tmp_path: Path) -> None:
    found = changed("image", tmp_path / "half", lambda weights: {k: v.bfloat16() for k, v in weights.items()})
    config = json.loads((tmp_path / "half" / "config.json").read_text())
    (tmp_path / "half" / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    network = Backbone(folder_card(found.source), "image")
    network.load()
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("name", ["whisper", "wav2vec2:group", "bart"])
def test_layerdrop_and_random_masking_are_disabled(name: str) -> None:
    """Otherwise the output from cached hidden states would differ."""
    network = backbone(name)
    network.split_index = 0
    network.train()
    config = network.model.config
    for option in ("layerdrop", "encoder_layerdrop"):
        assert getattr(config, option, 0.0) == 0.0
    assert not getattr(config, "apply_spec_augment", False)
    assert KINDS[name].part == network.part
