"""Token layouts of pretrained audio networks: the time of each token, and the number of real tokens of an item."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from typing import Any

import torch
from torch import Tensor

from polymodal.core.errors import RecipeError
from polymodal.pretrained.audio_features import AudioFeatureExtractor, SpectrogramExtractor


class AudioTokenLayout(ABC):
    """Tokens with a constant stride in time.

    first_token_seconds, stride_seconds: time of the center of the first token, and time from one token to the next
    receptive_field: minimum number of samples that the network requires
    """

    first_token_seconds: float
    stride_seconds: float
    receptive_field: int = 1

    @abstractmethod
    def num_tokens(self, length: Tensor) -> Tensor:
        """The number of real tokens of audio of `length [items]` samples, int64, at least 1."""

    def merge_frequencies(self, hidden: Tensor) -> Tensor:
        """The last hidden states of the network -> `[items, tokens, width]`, averaged over tokens of the same time."""
        return hidden

    def times(self, tokens: int, device: torch.device) -> Tensor:
        """The times of the centers of the first `tokens` tokens, `[tokens]` fp32 in seconds."""
        return self.first_token_seconds + self.stride_seconds * torch.arange(tokens, dtype=torch.float32, device=device)


class WaveformTokenLayout(AudioTokenLayout):
    """Tokens of convolutions over the waveform (wav2vec 2.0, HuBERT, WavLM); their number depends on the length.

    equal_length_only: whether only items of equal length may be batched, since padding affects real positions: through
        group norms, which average over time, and through convolutions in or after the layers. This is the case for all
        networks that were trained without a mask.
    """

    def __init__(self, extractor: AudioFeatureExtractor, config: Any) -> None:
        self.kernels, self.strides = list(config.conv_kernel), list(config.conv_stride)
        if getattr(config, "add_adapter", False):
            self.kernels += [1] * config.num_adapter_layers
            self.strides += [config.adapter_stride] * config.num_adapter_layers
        self.receptive_field = 1 + sum(
            (kernel - 1) * prod(self.strides[:index]) for index, kernel in enumerate(self.kernels)
        )
        self.first_token_seconds = (self.receptive_field - 1) / 2 / extractor.sampling_rate
        self.stride_seconds = prod(self.strides) / extractor.sampling_rate
        local = getattr(config, "feat_extract_norm", "") == "layer" and not hasattr(
            config, "conv_depthwise_kernel_size"
        )
        has_mask = bool(getattr(extractor, "returns_mask", False))
        self.equal_length_only = not (has_mask and local) or getattr(config, "add_adapter", False)

    def num_tokens(self, length: Tensor) -> Tensor:
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            length = (length - kernel) // stride + 1
        return length.clamp_min(1)


class SpectrogramTokenLayout(AudioTokenLayout):
    """Tokens over a spectrogram with a fixed number of frames.

    max_tokens: number of tokens in time, for any length of the audio
    stride, patch: frames from one token to the next, and frames per token
    num_frequencies: number of tokens of the same time; tokens are ordered by frequency first
    num_prefix_tokens: number of tokens before them (class and distillation tokens)
    """

    def __init__(
        self,
        extractor: SpectrogramExtractor,
        max_tokens: int,
        stride: float,
        patch: float,
        num_frequencies: int = 1,
        num_prefix_tokens: int = 0,
    ) -> None:
        self.extractor, self.max_tokens, self.stride = extractor, max_tokens, stride
        self.num_frequencies, self.num_prefix_tokens = num_frequencies, num_prefix_tokens
        self.first_token_seconds = extractor.first_frame_seconds + (patch - 1) / 2 * extractor.hop_seconds
        self.stride_seconds = stride * extractor.hop_seconds

    def num_tokens(self, length: Tensor) -> Tensor:
        return torch.ceil(self.extractor.valid_frames(length) / self.stride - 1e-4).long().clamp(1, self.max_tokens)

    def merge_frequencies(self, hidden: Tensor) -> Tensor:
        if hidden.dim() == 4:  # [items, width, frequencies, time]
            return hidden.mean(2).transpose(1, 2)
        hidden = hidden[:, self.num_prefix_tokens :]
        if self.num_frequencies == 1:
            return hidden
        return hidden.reshape(len(hidden), self.num_frequencies, self.max_tokens, -1).mean(1)


def audio_token_layout(extractor: AudioFeatureExtractor, config: Any) -> AudioTokenLayout:
    """The token layout of a network, from its configuration and its feature extractor.

    Raises:
        RecipeError: the network does not match its feature extractor, or its architecture is not supported.
    """
    if not isinstance(extractor, SpectrogramExtractor):
        if not hasattr(config, "conv_stride"):
            raise RecipeError("checkpoint", f"waveform networks of type {config.model_type} are not supported")
        return WaveformTokenLayout(extractor, config)
    bands, frames = getattr(config, "num_mel_bins", extractor.n_mels), extractor.num_frames
    if bands != extractor.n_mels:
        raise RecipeError(
            "checkpoint", f"its network reads {bands} bands, its feature extractor gives {extractor.n_mels}"
        )
    if hasattr(config, "max_source_positions"):  # Whisper: convolutions with strides of 1 and 2
        _check_frames(2 * config.max_source_positions, frames)
        return SpectrogramTokenLayout(extractor, config.max_source_positions, stride=2, patch=1)
    if hasattr(config, "time_stride"):  # AST: patches, after a class token and a distillation token
        _check_frames(config.max_length, frames)
        patch, stride = config.patch_size, config.time_stride
        num_frequencies = (bands - patch) // config.frequency_stride + 1
        return SpectrogramTokenLayout(extractor, (frames - patch) // stride + 1, stride, patch, num_frequencies, 2)
    if hasattr(config, "spec_size"):  # CLAP: the spectrogram folded into a square of patches, merged at each stage
        folds = config.spec_size // bands
        patch = config.patch_stride if isinstance(config.patch_stride, int) else config.patch_stride[1]
        tokens = folds * (config.spec_size // patch // 2 ** (len(config.depths) - 1))
        return SpectrogramTokenLayout(extractor, tokens, stride=frames / tokens, patch=frames / tokens)
    raise RecipeError("checkpoint", f"spectrogram networks of type {config.model_type} are not supported")


def _check_frames(network: int, extractor: int) -> None:
    if network != extractor:
        raise RecipeError("checkpoint", f"its network reads {network} frames, its feature extractor gives {extractor}")
