"""Where the tokens of pretrained audio networks lie in time, and which of them a sound has to itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from typing import Any

import torch
from torch import Tensor

from polymodal.core.errors import RecipeError
from polymodal.pretrained.sound_features import SoundFeatures, Spectrogram


class SoundTokens(ABC):
    """Tokens at equal distances in time.

    first, step: seconds of the middle of the first, and from one to the next
    field: samples that a sound must have for the network to run
    """

    first: float
    step: float
    field: int = 1

    @abstractmethod
    def count(self, length: Tensor) -> Tensor:
        """How many tokens sounds of `length [items]` samples have to themselves, int64, at least 1."""

    def along_time(self, hidden: Tensor) -> Tensor:
        """The network's last hidden states -> `[items, tokens, width]`, those of one moment averaged."""
        return hidden

    def times(self, tokens: int, device: torch.device) -> Tensor:
        """The middles of the first `tokens`, `[tokens]` fp32 seconds."""
        return self.first + self.step * torch.arange(tokens, dtype=torch.float32, device=device)


class ConvolvedWaveform(SoundTokens):
    """Tokens of convolutions over the waveform (wav2vec 2.0, HuBERT, WavLM): as many as a sound's length asks for.

    alike: whether only sounds of equal length may run side by side, since padding reaches what is real: over group
        norms, which average over time, and convolutions in or behind the layers. So it is with every network that was
        trained without a mask.
    """

    def __init__(self, sound: SoundFeatures, config: Any) -> None:
        self.kernels, self.strides = list(config.conv_kernel), list(config.conv_stride)
        if getattr(config, "add_adapter", False):
            self.kernels += [1] * config.num_adapter_layers
            self.strides += [config.adapter_stride] * config.num_adapter_layers
        self.field = 1 + sum((kernel - 1) * prod(self.strides[:at]) for at, kernel in enumerate(self.kernels))
        self.first = (self.field - 1) / 2 / sound.rate
        self.step = prod(self.strides) / sound.rate
        local = getattr(config, "feat_extract_norm", "") == "layer" and not hasattr(
            config, "conv_depthwise_kernel_size"
        )
        masks = bool(getattr(sound, "masks", False))
        self.alike = not (masks and local) or getattr(config, "add_adapter", False)

    def count(self, length: Tensor) -> Tensor:
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            length = (length - kernel) // stride + 1
        return length.clamp_min(1)


class FrameGroups(SoundTokens):
    """Tokens that each stand for some frames of a spectrogram of fixed length.

    total: tokens in time, of any sound
    stride: frames from one token to the next; patch: frames under one
    pitches: tokens of one moment, all of the lowest pitch first; extra: tokens before them, for the whole sound
    """

    def __init__(
        self, sound: Spectrogram, total: int, stride: float, patch: float, pitches: int = 1, extra: int = 0
    ) -> None:
        self.sound, self.total, self.stride, self.pitches, self.extra = sound, total, stride, pitches, extra
        self.first, self.step = sound.first + (patch - 1) / 2 * sound.step, stride * sound.step

    def count(self, length: Tensor) -> Tensor:
        return torch.ceil(self.sound.frames(length) / self.stride - 1e-4).long().clamp(1, self.total)

    def along_time(self, hidden: Tensor) -> Tensor:
        if hidden.dim() == 4:  # [items, width, pitches, time]
            return hidden.mean(2).transpose(1, 2)
        hidden = hidden[:, self.extra :]
        return hidden if self.pitches == 1 else hidden.reshape(len(hidden), self.pitches, self.total, -1).mean(1)


def sound_tokens(sound: SoundFeatures, config: Any) -> SoundTokens:
    """The tokens of a network, by its configuration and what it reads.

    Raises:
        RecipeError: it does not read what its feature extractor gives, or its kind is not known.
    """
    if not isinstance(sound, Spectrogram):
        if not hasattr(config, "conv_stride"):
            raise RecipeError("model", f"how a {config.model_type} cuts waveforms into tokens is not known")
        return ConvolvedWaveform(sound, config)
    bands, total = getattr(config, "num_mel_bins", sound.bands), sound.total
    if bands != sound.bands:
        raise RecipeError("model", f"its network reads {bands} bands, its feature extractor gives {sound.bands}")
    if hasattr(config, "max_source_positions"):  # Whisper: convolutions with strides of 1 and 2
        _check_frames(2 * config.max_source_positions, total)
        return FrameGroups(sound, config.max_source_positions, stride=2, patch=1)
    if hasattr(config, "time_stride"):  # AST: patches, behind a class token and a distillation token
        _check_frames(config.max_length, total)
        patch, stride = config.patch_size, config.time_stride
        pitches = (bands - patch) // config.frequency_stride + 1
        return FrameGroups(sound, (total - patch) // stride + 1, stride, patch, pitches, extra=2)
    if hasattr(config, "spec_size"):  # CLAP: the spectrogram folded into a square, of patches that merge by stages
        folds = config.spec_size // bands
        patch = config.patch_stride if isinstance(config.patch_stride, int) else config.patch_stride[1]
        tokens = folds * (config.spec_size // patch // 2 ** (len(config.depths) - 1))
        return FrameGroups(sound, tokens, stride=total / tokens, patch=total / tokens)
    raise RecipeError("model", f"how a {config.model_type} cuts spectrograms into tokens is not known")


def _check_frames(network: int, extractor: int) -> None:
    if network != extractor:
        raise RecipeError("model", f"its network reads {network} frames, its feature extractor gives {extractor}")
