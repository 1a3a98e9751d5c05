"""Guarded decoding of audio: audio files, audio tracks of videos, and arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from polymodal.data.media import audio_effects
from polymodal.data.media.audio_track import (
    CHUNK_VALUES,
    AudioHeader,
    check_header,
    import_audio_package,
    open_audio_track,
    to_float,
)
from polymodal.data.media.source import MediaError
from polymodal.recipe.data import LimitOptions

VERSION = "1"
#: Samples may exceed full scale by this factor (they are clipped). Larger values are an error.
_OVERSHOOT = 8.0


@dataclass(frozen=True)
class AudioRequest:
    """Target format of decoded audio.

    sampling_rate: in Hz
    channels: 1 (the mean of all channels), or more (kept if the file has this many, else each is the mean)
    seconds: longer audio is cropped to this duration
    crop: the part that is kept: the start or the center
    trim_silence_db: trim both ends that are this many dB below the loudest moment; None keeps them
    normalization: bring the peak to -1 dB of full scale, or the RMS to -20 dB
    denoise: remove steady noise (`audio_effects.denoise`)
    voice_activity_only: keep only segments with speech (`audio_effects.keep_voiced`)
    """

    sampling_rate: int = 16_000
    channels: int = 1
    seconds: float = 10.0
    crop: Literal["start", "center"] = "start"
    trim_silence_db: float | None = None
    normalization: Literal["none", "peak", "rms"] = "none"
    denoise: bool = False
    voice_activity_only: bool = False

    @property
    def max_samples(self) -> int:
        """The maximum number of samples of decoded audio."""
        return max(1, round(self.seconds * self.sampling_rate))


def layout(request: AudioRequest) -> dict[str, tuple[str, tuple[int, ...]]]:
    """`values`: int16 `[channels]` for each sample."""
    return {"values": ("int16", (request.channels,))}


def decode(data: bytes, request: AudioRequest, limits: LimitOptions) -> dict[str, np.ndarray]:
    """`{"values": int16 [samples, channels]}` of an audio file or of the audio track of a video.

    Audio is read in chunks, each mixed down and resampled (soxr, high quality) immediately. Reading stops at a limit,
    or when everything that is kept has been read. Then, if requested, noise is removed, unvoiced segments and quiet
    ends are removed, the audio is cropped, and its level is normalized. Full scale -1 to 1 becomes -32768 to 32767,
    rounded to the nearest (halves to even) and clipped. An audio track that starts after its video is preceded by
    silence. A video without audio gives `{}`.

    Raises:
        MediaError: not audio, damaged, truncated, empty, with values that are not numbers, or over a limit (checked in
            the header and again on the decoded audio).
        MissingExtraError: the packages that read audio are not installed.
    """
    with open_audio_track(data) as track:
        if track is None:
            return {}
        check_header(track.header, limits)
        values = _convert(track.chunks, track.header, request, limits)
    return _finish(values, request)


def read_header(data: bytes) -> AudioHeader | None:
    """Sampling rate, channels and duration as stated in the file; None for a video without audio.

    Raises:
        MediaError: not audio.
    """
    with open_audio_track(data) as track:
        return None if track is None else track.header


def audio_from_array(array: Any, rate: Any, request: AudioRequest, limits: LimitOptions) -> dict[str, np.ndarray]:
    """An array of samples in the form that `decode` returns.

    array: `[samples]` or `[samples, channels]`, of floats from -1 to 1, of unsigned 8-bit or of 16- or 32-bit integers.
        Python integers count as 16-bit. Never changed in place.
    rate: its sampling rate in Hz

    Raises:
        MediaError: wrong shape or type, empty, no usable rate, values that are not numbers, or over a limit.
    """
    raw = as_samples(array)
    header = header_of_array(raw, rate)
    check_header(header, limits)
    chunks = (to_float(raw[start : start + CHUNK_VALUES]) for start in range(0, len(raw), CHUNK_VALUES))
    return _finish(_convert(chunks, header, request, limits), request)


def as_samples(array: Any) -> np.ndarray:
    """An array of samples as `[samples, channels]`; see `audio_from_array`.

    Raises:
        MediaError: the array cannot be converted.
    """
    try:
        raw = np.asarray(array)
    except (ValueError, TypeError) as error:
        raise MediaError("the audio array is not a regular array of numbers") from error
    if raw.ndim == 1:
        raw = raw[:, None]
    if raw.ndim != 2 or raw.shape[1] == 0:
        raise MediaError(f"expected an array [samples] or [samples, channels], not {list(raw.shape)}")
    if raw.dtype == np.int64 and raw.size and raw.min() >= -32_768 and raw.max() <= 32_767:
        raw = raw.astype(np.int16)
    if raw.dtype.kind != "f" and raw.dtype not in (np.uint8, np.int16, np.int32):
        raise MediaError(f"expected an array of floats from -1 to 1, or of 16- or 32-bit integers, not {raw.dtype}")
    return raw


def header_of_array(samples: np.ndarray, rate: Any) -> AudioHeader:
    """The header of `samples [samples, channels]` at `rate` Hz.

    Raises:
        MediaError: `rate` is not a sampling rate.
    """
    number = isinstance(rate, int | float | np.integer | np.floating)
    if not (number and math.isfinite(rate) and rate >= 1 and rate == int(rate)):
        raise MediaError(f"a sampling rate must be a whole number of Hz, not {rate!r}")
    return AudioHeader(int(rate), samples.shape[1], len(samples) / int(rate))


def _convert(
    chunks: Iterator[np.ndarray], header: AudioHeader, request: AudioRequest, limits: LimitOptions
) -> np.ndarray:
    """The audio at the requested rate and channels, float32 `[samples, channels]`: all of it, or its start."""
    whole = (
        request.crop != "start" or request.denoise or request.voice_activity_only or request.trim_silence_db is not None
    )
    resampler = None
    if header.sampling_rate != request.sampling_rate:
        resampler = import_audio_package("soxr").ResampleStream(
            header.sampling_rate, request.sampling_rate, request.channels, dtype="float32"
        )
    done, kept = 0, 0
    parts: list[np.ndarray] = []
    for chunk in chunks:
        done += len(chunk)
        if done > limits.seconds * header.sampling_rate:
            raise MediaError(f"the audio is longer than the limit of {limits.seconds:g} seconds")
        mixed = _mix_channels(_check_values(chunk), request.channels)
        parts.append(resampler.resample_chunk(mixed) if resampler else mixed)
        kept += len(parts[-1])
        if kept >= request.max_samples and not whole:
            break
    if done == 0:
        raise MediaError("the audio is empty (0 samples)")
    if resampler and (kept < request.max_samples or whole):
        parts.append(resampler.resample_chunk(np.zeros((0, request.channels), np.float32), last=True))
    return np.concatenate(parts)


def _check_values(chunk: np.ndarray) -> np.ndarray:
    peak = np.abs(chunk).max(initial=0)
    if not np.isfinite(peak):
        raise MediaError("the audio has values that are not finite (NaN or infinite)")
    if peak > _OVERSHOOT:
        raise MediaError(f"the audio has values up to {peak:g}; full scale is from -1 to 1")
    return chunk


def _mix_channels(chunk: np.ndarray, channels: int) -> np.ndarray:
    if chunk.shape[1] == channels:
        return np.ascontiguousarray(chunk)
    return np.repeat(chunk.mean(axis=1, keepdims=True, dtype=np.float32), channels, axis=1)


def _finish(values: np.ndarray, request: AudioRequest) -> dict[str, np.ndarray]:
    if request.denoise:
        values = audio_effects.denoise(values, request.sampling_rate)
    if request.voice_activity_only:
        values = audio_effects.keep_voiced(values, request.sampling_rate)
    if request.trim_silence_db is not None:
        values = audio_effects.trim_silence(values, request.sampling_rate, request.trim_silence_db)
    start = (len(values) - request.max_samples) // 2 if request.crop == "center" else 0
    values = values[max(0, start) :][: request.max_samples]
    if request.normalization != "none":
        values = audio_effects.normalize(values, request.normalization)
    if len(values) == 0:
        raise MediaError(f"the audio is too short: it has no sample at {request.sampling_rate} Hz")
    return {"values": np.clip(np.rint(values * 32_768), -32_768, 32_767).astype(np.int16)}
