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
from polymodal.pretrained.mel_filterbank import Scale, band_energy, filter_bank
from polymodal.pretrained.checkpoint_config import Card

FLOOR = 1e-10


class SoundFeatures(ABC):
    """Base class of the feature extractors; `values` is the content of `preprocessor_config.json`.

    sampling_rate: sampling rate in Hz that the network expects
    max_samples: maximum number of samples that it reads; None: no limit
    """

    kind: ClassVar[str]
    rate: int
    longest: int | None

    @abstractmethod
    def __init__(self, values: dict[str, Any]) -> None: ...

    @abstractmethod
    def __call__(self, sound: Tensor, length: Tensor) -> dict[str, Tensor]:
        """`sound [items, samples]` in fp32, in [-1, 1] and zero after each item's `length [items]` -> the inputs of the
        network by argument name. Samples after `max_samples` are ignored.
        """


class Spectrogram(SoundFeatures):
    """Base class of the extractors that return a spectrogram.

    num_frames: number of frames of every spectrogram, for any length of the audio
    n_mels: number of mel bands
    first_frame_seconds, hop_seconds: time of the center of the first frame, and time from one frame to the next
    """

    total: int
    bands: int
    first: float
    step: float

    @abstractmethod
    def frames(self, length: Tensor) -> Tensor:
        """The number of frames that overlap audio of `length [items]` samples, at least 1."""


class WhisperFeatures(Spectrogram):
    """Log-mel spectrogram of a window of fixed length, padded with silence (Radford et al., "Robust Speech Recognition
    via Large-Scale Weak Supervision", 2023).

        L = (max(M, max M - 8) + 4) / 4,   M = log10 max(energy, 1e-10)

    over `feature_size` mel bands (Slaney scale) up to half the sampling rate and `chunk_length` seconds, with reflect
    padding at both ends of the window. Dither, which is random, is left out.
    """

    kind = "WhisperFeatureExtractor"

    def __init__(self, values: dict[str, Any]) -> None:
        self.rate = int(values.get("sampling_rate", 16_000))
        self.size, self.hop = int(values.get("n_fft", 400)), int(values.get("hop_length", 160))
        self.longest = int(values.get("chunk_length", 30)) * self.rate
        self.total = self.longest // self.hop
        self.first, self.step = 0.0, self.hop / self.rate
        self.bands = int(values.get("feature_size", 80))
        self.filters = filter_bank(1 + self.size // 2, self.bands, 0.0, 8000.0, self.rate, "slaney")
        self.window = torch.hann_window(self.size, dtype=torch.float64)

    def __call__(self, sound: Tensor, length: Tensor) -> dict[str, Tensor]:
        """`input_features [items, n_mels, num_frames]`; frames that are silent in the whole batch are not computed."""
        assert self.longest is not None
        half = self.size // 2
        sound = sound[:, : self.longest]
        heard = min(self.longest, sound.shape[1] + half + 1)
        sound = F.pad(F.pad(sound, (0, heard - sound.shape[1])), (half, half), mode="reflect")
        energy = band_energy(sound, self.window, self.hop, self.filters)[:, : self.total]
        mel = energy.clamp_min_(FLOOR).log10_()
        least = (mel.amax((1, 2), keepdim=True) - 8).clamp_min_(-10)
        found = least.expand(len(mel), self.bands, self.total).contiguous()
        found[:, :, : mel.shape[1]] = torch.maximum(mel, least).transpose(1, 2)
        return {"input_features": (found + 4) / 4}

    def frames(self, length: Tensor) -> Tensor:
        return ((length + self.hop - 1) // self.hop).clamp(1, self.total)


class WaveformFeatures(SoundFeatures):
    """The waveform (Baevski et al., "wav2vec 2.0", 2020), with `do_normalize` normalized to mean 0 and variance 1:

        y = (x - mean x) / sqrt(var x + 1e-7)

    over the real samples of each item, with zeros after the end.
    """

    kind = "Wav2Vec2FeatureExtractor"

    def __init__(self, values: dict[str, Any]) -> None:
        self.rate = int(values.get("sampling_rate", 16_000))
        self.longest = None
        self.normalise = bool(values.get("do_normalize", True))
        self.masks = bool(values.get("return_attention_mask", False))

    def __call__(self, sound: Tensor, length: Tensor) -> dict[str, Tensor]:
        """`input_values [items, samples]` and, if the checkpoint was trained with it, `attention_mask` of the same
        shape."""
        real = torch.arange(sound.shape[1], device=sound.device) < length.unsqueeze(1)
        if self.normalise:
            count = length.clamp_min(1).unsqueeze(1)
            sound = (sound - sound.sum(1, keepdim=True) / count) * real
            sound = sound / (sound.square().sum(1, keepdim=True) / count + 1e-7).sqrt()
        return {"input_values": sound, "attention_mask": real.long()} if self.masks else {"input_values": sound}


class FilterBankFeatures(Spectrogram):
    """Kaldi filter-bank features (Gong et al., "AST: Audio Spectrogram Transformer", 2021): frames of 25 ms every 10 ms
    at 16 kHz, with the mean removed, pre-emphasis of 0.97 and a Hann window.

        L = (log max(energy, 2^-23) - mean) / (2 std)

    over `num_mel_bins` bands from 20 Hz to half the sampling rate, truncated or zero-padded (before `mean` and `std`)
    to `max_length` frames. Audio shorter than one frame is padded with silence to one frame.
    """

    kind = "ASTFeatureExtractor"
    size, hop = 400, 160

    def __init__(self, values: dict[str, Any]) -> None:
        self.rate = int(values.get("sampling_rate", 16_000))
        self.total = int(values.get("max_length", 1024))
        self.longest = (self.total - 1) * self.hop + self.size
        self.first, self.step = self.size / 2 / self.rate, self.hop / self.rate
        self.bands = int(values.get("num_mel_bins", 128))
        normalise = bool(values.get("do_normalize", True))
        self.mean = float(values.get("mean", -4.2677393)) if normalise else 0.0
        self.deviation = 2 * float(values.get("std", 4.5689974)) if normalise else 1.0
        self.filters = filter_bank(257, self.bands, 20.0, self.rate // 2, self.rate, "kaldi")
        self.window = torch.hann_window(self.size, periodic=False, dtype=torch.float64)

    def __call__(self, sound: Tensor, length: Tensor) -> dict[str, Tensor]:
        """`input_values [items, num_frames, n_mels]`."""
        sound = F.pad(sound[:, : self.longest], (0, max(0, self.size - sound.shape[1])))
        energy = band_energy(sound, self.window, self.hop, self.filters, preemphasis=0.97)
        real = torch.arange(energy.shape[1], device=sound.device) < self.frames(length).unsqueeze(1)
        mel = energy.clamp_min_(2.0**-23).log_() * real.unsqueeze(2)
        mel = F.pad(mel, (0, 0, 0, self.total - mel.shape[1]))
        return {"input_values": (mel - self.mean) / self.deviation}

    def frames(self, length: Tensor) -> Tensor:
        return ((length - self.size) // self.hop + 1).clamp(1, self.total)


class ClapFeatures(Spectrogram):
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
        self.rate = int(values.get("sampling_rate", 48_000))
        self.size, self.hop = int(values.get("fft_window_size", 1024)), int(values.get("hop_length", 480))
        self.longest = int(values.get("max_length_s", 10)) * self.rate
        self.total = self.longest // self.hop + 1
        self.first, self.step = 0.0, self.hop / self.rate
        self.fusion = _one_of(values, "truncation", "fusion", ["fusion", "rand_trunc"]) == "fusion"
        self.padding = _one_of(values, "padding", "repeatpad", ["repeatpad", "repeat", "pad"])
        scale: Scale = "htk" if self.fusion else "slaney"
        low, high = float(values.get("frequency_min", 0)), float(values.get("frequency_max", 14_000))
        self.bands = int(values.get("feature_size", 64))
        self.filters = filter_bank(1 + self.size // 2, self.bands, low, high, self.rate, scale)
        self.window = torch.hann_window(self.size, dtype=torch.float64)

    def __call__(self, sound: Tensor, length: Tensor) -> dict[str, Tensor]:
        """`input_features [items, 1, num_frames, n_mels]` and, for networks with fusion, `is_longer [items, 1]`."""
        half = self.size // 2
        sound = F.pad(self._filled(sound, length), (half, half), mode="reflect")
        energy = band_energy(sound, self.window, self.hop, self.filters)
        found = {"input_features": 10 * energy.clamp_min_(FLOOR).log10_().unsqueeze(1)}
        if self.fusion:
            found["is_longer"] = torch.zeros(len(sound), 1, dtype=torch.bool, device=sound.device)
        return found

    def frames(self, length: Tensor) -> Tensor:
        return ((length + self.hop - 1) // self.hop).clamp(1, self.total)

    def _filled(self, sound: Tensor, length: Tensor) -> Tensor:
        """Repeat or pad each item to the length of the window."""
        assert self.longest is not None
        place = torch.arange(self.longest, device=sound.device)
        length = length.clamp(1, self.longest).unsqueeze(1)
        whole, once = self.longest // length, torch.ones_like(length)
        repeats = {"repeat": whole + 1, "repeatpad": whole, "pad": once}[self.padding]
        return sound.gather(1, place % length) * (place < repeats * length)


_KINDS = {one.kind: one for one in (WhisperFeatures, WaveformFeatures, FilterBankFeatures, ClapFeatures)}


def sound_features(card: Card) -> SoundFeatures:
    """The feature extractor of a checkpoint, by the name in its `preprocessor_config.json` or, without one, by its
    model type.

    Raises:
        RecipeError: it is not an audio checkpoint, or its feature extractor is not supported.
        MissingExtraError: transformers is not installed.
    """
    values, model_type = card.preprocessor, card.config.get("model_type", "")
    name = values.get("feature_extractor_type") or (_usual_extractor(model_type) if values else None)
    if name is None:
        raise RecipeError("checkpoint", f"{card.model!r} (model type {model_type}) has no audio feature extractor")
    if name not in _KINDS:
        known = ", ".join(sorted(_KINDS))
        raise RecipeError("checkpoint", f"{card.model!r} uses {name}, which is not supported; supported are {known}")
    found: SoundFeatures = _KINDS[name](values)
    return found


def _usual_extractor(model_type: str) -> str | None:
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
