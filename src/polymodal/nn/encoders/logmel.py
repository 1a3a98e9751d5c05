"""Waveforms to log-mel spectrograms: the first layer of most audio encoders, without parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.core.options import sized
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import EncoderOptions
from polymodal.nn.encoders.spec_augment import spec_augment

FLOOR = 1e-10
DECADES = 8.0  # what is so far below the loudest place of a clip counts as silent
LEAST_DEVIATION = 0.3  # three decibels: smaller differences are not made to look larger
CHUNK = 1 << 17  # samples transformed at once: their spectra stay in the cache of a processor core


class LogMelOptions(EncoderOptions):
    """What every encoder that hears through a log-mel spectrogram lets the user choose."""

    mels: int = sized(40, 64, 80, ge=4, le=256)
    """Frequency bands, as wide as the ear tells pitches apart (mel scale), from 0 Hz to half the sample rate."""
    window: float = sized(0.04, 0.025, 0.025, gt=0, le=1)
    """Seconds of sound behind one frame; longer tells frequencies, shorter tells moments better."""
    hop: float = sized(0.02, 0.01, 0.01, gt=0, le=1)
    """Seconds from one frame to the next; at most `window`."""
    normalise: Literal["standard", "whisper"] = "standard"
    """`standard`: mean 0 and deviation 1 over each clip, so that its loudness does not count; `whisper`: the fixed
    scale of the Whisper models, which keeps it.
    """
    time_masks: int = Field(default=1, ge=0, le=20)
    """Stretches of time hidden from each clip in training (SpecAugment)."""
    time_width: float = Field(default=0.2, gt=0, le=10)
    """The longest of them in seconds; never more than a fifth of a clip."""
    band_masks: int = Field(default=1, ge=0, le=20)
    """Ranges of neighbouring bands hidden from each clip in training (SpecAugment)."""
    band_width: float = Field(default=0.15, gt=0, le=1)
    """The widest of them as a share of all bands."""


class LogMel(nn.Module):
    """The logarithm of the energy in frequency bands, frame by frame.

        S[t, k] = |sum_n h[n] x[t hop + n - window / 2] exp(-2 pi i k n / window)|^2
        M[t, m] = log10 max(sum_k S[t, k] W[k, m], 1e-10)
        L = max(M, max M - 8)

    with a Hann window h and the triangular filters W of `mel_filters`. Frame t is centred at sample t hop; before its
    start a clip is mirrored, after its end there is silence, as if it were padded far. `max M` is taken over the clip.
    `whisper` gives (L + 4) / 4, which with 80 mels, 0.025 s, 0.010 s and 16 kHz are the features of Radford et al.,
    "Robust Speech Recognition via Large-Scale Weak Supervision", 2023. `standard` gives (L - mean) / deviation over
    all frames, bands and channels of the clip: a mean for each band would erase a steady tone.

    Channels stay apart, `[items, channels, frames, mels]`, on one common scale, so that differences between them are
    seen. Computed in fp32 whatever surrounds it, without gradients. Frames after a clip's end are zero.

    Raises:
        RecipeError: `hop` is longer than `window`, or a band is narrower than the window can tell.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, options: LogMelOptions, rate: int) -> None:
        super().__init__()
        if options.hop > options.window:
            raise RecipeError("hop", f"{options.hop:g} s is longer than the window of {options.window:g} s")
        self.options, self.rate = options, rate
        self.samples = max(2, 2 * round(options.window * rate / 2))
        self.hop = max(1, round(options.hop * rate))
        filters = mel_filters(rate, self.samples, options.mels)
        if not bool(filters.any(0).all()):
            raise RecipeError(
                "mels",
                f"some of {options.mels} bands are too narrow for a window of {options.window:g} s at {rate} Hz; "
                "take fewer bands or a longer window",
            )
        self.register_buffer("window", torch.hann_window(self.samples), persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    @property
    def seconds(self) -> float:
        """From one frame to the next."""
        return self.hop / self.rate

    def forward(self, values: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """`values [items, channels, samples]`, zero after each item's `length [items]` -> features `[items, channels,
        frames, mels]` fp32 and the number of real frames of each item, `[items]` int64, at least 1.
        """
        real = ((length + self.hop - 1) // self.hop).clamp_min(1)
        with torch.no_grad(), torch.autocast(values.device.type, enabled=False):
            # Frames that only touch a clip's end are not returned, but its loudest place may be there.
            mel = self._logarithm(values.float())
            loudest = mel.amax((1, 2, 3), keepdim=True)
            mel = (mel - loudest).clamp_min_(-DECADES)[:, :, : -(-values.shape[2] // self.hop)]
            mask = length_mask(real, mel.shape[2])
            outside = ~mask[:, None, :, None]
            whisper = self.options.normalise == "whisper"
            mel = (mel + loudest + 4) / 4 if whisper else _standardised(mel, outside, real)
            mel = mel.masked_fill(outside, 0.0)
            if self.training:
                mel = spec_augment(
                    mel,
                    real,
                    times=self.options.time_masks,
                    time_width=self.options.time_width / self.seconds,
                    bands=self.options.band_masks,
                    band_width=self.options.band_width * self.options.mels,
                )
        return mel, real

    def _logarithm(self, values: Tensor) -> Tensor:
        """M of the formula, `[items, channels, frames that touch the samples, mels]`."""
        items, channels, samples = values.shape
        half = self.samples // 2
        frames = -(-(samples + half) // self.hop)
        after = max((frames - 1) * self.hop + half, half + 1) - samples
        result = values.new_empty(items * channels, frames, self.options.mels)
        for start in range(0, len(result), step := max(1, CHUNK // samples)):
            sound = F.pad(values.flatten(0, 1)[start : start + step], (half, after))
            sound[:, :half] = sound[:, half + 1 : 2 * half + 1].flip(1)
            spectrum = torch.fft.rfft(sound.unfold(1, self.samples, self.hop)[:, :frames] * self.window)
            power = torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)
            part = torch.matmul(power, self.filters, out=result[start : start + step])
            part.clamp_min_(FLOOR).log10_()
        return result.view(items, channels, frames, -1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow the network to its device, but stay fp32: filters in bf16 would be other filters."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.filters.dtype != torch.float32:
            device = self.filters.device
            self.window = torch.hann_window(self.samples, device=device)
            self.filters = mel_filters(self.rate, self.samples, self.options.mels).to(device)
        return self


def _standardised(mel: Tensor, outside: Tensor, real: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over the real frames of each item; a silent item, which is 0 everywhere, stays 0."""
    count = (real * mel.shape[1] * mel.shape[3]).view(-1, 1, 1, 1)
    mean = mel.masked_fill(outside, 0.0).sum((1, 2, 3), keepdim=True) / count
    centred = (mel - mean).masked_fill(outside, 0.0)
    deviation = (centred.square().sum((1, 2, 3), keepdim=True) / count).sqrt()
    return centred / deviation.clamp_min(LEAST_DEVIATION)


def mel_filters(rate: int, samples: int, mels: int) -> Tensor:
    """Triangular filters `[samples / 2 + 1, mels]` fp32, evenly spaced on Slaney's mel scale from 0 Hz to half the
    rate, each of area 1 (Slaney, "Auditory Toolbox", 1998).

        mel(f) = f / (200 / 3) below 1000 Hz, 15 + 27 ln(f / 1000) / ln 6.4 above
        W[k, m] = 2 / (f_{m+2} - f_m) max(0, min((f_k - f_m) / (f_{m+1} - f_m), (f_{m+2} - f_k) / (f_{m+2} - f_{m+1})))
    """
    edges = _frequency(torch.linspace(0, _mel(rate / 2), mels + 2, dtype=torch.float64))
    place = torch.linspace(0, rate / 2, samples // 2 + 1, dtype=torch.float64).unsqueeze(1)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    triangle = torch.minimum((place - low) / (middle - low), (high - place) / (high - middle)).clamp_min(0)
    return (triangle * 2 / (high - low)).float()


def _mel(frequency: float) -> float:
    return frequency * 3 / 200 if frequency < 1000 else 15 + 27 * math.log(frequency / 1000) / math.log(6.4)


def _frequency(mel: Tensor) -> Tensor:
    """The inverse of `_mel`."""
    return torch.where(mel < 15, mel * 200 / 3, 1000 * torch.exp((mel - 15) * math.log(6.4) / 27))
