"""Feature extractors of pretrained audio networks: batches of waveforms -> network inputs.

Each extractor matches the extractor of transformers that the checkpoint names within 2e-5
(tests/pretrained/test_audio_features.py). All are deterministic.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from polymodal.core.errors import MissingExtraError, RecipeError
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.mel_filterbank import MelScale, mel_energy, mel_filterbank

MIN_ENERGY = 1e-10


class AudioFeatureExtractor(ABC):
    """Base class of the feature extractors; `values` is the content of `preprocessor_config.json`.

    sampling_rate: sampling rate in Hz that the network expects
    max_samples: maximum number of samples that it reads; None: no limit
    """

    kind: ClassVar[str]
    sampling_rate: int
    max_samples: int | None

    @abstractmethod
    def __init__(self, values: dict[str, Any]) -> None: ...

    @abstractmethod
    def __call__(self, waveform: Tensor, length: Tensor) -> dict[str, Tensor]:
        """`waveform [items, samples]` in fp32, in [-1, 1] and zero after each item's `length [items]` -> the inputs of
        the network by argument name. Samples after `max_samples` are ignored.
        """


class SpectrogramExtractor(AudioFeatureExtractor):
    """Base class of the extractors that return a spectrogram.

    num_frames: number of frames of every spectrogram, for any length of the audio
    n_mels: number of mel bands
    first_frame_seconds, hop_seconds: time of the center of the first frame, and time from one frame to the next
    """

    num_frames: int
    n_mels: int
    first_frame_seconds: float
    hop_seconds: float

    @abstractmethod
    def valid_frames(self, length: Tensor) -> Tensor:
        """The number of frames that overlap audio of `length [items]` samples, at least 1."""


class WhisperFeatures(SpectrogramExtractor):
    """Log-mel spectrogram of a window of fixed length, padded with silence (Radford et al., "Robust Speech Recognition
    via Large-Scale Weak Supervision", 2023).

        L = (max(M, max M - 8) + 4) / 4,   M = log10 max(energy, 1e-10)

    over `feature_size` mel bands (Slaney scale) up to half the sampling rate and `chunk_length` seconds, with reflect
    padding at both ends of the window. Dither, which is random, is left out.
    """

    kind = "WhisperFeatureExtractor"

    def __init__(self, values: dict[str, Any]) -> None:
        self.sampling_rate = int(values.get("sampling_rate", 16_000))
        self.window_length, self.hop_length = int(values.get("n_fft", 400)), int(values.get("hop_length", 160))
        self.max_samples = int(values.get("chunk_length", 30)) * self.sampling_rate
        self.num_frames = self.max_samples // self.hop_length
        self.first_frame_seconds, self.hop_seconds = 0.0, self.hop_length / self.sampling_rate
        self.n_mels = int(values.get("feature_size", 80))
        self.filters = mel_filterbank(
            1 + self.window_length // 2, self.n_mels, 0.0, 8000.0, self.sampling_rate, "slaney"
        )
        self.window = torch.hann_window(self.window_length, dtype=torch.float64)

    def __call__(self, waveform: Tensor, length: Tensor) -> dict[str, Tensor]:
        """`input_features [items, n_mels, num_frames]`; frames that are silent in the whole batch are not computed."""
        assert self.max_samples is not None
        half = self.window_length // 2
        waveform = waveform[:, : self.max_samples]
        num_samples = min(self.max_samples, waveform.shape[1] + half + 1)
        waveform = F.pad(F.pad(waveform, (0, num_samples - waveform.shape[1])), (half, half), mode="reflect")
        energy = mel_energy(waveform, self.window, self.hop_length, self.filters)[:, : self.num_frames]
        mel = energy.clamp_min_(MIN_ENERGY).log10_()
        minimum = (mel.amax((1, 2), keepdim=True) - 8).clamp_min_(-10)
        found = minimum.expand(len(mel), self.n_mels, self.num_frames).contiguous()
        found[:, :, : mel.shape[1]] = torch.maximum(mel, minimum).transpose(1, 2)
        return {"input_features": (found + 4) / 4}

    def valid_frames(self, length: Tensor) -> Tensor:
        return ((length + self.hop_length - 1) // self.hop_length).clamp(1, self.num_frames)


class WaveformFeatures(AudioFeatureExtractor):
    """The waveform (Baevski et al., "wav2vec 2.0", 2020), with `do_normalize` normalized to mean 0 and variance 1:

        y = (x - mean x) / sqrt(var x + 1e-7)

    over the real samples of each item, with zeros after the end.
    """

    kind = "Wav2Vec2FeatureExtractor"

    def __init__(self, values: dict[str, Any]) -> None:
        self.sampling_rate = int(values.get("sampling_rate", 16_000))
        self.max_samples = None
        self.do_normalize = bool(values.get("do_normalize", True))
        self.returns_mask = bool(values.get("return_attention_mask", False))

    def __call__(self, waveform: Tensor, length: Tensor) -> dict[str, Tensor]:
        """`input_values [items, samples]` and, if the checkpoint was trained with it, `attention_mask` of the same
        shape."""
        real = torch.arange(waveform.shape[1], device=waveform.device) < length.unsqueeze(1)
        if self.do_normalize:
            count = length.clamp_min(1).unsqueeze(1)
            waveform = (waveform - waveform.sum(1, keepdim=True) / count) * real
            waveform = waveform / (waveform.square().sum(1, keepdim=True) / count + 1e-7).sqrt()
        return (
            {"input_values": waveform, "attention_mask": real.long()}
            if self.returns_mask
            else {"input_values": waveform}
        )


class FilterBankFeatures(SpectrogramExtractor):
    """Kaldi filter-bank features (Gong et al., "AST: Audio Spectrogram Transformer", 2021): frames of 25 ms every 10 ms
    at 16 kHz, with the mean removed, pre-emphasis of 0.97 and a Hann window.

        L = (log max(energy, 2^-23) - mean) / (2 std)

    over `num_mel_bins` bands from 20 Hz to half the sampling rate, truncated or zero-padded (before `mean` and `std`)
    to `max_length` frames. Audio shorter than one frame is padded with silence to one frame.
    """

    kind = "ASTFeatureExtractor"
    window_length, hop_length = 400, 160

    def __init__(self, values: dict[str, Any]) -> None:
        self.sampling_rate = int(values.get("sampling_rate", 16_000))
        self.num_frames = int(values.get("max_length", 1024))
        self.max_samples = (self.num_frames - 1) * self.hop_length + self.window_length
        self.first_frame_seconds, self.hop_seconds = (
            self.window_length / 2 / self.sampling_rate,
            self.hop_length / self.sampling_rate,
        )
        self.n_mels = int(values.get("num_mel_bins", 128))
        do_normalize = bool(values.get("do_normalize", True))
        self.mean = float(values.get("mean", -4.2677393)) if do_normalize else 0.0
        self.std = 2 * float(values.get("std", 4.5689974)) if do_normalize else 1.0
        self.filters = mel_filterbank(257, self.n_mels, 20.0, self.sampling_rate // 2, self.sampling_rate, "kaldi")
        self.window = torch.hann_window(self.window_length, periodic=False, dtype=torch.float64)

    def __call__(self, waveform: Tensor, length: Tensor) -> dict[str, Tensor]:
        """`input_values [items, num_frames, n_mels]`."""
        waveform = F.pad(waveform[:, : self.max_samples], (0, max(0, self.window_length - waveform.shape[1])))
        energy = mel_energy(waveform, self.window, self.hop_length, self.filters, preemphasis=0.97)
        real = torch.arange(energy.shape[1], device=waveform.device) < self.valid_frames(length).unsqueeze(1)
        mel = energy.clamp_min_(2.0**-23).log_() * real.unsqueeze(2)
        mel = F.pad(mel, (0, 0, 0, self.num_frames - mel.shape[1]))
        return {"input_values": (mel - self.mean) / self.std}

    def valid_frames(self, length: Tensor) -> Tensor:
        return ((length - self.window_length) // self.hop_length + 1).clamp(1, self.num_frames)


class ClapFeatures(SpectrogramExtractor):
    """Log-mel spectrogram in decibels of a window of fixed length (Wu et al., "Large-Scale Contrastive
    Language-Audio Pretraining with Feature Fusion and Keyword-to-Caption Augmentation", 2023).

    Shorter audio fills the window according to `padding`: `repeatpad` repeats it as often as it fits completely, then
    pads with silence; `repeat` also adds an incomplete repetition; `pad` adds only silence. Longer audio is truncated.
    Where the reference selects a random segment (`rand_trunc`) or merges random segments with the whole (`fusion`),
    the segment that the modality keeps is used, which is deterministic. So `is_longer` is always False for networks
    with fusion, and one spectrogram is returned in place of the reference's four equal ones, of which these networks
    then read only the first.
    """

    kind = "ClapFeatureExtractor"

    def __init__(self, values: dict[str, Any]) -> None:
        self.sampling_rate = int(values.get("sampling_rate", 48_000))
        self.window_length, self.hop_length = (
            int(values.get("fft_window_size", 1024)),
            int(values.get("hop_length", 480)),
        )
        self.max_samples = int(values.get("max_length_s", 10)) * self.sampling_rate
        self.num_frames = self.max_samples // self.hop_length + 1
        self.first_frame_seconds, self.hop_seconds = 0.0, self.hop_length / self.sampling_rate
        self.has_fusion = _one_of(values, "truncation", "fusion", ["fusion", "rand_trunc"]) == "fusion"
        self.padding = _one_of(values, "padding", "repeatpad", ["repeatpad", "repeat", "pad"])
        scale: MelScale = "htk" if self.has_fusion else "slaney"
        low, high = float(values.get("frequency_min", 0)), float(values.get("frequency_max", 14_000))
        self.n_mels = int(values.get("feature_size", 64))
        self.filters = mel_filterbank(1 + self.window_length // 2, self.n_mels, low, high, self.sampling_rate, scale)
        self.window = torch.hann_window(self.window_length, dtype=torch.float64)

    def __call__(self, waveform: Tensor, length: Tensor) -> dict[str, Tensor]:
        """`input_features [items, 1, num_frames, n_mels]` and, for networks with fusion, `is_longer [items, 1]`."""
        half = self.window_length // 2
        waveform = F.pad(self._fill_window(waveform, length), (half, half), mode="reflect")
        energy = mel_energy(waveform, self.window, self.hop_length, self.filters)
        found = {"input_features": 10 * energy.clamp_min_(MIN_ENERGY).log10_().unsqueeze(1)}
        if self.has_fusion:
            found["is_longer"] = torch.zeros(len(waveform), 1, dtype=torch.bool, device=waveform.device)
        return found

    def valid_frames(self, length: Tensor) -> Tensor:
        return ((length + self.hop_length - 1) // self.hop_length).clamp(1, self.num_frames)

    def _fill_window(self, waveform: Tensor, length: Tensor) -> Tensor:
        """Repeat or pad each item to the length of the window."""
        assert self.max_samples is not None
        place = torch.arange(self.max_samples, device=waveform.device)
        length = length.clamp(1, self.max_samples).unsqueeze(1)
        whole, once = self.max_samples // length, torch.ones_like(length)
        repeats = {"repeat": whole + 1, "repeatpad": whole, "pad": once}[self.padding]
        return waveform.gather(1, place % length) * (place < repeats * length)


_EXTRACTORS = {one.kind: one for one in (WhisperFeatures, WaveformFeatures, FilterBankFeatures, ClapFeatures)}


def audio_feature_extractor(checkpoint: CheckpointConfig) -> AudioFeatureExtractor:
    """The feature extractor of a checkpoint, by the name in its `preprocessor_config.json` or, without one, by its
    model type.

    Raises:
        RecipeError: it is not an audio checkpoint, or its feature extractor is not supported.
        MissingExtraError: transformers is not installed.
    """
    values, model_type = checkpoint.preprocessor, checkpoint.config.get("model_type", "")
    name = values.get("feature_extractor_type") or (_default_extractor(model_type) if values else None)
    if name is None:
        raise RecipeError("checkpoint", f"{checkpoint.name!r} (model type {model_type}) has no audio feature extractor")
    if name not in _EXTRACTORS:
        known = ", ".join(sorted(_EXTRACTORS))
        raise RecipeError(
            "checkpoint", f"{checkpoint.name!r} uses {name}, which is not supported; supported are {known}"
        )
    found: AudioFeatureExtractor = _EXTRACTORS[name](values)
    return found


def _default_extractor(model_type: str) -> str | None:
    try:
        from transformers.models.auto.feature_extraction_auto import (  # type: ignore[attr-defined]
            FEATURE_EXTRACTOR_MAPPING_NAMES,
        )
    except ImportError:
        raise MissingExtraError("transformers", "pretrained", "a pretrained audio encoder") from None
    found: str | None = FEATURE_EXTRACTOR_MAPPING_NAMES.get(model_type)
    return found


def _one_of(values: dict[str, Any], key: str, default: str, known: list[str]) -> str:
    found = values.get(key, default)
    if found not in known:
        raise RecipeError("checkpoint", f"its {key} is {found!r}; supported values are {', '.join(known)}")
    return str(found)
