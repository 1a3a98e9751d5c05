"""Batched feature extractors against those of transformers, run item by item."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from polymodal.core.errors import RecipeError
from polymodal.pretrained.audio_features import AudioFeatureExtractor, audio_feature_extractor
from polymodal.pretrained.checkpoint_config import CheckpointConfig

transformers = pytest.importorskip("transformers")

WITHIN = 2e-5


def card(preprocessor: dict[str, Any], model_type: str = "whisper") -> CheckpointConfig:
    return CheckpointConfig(
        "here", "here", "", "", {"config": {"model_type": model_type}, "preprocessor_config": preprocessor}
    )


def extractor(reference: Any) -> AudioFeatureExtractor:
    """The same extractor as `reference` of transformers, from its saved configuration."""
    return audio_feature_extractor(card(reference.to_dict()))


def clips(rate: int, seconds: float) -> list[np.ndarray]:
    """Sounds in 16 bits: silence, one that is hardly there, tones of a wide dynamic range, a click, a constant, noise;
    from a hundredth of the window to all of it."""
    draw = np.random.default_rng(0)
    made = []
    for number, share in enumerate(np.geomspace(0.02, 1.0, 24)):
        time = np.arange(max(400, int(share * seconds * rate))) / rate
        loud = 10.0 ** -draw.uniform(0, 4)
        made.append(
            [
                np.zeros(len(time)),
                loud * draw.normal(0, 0.3, len(time)),
                loud * np.sin(2 * np.pi * draw.uniform(50, 7000) * time),
                0.9 * np.sin(2 * np.pi * 440 * time) + 1e-3 * np.sin(2 * np.pi * 3000 * time),
                (np.arange(len(time)) == len(time) // 2) * 0.8,
                np.full(len(time), 0.25) + loud * np.sin(2 * np.pi * 100 * time) ** 15,
            ][number % 6]
        )
    return [np.clip(np.rint(one * 32_768), -32_768, 32_767).astype(np.float32) / 32_768 for one in made]


def batch(sounds: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    length = torch.tensor([len(one) for one in sounds])
    values = torch.zeros(len(sounds), int(length.max()))
    for row, one in zip(values, sounds, strict=True):
        row[: len(one)] = torch.from_numpy(one)
    return values, length


@pytest.mark.parametrize("bands", [80, 128])
def test_whisper(bands: int) -> None:
    reference = transformers.WhisperFeatureExtractor(feature_size=bands, chunk_length=3)
    sounds = clips(16_000, 3)
    full = [np.pad(one, (0, 48_000 - len(one))) for one in sounds]
    wanted = reference._np_extract_fbank_features(np.stack(full), "cpu")
    found = extractor(reference)(*batch(sounds))["input_features"]
    assert found.shape == wanted.shape == (24, bands, 300)
    np.testing.assert_allclose(found, wanted, atol=WITHIN, rtol=0)


@pytest.mark.parametrize("normalize", [True, False])
def test_waveforms(normalize: bool) -> None:
    reference = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalize, return_attention_mask=True)
    sounds = clips(16_000, 2)
    wanted = reference(sounds, sampling_rate=16_000, padding=True, return_tensors="np")
    found = extractor(reference)(*batch(sounds))
    np.testing.assert_allclose(found["input_values"], wanted["input_values"], atol=WITHIN, rtol=1e-6)
    np.testing.assert_array_equal(found["attention_mask"], wanted["attention_mask"])


@pytest.mark.parametrize("options", [{}, {"do_normalize": False}, {"num_mel_bins": 64, "mean": 1.0, "std": 2.0}])
def test_filter_banks(options: dict[str, Any]) -> None:
    """Where torchaudio is not installed, transformers takes its numpy form; it too has frames of 25 ms."""
    reference = transformers.ASTFeatureExtractor(max_length=150, **options)
    sounds = clips(16_000, 2)  # the longest have more than 150 frames
    wanted = reference(sounds, sampling_rate=16_000, return_tensors="np")["input_values"]
    found = extractor(reference)(*batch(sounds))["input_values"]
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=WITHIN, rtol=0)


@pytest.mark.parametrize("truncation", ["fusion", "rand_trunc"])
@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
def test_clap(truncation: str, padding: str) -> None:
    reference = transformers.ClapFeatureExtractor(max_length_s=1, truncation=truncation, padding=padding)
    sounds = clips(48_000, 1)
    wanted = np.stack(reference(sounds, sampling_rate=48_000)["input_features"])
    found = extractor(reference)(*batch(sounds))
    assert np.array_equal(wanted, np.broadcast_to(wanted[:, :1], wanted.shape))
    np.testing.assert_allclose(found["input_features"], wanted[:, :1], atol=WITHIN, rtol=0)
    assert ("is_longer" in found) == (truncation == "fusion")


def test_audio_longer_than_the_window_is_truncated() -> None:
    sound, length = batch(clips(16_000, 4)[-2:])
    for options in (
        transformers.WhisperFeatureExtractor(chunk_length=2),
        transformers.ASTFeatureExtractor(max_length=100),
        transformers.ClapFeatureExtractor(max_length_s=1),
    ):
        features = extractor(options)
        assert features.max_samples is not None
        cut = sound[:, : features.max_samples], length.clamp_max(features.max_samples)
        for name, found in features(sound, length).items():
            torch.testing.assert_close(found, features(*cut)[name], atol=0, rtol=0)


def test_audio_of_one_sample() -> None:
    sound, length = batch([np.array([0.5], np.float32), np.zeros(1, np.float32)])
    for reference in (
        transformers.WhisperFeatureExtractor(chunk_length=1),
        transformers.ASTFeatureExtractor(max_length=64),
        transformers.ClapFeatureExtractor(max_length_s=1),
        transformers.Wav2Vec2FeatureExtractor(),
    ):
        for name, found in extractor(reference)(sound, length).items():
            assert bool(torch.isfinite(found).all()), name


def test_the_default_extractor_follows_from_the_model_type() -> None:
    """As in the first published HuBERT checkpoints."""
    found = audio_feature_extractor(card({"do_normalize": True, "sampling_rate": 16_000}, "hubert"))
    assert type(found) is type(extractor(transformers.Wav2Vec2FeatureExtractor()))


@pytest.mark.parametrize(
    ("preprocessor", "model_type", "said"),
    [
        ({}, "bert", "has no audio feature extractor"),
        ({"image_processor_type": "ViTImageProcessor"}, "vit", "has no audio feature extractor"),
        ({"feature_extractor_type": "EncodecFeatureExtractor"}, "encodec", "EncodecFeatureExtractor"),
        ({"feature_extractor_type": "ClapFeatureExtractor", "padding": "mirror"}, "clap", "'mirror'"),
    ],
)
def test_unsupported_configurations_are_rejected(preprocessor: dict[str, Any], model_type: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said) as raised:
        audio_feature_extractor(card(preprocessor, model_type))
    assert raised.value.path == "checkpoint"
