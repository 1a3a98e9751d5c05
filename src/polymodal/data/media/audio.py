"""Guarded decoding of sounds: files, the sound tracks of clips, and arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from polymodal.data.media import audio_effects
from polymodal.data.media.source import MediaError
from polymodal.data.media.audio_track import STRETCH, Header, check_header, open_track, package, to_float
from polymodal.recipe.data import LimitOptions

VERSION = "1"
#: Samples of files and arrays may pass full scale by this factor (they are clipped); more is no sound in -1 to 1.
_OVERSHOOT = 8.0


@dataclass(frozen=True)
class AudioRequest:
    """What a decoded sound shall be.

    rate: sample rate in Hz
    channels: 1 (the mean of all channels), or more (kept where the sound has as many, else the mean in each)
    seconds: of a longer sound, this much is kept
    keep: which part of it: its start or its middle
    trim: cut the ends that stay this many dB below the loudest moment; None keeps them
    normalise: bring the peak to -1 dB of full scale, or the RMS to -20 dB
    denoise: gate steady noise (`audio_effects.denoise`)
    voice: keep only stretches with a voice (`audio_effects.voiced`)
    """

    rate: int = 16_000
    channels: int = 1
    seconds: float = 10.0
    keep: Literal["start", "middle"] = "start"
    trim: float | None = None
    normalise: Literal["none", "peak", "rms"] = "none"
    denoise: bool = False
    voice: bool = False

    @property
    def samples(self) -> int:
        """The most samples that a decoded sound has."""
        return max(1, round(self.seconds * self.rate))


def layout(request: AudioRequest) -> dict[str, tuple[str, tuple[int, ...]]]:
    """`values`: int16 `[channels]` for each sample."""
    return {"values": ("int16", (request.channels,))}


def decode(data: bytes, request: AudioRequest, limits: LimitOptions) -> dict[str, np.ndarray]:
    """`{"values": int16 [samples, channels]}` of a sound file or of the sound track of a clip.

    Read in stretches, each mixed down and resampled (soxr, high quality) at once; reading stops at a limit, and when
    all that is kept is there. Then, where asked: noise is gated, unvoiced stretches and quiet ends are cut, the kept
    part is taken, and its level is set. Full scale -1 to 1 becomes -32768 to 32767, rounded to the nearest (halves to
    even) and clipped. A sound track that starts after its clip has silence before it. A clip without sound gives `{}`.

    Raises:
        MediaError: not a sound, damaged, cut off, empty, with values that are no numbers, or over a limit (checked in
            the header and again on what is decoded).
        MissingExtraError: the packages that read sounds are not installed.
    """
    with open_track(data) as track:
        if track is None:
            return {}
        check_header(track.header, limits)
        values = _convert(track.stretches, track.header, request, limits)
    return _finish(values, request)


def header(data: bytes) -> Header | None:
    """Sample rate, channels and duration as the file states them; None for a clip without sound.

    Raises:
        MediaError: not a sound.
    """
    with open_track(data) as track:
        return None if track is None else track.header


def sound_from_array(array: Any, rate: Any, request: AudioRequest, limits: LimitOptions) -> dict[str, np.ndarray]:
    """An array of samples as `decode` gives a file.

    array: `[samples]` or `[samples, channels]`, of floats from -1 to 1, of unsigned 8-bit or of 16- or 32-bit
        integers; Python integers count as 16-bit. Never changed in place.
    rate: its sample rate in Hz

    Raises:
        MediaError: of another shape or type, empty, of no usable rate, with values that are no numbers, or over
            a limit.
    """
    raw = as_samples(array)
    found = array_header(raw, rate)
    check_header(found, limits)
    stretches = (to_float(raw[start : start + STRETCH]) for start in range(0, len(raw), STRETCH))
    return _finish(_convert(stretches, found, request, limits), request)


def as_samples(array: Any) -> np.ndarray:
    """An array of samples as `[samples, channels]`; see `sound_from_array`.

    Raises:
        MediaError: it cannot be that.
    """
    try:
        raw = np.asarray(array)
    except (ValueError, TypeError) as error:
        raise MediaError("the array of the sound is not a regular array of numbers") from error
    if raw.ndim == 1:
        raw = raw[:, None]
    if raw.ndim != 2 or raw.shape[1] == 0:
        raise MediaError(f"an array [samples] or [samples, channels] was expected, not {list(raw.shape)}")
    if raw.dtype == np.int64 and raw.size and raw.min() >= -32_768 and raw.max() <= 32_767:
        raw = raw.astype(np.int16)
    if raw.dtype.kind != "f" and raw.dtype not in (np.uint8, np.int16, np.int32):
        raise MediaError(f"an array of floats from -1 to 1, or of 16- or 32-bit integers was expected, not {raw.dtype}")
    return raw


def array_header(samples: np.ndarray, rate: Any) -> Header:
    """What a file would say of `samples [samples, channels]` at `rate` Hz.

    Raises:
        MediaError: that is no sample rate.
    """
    number = isinstance(rate, int | float | np.integer | np.floating)
    if not (number and math.isfinite(rate) and rate >= 1 and rate == int(rate)):
        raise MediaError(f"a sample rate is a whole number of Hz, not {rate!r}")
    return Header(int(rate), samples.shape[1], len(samples) / int(rate))


def _convert(
    stretches: Iterator[np.ndarray], found: Header, request: AudioRequest, limits: LimitOptions
) -> np.ndarray:
    """The sound at the request's rate and channels, float32 `[samples, channels]`: all of it, or its start."""
    whole = request.keep != "start" or request.denoise or request.voice or request.trim is not None
    resampler = None
    if found.rate != request.rate:
        resampler = package("soxr").ResampleStream(found.rate, request.rate, request.channels, dtype="float32")
    done, kept = 0, 0
    parts: list[np.ndarray] = []
    for stretch in stretches:
        done += len(stretch)
        if done > limits.seconds * found.rate:
            raise MediaError(f"the sound goes on beyond the limit of {limits.seconds:g} seconds")
        mixed = _mix_channels(_check_values(stretch), request.channels)
        parts.append(resampler.resample_chunk(mixed) if resampler else mixed)
        kept += len(parts[-1])
        if kept >= request.samples and not whole:
            break
    if done == 0:
        raise MediaError("the sound is empty (0 samples)")
    if resampler and (kept < request.samples or whole):
        parts.append(resampler.resample_chunk(np.zeros((0, request.channels), np.float32), last=True))
    return np.concatenate(parts)


def _check_values(stretch: np.ndarray) -> np.ndarray:
    peak = np.abs(stretch).max(initial=0)
    if not np.isfinite(peak):
        raise MediaError("the sound holds values that are not numbers (NaN or infinite)")
    if peak > _OVERSHOOT:
        raise MediaError(f"the sound holds values up to {peak:g}; full scale is from -1 to 1")
    return stretch


def _mix_channels(stretch: np.ndarray, channels: int) -> np.ndarray:
    if stretch.shape[1] == channels:
        return np.ascontiguousarray(stretch)
    return np.repeat(stretch.mean(axis=1, keepdims=True, dtype=np.float32), channels, axis=1)


def _finish(values: np.ndarray, request: AudioRequest) -> dict[str, np.ndarray]:
    if request.denoise:
        values = audio_effects.denoise(values, request.rate)
    if request.voice:
        values = audio_effects.voiced(values, request.rate)
    if request.trim is not None:
        values = audio_effects.trim(values, request.rate, request.trim)
    start = (len(values) - request.samples) // 2 if request.keep == "middle" else 0
    values = values[max(0, start) :][: request.samples]
    if request.normalise != "none":
        values = audio_effects.normalise(values, request.normalise)
    if len(values) == 0:
        raise MediaError(f"the sound is too short: it has no sample at {request.rate} Hz")
    return {"values": np.clip(np.rint(values * 32_768), -32_768, 32_767).astype(np.int16)}
