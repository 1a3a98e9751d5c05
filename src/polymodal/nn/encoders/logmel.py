"""Waveform -> log-mel spectrogram: the first layer of most audio encoders, without parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.core.needs import needs_above
from polymodal.core.options import sized_field
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import EncoderOptions
from polymodal.nn.encoders.spec_augment import spec_augment

MIN_ENERGY = 1e-10
DYNAMIC_RANGE = 8.0  # decades (factors of 10) below the maximum of an item, at which energies are clipped
MIN_STD = 0.3  # three decibels: items with smaller variation are not amplified
CHUNK_SAMPLES = 1 << 17  # samples per transform: their spectra fit into the cache of a CPU core


class LogMelOptions(EncoderOptions):
    """Options of every encoder that reads a log-mel spectrogram."""

    n_mels: int = sized_field(40, 64, 80, ge=4, le=256)
    """Number of mel bands, from 0 Hz to half the sampling rate."""
    window_seconds: float = sized_field(0.04, 0.025, 0.025, gt=0, le=1)
    """Window of one frame in seconds. Longer windows resolve frequency better, shorter windows time."""
    hop_seconds: float = sized_field(0.02, 0.01, 0.01, gt=0, le=1)
    """Seconds from one frame to the next; at most `window_seconds`."""
    normalization: Literal["standard", "whisper"] = "standard"
    """`standard`: mean 0 and standard deviation 1 over each item, so that its loudness has no effect; `whisper`: the
    fixed scale of the Whisper models, which keeps the loudness.
    """
    num_time_masks: int = Field(default=1, ge=0, le=20)
    """Number of time masks per item in training (SpecAugment)."""
    time_mask_seconds: Annotated[float, needs_above("num_time_masks", 0)] = Field(default=0.2, gt=0, le=10)
    """Maximum length of a time mask in seconds; at most a fifth of the item."""
    num_freq_masks: int = Field(default=1, ge=0, le=20)
    """Number of frequency masks per item in training (SpecAugment)."""
    freq_mask_ratio: Annotated[float, needs_above("num_freq_masks", 0)] = Field(default=0.15, gt=0, le=1)
    """Maximum width of a frequency mask as a fraction of all mel bands."""


class LogMel(nn.Module):
    """The logarithm of the energy in frequency bands, frame by frame.

        S[t, k] = |sum_n h[n] x[t hop + n - window / 2] exp(-2 pi i k n / window)|^2
        M[t, m] = log10 max(sum_k S[t, k] W[k, m], 1e-10)
        L = max(M, max M - 8)

    with a Hann window h and the triangular filters W of `mel_filters`. Frame t is centered at sample `t * hop`. The
    waveform is reflect-padded before its start and zero-padded after its end. `max M` is the maximum over the item.
    `whisper` gives (L + 4) / 4; with 80 mels, 0.025 s, 0.010 s and 16 kHz these are the features of Radford et al.,
    "Robust Speech Recognition via Large-Scale Weak Supervision", 2023. `standard` gives (L - mean) / std over all
    frames, bands and channels of the item: a mean for each band would remove a steady tone.

    Channels are kept, `[items, channels, frames, mels]`, with a common scale, which preserves the differences between
    them. The layer always computes in fp32, without gradients. Frames after the end of an item are zero.

    Raises:
        RecipeError: `hop_seconds` is longer than `window_seconds`, or a mel band is narrower than the frequency
            resolution of the window.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, options: LogMelOptions, sampling_rate: int) -> None:
        super().__init__()
        if options.hop_seconds > options.window_seconds:
            raise RecipeError(
                "hop_seconds", f"{options.hop_seconds:g} s is longer than the window of {options.window_seconds:g} s"
            )
        self.options, self.sampling_rate = options, sampling_rate
        self.window_samples = max(2, 2 * round(options.window_seconds * sampling_rate / 2))
        self.hop_samples = max(1, round(options.hop_seconds * sampling_rate))
        filters = mel_filters(sampling_rate, self.window_samples, options.n_mels)
        if not bool(filters.any(0).all()):
            raise RecipeError(
                "n_mels",
                f"some of {options.n_mels} bands are too narrow for a window of {options.window_seconds:g} s at "
                f"{sampling_rate} Hz; use fewer bands or a longer window",
            )
        self.register_buffer("window", torch.hann_window(self.window_samples), persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    @property
    def hop_seconds(self) -> float:
        """Seconds from one frame to the next."""
        return self.hop_samples / self.sampling_rate

    def forward(self, values: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """`values [items, channels, samples]`, zero after each item's `length [items]` -> features `[items, channels,
        frames, mels]` fp32 and the number of real frames of each item, `[items]` int64, at least 1.
        """
        real = ((length + self.hop_samples - 1) // self.hop_samples).clamp_min(1)
        with torch.no_grad(), torch.autocast(values.device.type, enabled=False):
            # Frames that only overlap the end of an item are not returned, but may hold its maximum.
            mel = self._log_energy(values.float())
            loudest = mel.amax((1, 2, 3), keepdim=True)
            mel = (mel - loudest).clamp_min_(-DYNAMIC_RANGE)[:, :, : -(-values.shape[2] // self.hop_samples)]
            mask = length_mask(real, mel.shape[2])
            outside = ~mask[:, None, :, None]
            whisper = self.options.normalization == "whisper"
            mel = (mel + loudest + 4) / 4 if whisper else _standardize(mel, outside, real)
            mel = mel.masked_fill(outside, 0.0)
            if self.training:
                mel = spec_augment(
                    mel,
                    real,
                    num_time_masks=self.options.num_time_masks,
                    time_mask_width=self.options.time_mask_seconds / self.hop_seconds,
                    num_freq_masks=self.options.num_freq_masks,
                    freq_mask_width=self.options.freq_mask_ratio * self.options.n_mels,
                )
        return mel, real

    def _log_energy(self, values: Tensor) -> Tensor:
        """M of the formula, `[items, channels, frames that overlap the samples, mels]`."""
        items, channels, samples = values.shape
        half = self.window_samples // 2
        frames = -(-(samples + half) // self.hop_samples)
        after = max((frames - 1) * self.hop_samples + half, half + 1) - samples
        result = values.new_empty(items * channels, frames, self.options.n_mels)
        for start in range(0, len(result), step := max(1, CHUNK_SAMPLES // samples)):
            waveform = F.pad(values.flatten(0, 1)[start : start + step], (half, after))
            waveform[:, :half] = waveform[:, half + 1 : 2 * half + 1].flip(1)
            spectrum = torch.fft.rfft(
                waveform.unfold(1, self.window_samples, self.hop_samples)[:, :frames] * self.window
            )
            power = torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)
            part = torch.matmul(power, self.filters, out=result[start : start + step])
            part.clamp_min_(MIN_ENERGY).log10_()
        return result.view(items, channels, frames, -1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to the device of the network, but stay in fp32: rounding to bf16 would change the filters."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.filters.dtype != torch.float32:
            device = self.filters.device
            self.window = torch.hann_window(self.window_samples, device=device)
            self.filters = mel_filters(self.sampling_rate, self.window_samples, self.options.n_mels).to(device)
        return self


def _standardize(mel: Tensor, outside: Tensor, real: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 over the real frames of each item; a silent item (0 everywhere) stays 0."""
    count = (real * mel.shape[1] * mel.shape[3]).view(-1, 1, 1, 1)
    mean = mel.masked_fill(outside, 0.0).sum((1, 2, 3), keepdim=True) / count
    centered = (mel - mean).masked_fill(outside, 0.0)
    std = (centered.square().sum((1, 2, 3), keepdim=True) / count).sqrt()
    return centered / std.clamp_min(MIN_STD)


def mel_filters(sampling_rate: int, window_samples: int, n_mels: int) -> Tensor:
    """Triangular filters `[window_samples / 2 + 1, n_mels]` fp32, evenly spaced on Slaney's mel scale from 0 Hz to
    half the sampling rate, each of area 1 (Slaney, "Auditory Toolbox", 1998).

        mel(f) = f / (200 / 3) below 1000 Hz, 15 + 27 ln(f / 1000) / ln 6.4 above
        W[k, m] = 2 / (f_{m+2} - f_m) max(0, min((f_k - f_m) / (f_{m+1} - f_m), (f_{m+2} - f_k) / (f_{m+2} - f_{m+1})))
    """
    edges = _frequency(torch.linspace(0, _mel(sampling_rate / 2), n_mels + 2, dtype=torch.float64))
    frequency = torch.linspace(0, sampling_rate / 2, window_samples // 2 + 1, dtype=torch.float64).unsqueeze(1)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    triangle = torch.minimum((frequency - low) / (middle - low), (high - frequency) / (high - middle)).clamp_min(0)
    return (triangle * 2 / (high - low)).float()


def _mel(frequency: float) -> float:
    return frequency * 3 / 200 if frequency < 1000 else 15 + 27 * math.log(frequency / 1000) / math.log(6.4)


def _frequency(mel: Tensor) -> Tensor:
    """The inverse of `_mel`."""
    return torch.where(mel < 15, mel * 200 / 3, 1000 * torch.exp((mel - 15) * math.log(6.4) / 27))
