"""Token layouts of pretrained audio networks: the time of each token, and the number of real tokens of an item."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from typing import Any

import torch
from torch import Tensor

from polymodal.core.errors import RecipeError
from polymodal.pretrained.audio_features import SoundFeatures, Spectrogram


class SoundTokens(ABC):
    """Tokens with a constant stride in time.

    first_token_seconds, stride_seconds: time of the center of the first token, and time from one token to the next
    receptive_field: minimum number of samples that the network requires
    """

    first: float
    step: float
    field: int = 1

    @abstractmethod
    def count(self, length: Tensor) -> Tensor:
        """The number of real tokens of audio of `length [items]` samples, int64, at least 1."""

    def along_time(self, hidden: Tensor) -> Tensor:
        """The last hidden states of the network -> `[items, tokens, width]`, averaged over tokens of the same time."""
        return hidden

    def times(self, tokens: int, device: torch.device) -> Tensor:
        """The times of the centers of the first `tokens` tokens, `[tokens]` fp32 in seconds."""
        return self.first + self.step * torch.arange(tokens, dtype=torch.float32, device=device)


class ConvolvedWaveform(SoundTokens):
    """Tokens of convolutions over the waveform (wav2vec 2.0, HuBERT, WavLM); their number depends on the length.

    equal_length_only: whether only items of equal length may be batched, since padding affects real positions: through
        group norms, which average over time, and through convolutions in or after the layers. This is the case for all
        networks that were trained without a mask.
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
    """Tokens over a spectrogram with a fixed number of frames.

    max_tokens: number of tokens in time, for any length of the audio
    stride, patch: frames from one token to the next, and frames per token
    num_frequencies: number of tokens of the same time; tokens are ordered by frequency first
    num_prefix_tokens: number of tokens before them (class and distillation tokens)
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
    """The token layout of a network, from its configuration and its feature extractor.

    Raises:
        RecipeError: the network does not match its feature extractor, or its architecture is not supported.
    """
    if not isinstance(sound, Spectrogram):
        if not hasattr(config, "conv_stride"):
            raise RecipeError("checkpoint", f"waveform networks of type {config.model_type} are not supported")
        return ConvolvedWaveform(sound, config)
    bands, total = getattr(config, "num_mel_bins", sound.bands), sound.total
    if bands != sound.bands:
        raise RecipeError("checkpoint", f"its network reads {bands} bands, its feature extractor gives {sound.bands}")
    if hasattr(config, "max_source_positions"):  # Whisper: convolutions with strides of 1 and 2
        _check_frames(2 * config.max_source_positions, total)
        return FrameGroups(sound, config.max_source_positions, stride=2, patch=1)
    if hasattr(config, "time_stride"):  # AST: patches, after a class token and a distillation token
        _check_frames(config.max_length, total)
        patch, stride = config.patch_size, config.time_stride
        pitches = (bands - patch) // config.frequency_stride + 1
        return FrameGroups(sound, (total - patch) // stride + 1, stride, patch, pitches, extra=2)
    if hasattr(config, "spec_size"):  # CLAP: the spectrogram folded into a square of patches, merged at each stage
        folds = config.spec_size // bands
        patch = config.patch_stride if isinstance(config.patch_stride, int) else config.patch_stride[1]
        tokens = folds * (config.spec_size // patch // 2 ** (len(config.depths) - 1))
        return FrameGroups(sound, tokens, stride=total / tokens, patch=total / tokens)
    raise RecipeError("checkpoint", f"spectrogram networks of type {config.model_type} are not supported")


def _check_frames(network: int, extractor: int) -> None:
    if network != extractor:
        raise RecipeError("checkpoint", f"its network reads {network} frames, its feature extractor gives {extractor}")
