"""The audio track of a file: detected, described by its header, and read in chunks."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from polymodal.core.errors import MissingExtraError
from polymodal.data.media.animation import is_animated
from polymodal.data.media.formats import ANIMATIONS, check_format
from polymodal.data.media.source import MediaError
from polymodal.recipe.data import LimitOptions

#: Values read at a time. libsndfile seeks after each read, which is slow for MP3, so chunks are large.
CHUNK_VALUES = 2**19
#: An audio track that starts later than its video by more than this many seconds is preceded by silence.
_LATE = 0.02
# FFmpeg demuxer of each format in `formats`.
_CONTAINERS = {
    "WAV": "wav",
    "FLAC": "flac",
    "MP3": "mp3",
    "AAC": "aac",
    "OGG": "ogg",
    "MP4": "mov",
    "Matroska": "matroska",
    "AVI": "avi",
    "MPEG": "mpegts",
}


@dataclass(frozen=True)
class AudioHeader:
    """Audio properties stated in a file. `seconds` is None if unknown, and may be wrong."""

    sampling_rate: int
    channels: int
    seconds: float | None


@dataclass(frozen=True)
class AudioTrack:
    """An open audio track. `chunks` yields float32 `[samples, channels]`, full scale from -1 to 1, in order, once."""

    header: AudioHeader
    chunks: Iterator[np.ndarray]


@contextmanager
def open_audio_track(data: bytes) -> Iterator[AudioTrack | None]:
    """The audio in `data`; None for a video without audio, including every animation.

    Audio files are read by libsndfile, which is faster. FFmpeg reads the audio tracks of videos, and codecs that
    libsndfile lacks.

    Raises:
        MediaError: empty, damaged, or in an unsupported format.
        MissingExtraError: the packages that read audio are not installed.
    """
    name = check_format("audio", data)
    if name in ANIMATIONS:
        if name != "GIF" and not is_animated(data):
            raise MediaError(f"a still image ({name}) has no audio")
        yield None
        return
    soundfile, av = import_audio_package("soundfile"), import_audio_package("av")
    with _translate_errors():
        file = None
        if name in ("WAV", "FLAC", "OGG") or (name == "MP3" and _has_length_table(data)):
            try:
                file = soundfile.SoundFile(io.BytesIO(data))
            except soundfile.LibsndfileError:  # an unsupported codec, or damage: FFmpeg decides
                file = None
        if file is not None:
            with file:
                yield _plain_track(file)
            return
        container = "mpeg" if data[:4] == b"\x00\x00\x01\xba" else _CONTAINERS[name]
        container = "mpegvideo" if data[:4] == b"\x00\x00\x01\xb3" else container
        with av.open(io.BytesIO(data), format=container, options={"protocol_whitelist": ""}) as opened:
            yield _stream_track(opened)


def import_audio_package(name: str) -> ModuleType:
    """Import a package of the extra `audio`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtraError(name, "audio", "reading audio") from None


def check_header(header: AudioHeader, limits: LimitOptions) -> None:
    """Check a header against the limits.

    Raises:
        MediaError: a value is over its limit.
    """
    if header.sampling_rate < 1 or header.channels < 1:
        raise MediaError("the audio is damaged: its header has no sampling rate or no channels")
    if header.sampling_rate > limits.sampling_rate:
        raise MediaError(f"a sampling rate of {header.sampling_rate} Hz is over the limit of {limits.sampling_rate} Hz")
    if header.channels > limits.channels:
        raise MediaError(f"{header.channels} channels are over the limit of {limits.channels}")
    if header.seconds is not None and header.seconds > limits.seconds:
        raise MediaError(f"{header.seconds:.1f} seconds of audio are over the limit of {limits.seconds:g}")


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Turn any exception of the decoders, which damaged files cause, into a message for the user."""
    try:
        yield
    except (MediaError, MissingExtraError):
        raise
    except MemoryError as error:
        raise MediaError("the audio does not fit into memory") from error
    except Exception as error:
        raise MediaError("the audio is damaged or incomplete") from error


def _plain_track(file: Any) -> AudioTrack:
    """The audio of a file that has no other streams."""

    def chunks() -> Iterator[np.ndarray]:
        done, count = 0, CHUNK_VALUES // max(1, file.channels)
        while len(samples := file.read(count, dtype="float32", always_2d=True)):
            done += len(samples)
            yield samples
        if done < file.frames:
            raise MediaError(f"the audio ends after {done} of the {file.frames} samples in its header")

    return AudioTrack(AudioHeader(file.samplerate, file.channels, file.frames / max(1, file.samplerate)), chunks())


def _stream_track(container: Any) -> AudioTrack | None:
    """The first audio track of a container; None if the container has only images."""
    if not container.streams.audio:
        if container.streams.video:
            return None
        raise MediaError("the file has no audio")
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise MediaError("the audio codec is not supported")
    header = AudioHeader(stream.rate or 0, stream.channels, _seconds(container, stream))

    def chunks() -> Iterator[np.ndarray]:
        first, done = True, 0
        for frame in container.decode(stream):
            if frame.sample_rate != header.sampling_rate or frame.layout.nb_channels != header.channels:
                raise MediaError("the audio changes its sampling rate or number of channels")
            if first and container.streams.video and frame.time is not None:
                late = frame.time - (container.start_time or 0) / 1e6
                if late > _LATE:
                    yield from _silence(late, header)
            first, done = False, done + frame.samples
            yield _samples(frame, header.channels)
        promised = float(stream.duration * stream.time_base) if stream.duration else 0.0
        if "mov" in container.format.name and done / header.sampling_rate < 0.9 * promised - _LATE:
            raise MediaError("the audio is much shorter than its header states")

    return AudioTrack(header, chunks())


def _has_length_table(data: bytes) -> bool:
    """Whether an MP3 begins with a table of its length. Without one, only reading it to the end gives its length:
    soundfile estimates it from the first bit rate, which can be far off."""
    start = 0
    if data[:3] == b"ID3" and len(data) >= 10:  # skip tags: their size is in four bytes of seven bits
        start = 10 + sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    return any(word in data[start : start + 200] for word in (b"Xing", b"Info", b"VBRI"))


def _seconds(container: Any, stream: Any) -> float | None:
    if container.format.name in ("mp3", "aac"):  # only an estimate from the first bit rate
        return None
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1e6


def _silence(seconds: float, header: AudioHeader) -> Iterator[np.ndarray]:
    left = round(seconds * header.sampling_rate)
    while left > 0:
        count = min(left, CHUNK_VALUES // header.channels)
        yield np.zeros((count, header.channels), np.float32)
        left -= count


def _samples(frame: Any, channels: int) -> np.ndarray:
    """A decoded frame as float32 `[samples, channels]`."""
    raw = frame.to_ndarray()
    raw = raw.T if frame.format.is_planar else raw.reshape(-1, channels)
    return to_float(raw)


def to_float(raw: np.ndarray) -> np.ndarray:
    """Samples as float32 of full scale -1 to 1. Integers are divided by 2 to the (bits - 1); 8-bit integers are
    centered first.

    Raises:
        MediaError: they are neither floats nor integers of 8 (unsigned), 16 or 32 bits.
    """
    if raw.dtype.kind == "f":
        return raw.astype(np.float32)
    if raw.dtype == np.uint8:
        return (raw.astype(np.float32) - 128) / 128
    if raw.dtype in (np.int16, np.int32):
        return (raw / 2.0 ** (8 * raw.dtype.itemsize - 1)).astype(np.float32)
    raise MediaError(
        f"samples of type {raw.dtype} are not supported: use floats from -1 to 1, or integers of 16 or 32 bits"
    )
