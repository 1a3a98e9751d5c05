"""What pretrained audio networks read, made of waveforms in batches: as their own feature extractors make it.

Each equals the extractor of transformers that its checkpoint names, run in numpy, within 2e-5 (tests/pretrained/
test_sound_features.py); nothing in it is random.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from polymodal.core.errors import MissingExtraError, RecipeError
from polymodal.pretrained.bands import Scale, band_energy, filter_bank
from polymodal.pretrained.card import Card

FLOOR = 1e-10


class SoundFeatures(ABC):
    """Base of the feature extractors; `values` are the contents of a checkpoint's `preprocessor_config.json`.

    rate: sample rate in Hz that the network expects
    longest: the most samples that it can take; None: any number
    """

    kind: ClassVar[str]
    rate: int
    longest: int | None

    @abstractmethod
    def __init__(self, values: dict[str, Any]) -> None: ...

    @abstractmethod
    def __call__(self, sound: Tensor, length: Tensor) -> dict[str, Tensor]:
        """`sound [items, samples]` in fp32, full scale from -1 to 1 and zero after each item's `length [items]` -> what
        the network reads, by the names of its arguments. Samples behind `longest` are not heard.
        """


class Spectrogram(SoundFeatures):
    """Base of the extractors that give frames of a spectrogram.

    total: frames that they give, of a sound of whatever length
    bands: values in each frame
    first, step: seconds of the middle of the first frame, and from one to the next
    """

    total: int
    bands: int
    first: float
    step: float

    @abstractmethod
    def frames(self, length: Tensor) -> Tensor:
        """How many frames a sound of `length [items]` samples has to itself, at least 1."""


class WhisperFeatures(Spectrogram):
    """Log-mel spectrogram of a window of fixed length, filled up with silence (Radford et al., "Robust Speech
    Recognition via Large-Scale Weak Supervision", 2023).

        L = (max(M, max M - 8) + 4) / 4,   M = log10 max(energy, 1e-10)

    over `feature_size` bands of Slaney's scale up to half the rate and `chunk_length` seconds; the sound is mirrored at
    both ends of the window. Dither, which is random, is left out.
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
        """`input_features [items, bands, total]`; what is silent in the whole batch is not transformed."""
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
    """The waveform itself (Baevski et al., "wav2vec 2.0", 2020), with `do_normalize` brought to mean 0 and variance 1:

        y = (x - mean x) / sqrt(var x + 1e-7)

    over the real samples of each item, then silence.
    """

    kind = "Wav2Vec2FeatureExtractor"

    def __init__(self, values: dict[str, Any]) -> None:
        self.rate = int(values.get("sampling_rate", 16_000))
        self.longest = None
        self.normalise = bool(values.get("do_normalize", True))
        self.masks = bool(values.get("return_attention_mask", False))

    def __call__(self, sound: Tensor, length: Tensor) -> dict[str, Tensor]:
        """`input_values [items, samples]` and, where the checkpoint was trained with it, `attention_mask` of the same
        shape."""
        real = torch.arange(sound.shape[1], device=sound.device) < length.unsqueeze(1)
        if self.normalise:
            count = length.clamp_min(1).unsqueeze(1)
            sound = (sound - sound.sum(1, keepdim=True) / count) * real
            sound = sound / (sound.square().sum(1, keepdim=True) / count + 1e-7).sqrt()
        return {"input_values": sound, "attention_mask": real.long()} if self.masks else {"input_values": sound}


class FilterBankFeatures(Spectrogram):
    """Kaldi's filter bank (Gong et al., "AST: Audio Spectrogram Transformer", 2021): frames of 25 ms every 10 ms at
    16 kHz, without their mean, pre-emphasised by 0.97 and under a Hann window.

        L = (log max(energy, 2^-23) - mean) / (2 std)

    over `num_mel_bins` bands from 20 Hz to half the rate, cut or filled up with zeros (before `mean` and `std`) to
    `max_length` frames. A sound shorter than one frame is filled up with silence to one.
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
        """`input_values [items, total, bands]`."""
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

    A shorter sound fills the window as `padding` says: `repeatpad` repeats it as often as it fits as a whole, then
    silence; `repeat` also with a part of it; `pad` only silence. A longer one is cut: where the reference draws a
    random place (`rand_trunc`) or merges random places with the whole (`fusion`), the part that the modality keeps is
    used, always the same. Therefore no sound is "longer" for networks with fusion, and of the four equal pictures that
    the reference gives them, which then read the first alone, there is one.
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
        """`input_features [items, 1, total, bands]` and, for networks with fusion, `is_longer [items, 1]`."""
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
        """Every item over the whole window."""
        assert self.longest is not None
        place = torch.arange(self.longest, device=sound.device)
        length = length.clamp(1, self.longest).unsqueeze(1)
        whole, once = self.longest // length, torch.ones_like(length)
        repeats = {"repeat": whole + 1, "repeatpad": whole, "pad": once}[self.padding]
        return sound.gather(1, place % length) * (place < repeats * length)


_KINDS = {one.kind: one for one in (WhisperFeatures, WaveformFeatures, FilterBankFeatures, ClapFeatures)}


def sound_features(card: Card) -> SoundFeatures:
    """The feature extractor of a checkpoint, by the name in its `preprocessor_config.json` or, where that has none, by
    the type of its network.

    Raises:
        RecipeError: it is no checkpoint for sounds, or its extractor is not known here.
        MissingExtraError: transformers is not installed.
    """
    values, model_type = card.preprocessor, card.config.get("model_type", "")
    name = values.get("feature_extractor_type") or (_usual_extractor(model_type) if values else None)
    if name is None:
        raise RecipeError("checkpoint", f"{card.model!r} (a {model_type} network) says nothing of how it reads sounds")
    if name not in _KINDS:
        known = ", ".join(sorted(_KINDS))
        raise RecipeError("checkpoint", f"{card.model!r} prepares sounds with {name}, which is not one of {known}")
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
        raise RecipeError("checkpoint", f"its {key} is {found!r}, which is not one of {', '.join(known)}")
    return str(found)
