"""Resolution of checkpoint names: folders, and the hub over real HTTP."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from laws.checkpoints import checkpoint
from polymodal.core.errors import RecipeError
from polymodal.pretrained.presets import presets
from polymodal.pretrained.resolve import read_checkpoint_config, tokenizer_file, weights_folder

pytest.importorskip("transformers")

Hub = Any


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny BERT with a README that states a license."""
    place = tmp_path / "bert"
    shutil.copytree(checkpoint("text"), place)
    (place / "README.md").write_text("---\nlicense: apache-2.0\ntags: [text]\n---\n# A model\n")
    return place


def test_a_folder_is_read_in_place(folder: Path) -> None:
    card = read_checkpoint_config(str(folder), "text")
    assert (card.source, card.revision, card.license) == (str(folder), "", "apache-2.0")
    assert card.config["hidden_size"] == 16
    assert tokenizer_file(card) == folder / "tokenizer.json"
    assert weights_folder(card) == folder


def test_a_configuration_round_trips_through_json(folder: Path) -> None:
    card = read_checkpoint_config(str(folder), "text")
    assert type(card).from_dict(json.loads(json.dumps(card.to_dict()))) == card


def test_a_relative_folder_is_stored_as_an_absolute_path(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    card = read_checkpoint_config("bert", "text")
    monkeypatch.chdir(folder.parents[1])
    assert weights_folder(card) == folder


@pytest.mark.parametrize("content", [b'{"model_type": "be', b"\xff\xfe\x00", b"[1, 2]", b"{}"])
def test_a_damaged_config_is_reported(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(RecipeError, match=r"config\.json"):
        read_checkpoint_config(str(folder), "text")


def test_a_pickle_is_rejected(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(RecipeError, match="save_pretrained"):
        weights_folder(read_checkpoint_config(str(folder), "text"))


def test_a_missing_shard_is_reported(folder: Path) -> None:
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors").rename(folder / shards["a"])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(RecipeError, match="model-00002-of-00002"):
        weights_folder(read_checkpoint_config(str(folder), "text"))


@pytest.mark.parametrize("name", ["fst", "owner/name/more", "owner/name@", "./nowhere", "owner /name"])
def test_an_unknown_name_lists_the_alternatives(name: str) -> None:
    with pytest.raises(RecipeError, match="starter, fast"):
        read_checkpoint_config(name, "text")


def test_legacy_tokenizer_files_are_converted_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path / "own"))
    card = read_checkpoint_config(str(folder), "text")
    whole = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words = sorted(whole.get_vocab(), key=whole.get_vocab().__getitem__)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "tokenizer.json").unlink()
    made = tokenizer_file(card)
    changed = made.stat().st_mtime_ns
    assert Tokenizer.from_file(str(made)).encode("amber frost zz").ids == whole.encode("amber frost zz").ids
    assert tokenizer_file(card) == made
    assert made.stat().st_mtime_ns == changed
    assert not (folder / "tokenizer.json").exists()


def test_a_checkpoint_without_a_tokenizer_is_an_error(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(RecipeError, match="no tokenizer"):
        tokenizer_file(read_checkpoint_config(str(folder), "text"))


def test_the_processor_of_a_joint_model_is_read_by_modality(folder: Path) -> None:
    parts = {"image_processor": {"size": 32}, "feature_extractor": {"sampling_rate": 16000}}
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": "P", **parts}))
    assert read_checkpoint_config(str(folder), "image").preprocessor == {"size": 32}
    assert read_checkpoint_config(str(folder), "audio").preprocessor == {"sampling_rate": 16000}
    assert read_checkpoint_config(str(folder), "text").preprocessor == {}


def test_weights_are_downloaded_only_when_needed(hub: Hub, folder: Path) -> None:
    hub.add("owner/tiny", folder)
    card = read_checkpoint_config("owner/tiny", "text")
    assert (card.source, card.revision, card.license) == (
        "owner/tiny",
        hub.repositories["owner/tiny"].commit,
        "apache-2.0",
    )
    assert not {"model.safetensors", "tokenizer.json"} & hub.fetched()
    assert tokenizer_file(card).read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert "model.safetensors" not in hub.fetched()
    from transformers import AutoModel

    here = AutoModel.from_pretrained(folder, local_files_only=True).state_dict()
    there = AutoModel.from_pretrained(weights_folder(card), local_files_only=True).state_dict()
    assert here.keys() == there.keys()
    assert all(torch.equal(here[name], there[name]) for name in here)


def test_downloaded_files_are_not_requested_again(hub: Hub, folder: Path) -> None:
    hub.add("owner/tiny", folder)
    first = read_checkpoint_config("owner/tiny", "text")
    place = weights_folder(first)
    hub.asked.clear()
    assert read_checkpoint_config("owner/tiny", "text") == first
    assert weights_folder(first) == place
    assert hub.asked == []


def test_a_file_missing_in_the_cache_is_downloaded_again(hub: Hub, folder: Path) -> None:
    hub.add("owner/tiny", folder)
    card = read_checkpoint_config("owner/tiny", "text")
    lost = weights_folder(card) / "model.safetensors"
    lost.resolve().unlink()
    lost.unlink()
    assert (weights_folder(card) / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("how", ["unplugged", "offline"])
@pytest.mark.parametrize(
    "name", ["owner/tiny", "owner/tiny@main", "owner/tiny@0123456789abcdef0123456789abcdef01234567"]
)
def test_the_hubs_own_cache_is_enough(
    hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, name: str
) -> None:
    from huggingface_hub import constants

    hub.add("owner/tiny", folder)
    card = read_checkpoint_config(name, "text")
    weights_folder(card)
    shutil.rmtree(tmp_path / "own")
    if how == "unplugged":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    else:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert read_checkpoint_config(name, "text") == card
    assert (weights_folder(card) / "model.safetensors").is_file()
    assert hub.asked == []


def test_missing_weights_are_an_error_offline(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    hub.add("owner/tiny", folder)
    card = read_checkpoint_config("owner/tiny", "text")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RecipeError, match="polymodal weights fetch"):
        weights_folder(card)


@pytest.mark.usefixtures("no_hub")
def test_an_unreachable_hub_lists_the_alternatives() -> None:
    with pytest.raises(RecipeError, match="starter"):
        read_checkpoint_config("owner/tiny", "text")


def test_an_unknown_repository(hub: Hub) -> None:
    with pytest.raises(RecipeError, match="check the name"):
        read_checkpoint_config("owner/nothing", "text")


def test_a_gated_repository(hub: Hub, folder: Path) -> None:
    hub.add("owner/tiny", folder, gated=True)
    with pytest.raises(RecipeError, match="gated"):
        read_checkpoint_config("owner/tiny", "text")


def test_an_unknown_revision(hub: Hub, folder: Path) -> None:
    hub.add("owner/tiny", folder)
    with pytest.raises(RecipeError, match="no such revision"):
        read_checkpoint_config("owner/tiny@v9", "text")


def test_pickles_are_never_downloaded(hub: Hub, folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    hub.add("owner/tiny", folder)
    with pytest.raises(RecipeError, match=r"model\.safetensors"):
        weights_folder(read_checkpoint_config("owner/tiny", "text"))
    assert "pytorch_model.bin" not in hub.fetched()


def test_a_repository_without_a_model(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "README.md").write_text("# Nothing")
    hub.add("owner/other", tmp_path / "other")
    with pytest.raises(RecipeError, match=r"config\.json"):
        read_checkpoint_config("owner/other", "text")


def test_a_preset_uses_its_pinned_commit(hub: Hub, folder: Path) -> None:
    preset = presets("text")["fast"]
    hub.add(preset.model, folder, commit=preset.revision)
    card = read_checkpoint_config("fast", "text")
    assert (card.name, card.source, card.revision) == ("fast", preset.model, preset.revision)
    place = weights_folder(card)
    hub.repositories[preset.model].commit = "f" * 40
    shutil.rmtree(place.parents[1])
    with pytest.raises(RecipeError, match="no such revision"):
        read_checkpoint_config("fast", "text")


def test_a_preset_may_be_in_another_branch(hub: Hub, folder: Path) -> None:
    preset = next(one for one in presets("video").values() if one.branch)
    name = next(name for name, one in presets("video").items() if one is preset)
    hub.add(preset.model, folder, branch=preset.branch, commit=preset.revision or "a" * 40)
    with warnings.catch_warnings(action="ignore"):
        card = read_checkpoint_config(name, "video")
    assert card.revision == (preset.revision or "a" * 40)
    assert (weights_folder(card) / "model.safetensors").is_file()


def test_a_preset_without_a_pinned_commit_warns(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = presets("text")["fast"]
    monkeypatch.setitem(presets("text"), "fast", replace(fast, revision=None, unverified=True))
    hub.add(fast.model, folder)
    with pytest.warns(UserWarning, match="not pinned"):
        assert read_checkpoint_config("fast", "text").revision == hub.repositories[fast.model].commit
