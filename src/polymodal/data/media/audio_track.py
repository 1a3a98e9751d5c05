"""The sound track of a file: found, described by its header, and read in stretches."""

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
from polymodal.data.media.animation import moving
from polymodal.data.media.formats import ANIMATIONS, check_format
from polymodal.data.media.source import MediaError
from polymodal.recipe.data import LimitOptions

#: Numbers read at a time. The reader of plain sounds seeks after each time, which is slow in MP3, so these are many.
STRETCH = 2**19
#: A sound track of a clip that starts later than the clip by more than this many seconds has silence put before it.
_LATE = 0.02
# What the readers of streams call each format that `formats` knows.
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
class Header:
    """What a file says of its sound. `seconds` is None where it does not say, and may be wrong where it does."""

    rate: int
    channels: int
    seconds: float | None


@dataclass(frozen=True)
class Track:
    """An open sound. `stretches` yields float32 `[samples, channels]`, full scale from -1 to 1, in order, once."""

    header: Header
    stretches: Iterator[np.ndarray]


@contextmanager
def open_track(data: bytes) -> Iterator[Track | None]:
    """The sound in `data`; None for a clip that has none, as all animations.

    Plain sounds are read by libsndfile, which is faster; sound tracks, and codecs that it lacks, by FFmpeg.

    Raises:
        MediaError: empty, damaged, or of a format that is not read.
        MissingExtraError: the packages that read sounds are not installed.
    """
    name = check_format("audio", data)
    if name in ANIMATIONS:
        if name != "GIF" and not moving(data):
            raise MediaError(f"a still picture ({name}) is not a sound")
        yield None
        return
    soundfile, av = package("soundfile"), package("av")
    with _translate_errors():
        file = None
        if name in ("WAV", "FLAC", "OGG") or (name == "MP3" and _has_length_table(data)):
            try:
                file = soundfile.SoundFile(io.BytesIO(data))
            except soundfile.LibsndfileError:  # a codec that it lacks, or damage: the other reader tells
                file = None
        if file is not None:
            with file:
                yield _plain_track(file)
            return
        container = "mpeg" if data[:4] == b"\x00\x00\x01\xba" else _CONTAINERS[name]
        container = "mpegvideo" if data[:4] == b"\x00\x00\x01\xb3" else container
        with av.open(io.BytesIO(data), format=container, options={"protocol_whitelist": ""}) as opened:
            yield _stream_track(opened)


def package(name: str) -> ModuleType:
    """One of the packages of the extra `audio`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtraError(name, "audio", "reading sounds") from None


def check_header(header: Header, limits: LimitOptions) -> None:
    """Refuse a sound whose header is over a limit.

    Raises:
        MediaError: it says which limit.
    """
    if header.rate < 1 or header.channels < 1:
        raise MediaError("the sound is damaged: its header has no sample rate or no channels")
    if header.rate > limits.sampling_rate:
        raise MediaError(f"a sample rate of {header.rate} Hz is over the limit of {limits.sampling_rate} Hz")
    if header.channels > limits.channels:
        raise MediaError(f"{header.channels} channels are over the limit of {limits.channels}")
    if header.seconds is not None and header.seconds > limits.seconds:
        raise MediaError(f"{header.seconds:.1f} seconds of sound are over the limit of {limits.seconds:g}")


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Damaged files raise almost anything from the decoders; each becomes one reason that a user understands."""
    try:
        yield
    except (MediaError, MissingExtraError):
        raise
    except MemoryError as error:
        raise MediaError("the sound does not fit into memory") from error
    except Exception as error:
        raise MediaError("the sound is damaged or incomplete") from error


def _plain_track(file: Any) -> Track:
    """The sound of a file that holds nothing else."""

    def stretches() -> Iterator[np.ndarray]:
        done, count = 0, STRETCH // max(1, file.channels)
        while len(samples := file.read(count, dtype="float32", always_2d=True)):
            done += len(samples)
            yield samples
        if done < file.frames:
            raise MediaError(f"the sound ends after {done} of the {file.frames} samples that its header promises")

    return Track(Header(file.samplerate, file.channels, file.frames / max(1, file.samplerate)), stretches())


def _stream_track(container: Any) -> Track | None:
    """The first sound track of a container; None if it has pictures only."""
    if not container.streams.audio:
        if container.streams.video:
            return None
        raise MediaError("the file holds no sound")
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise MediaError("the sound is in a codec that is not read")
    header = Header(stream.rate or 0, stream.channels, _seconds(container, stream))

    def stretches() -> Iterator[np.ndarray]:
        first, done = True, 0
        for frame in container.decode(stream):
            if frame.sample_rate != header.rate or frame.layout.nb_channels != header.channels:
                raise MediaError("the sound changes its sample rate or its channels on the way")
            if first and container.streams.video and frame.time is not None:
                late = frame.time - (container.start_time or 0) / 1e6
                if late > _LATE:
                    yield from _silence(late, header)
            first, done = False, done + frame.samples
            yield _samples(frame, header.channels)
        promised = float(stream.duration * stream.time_base) if stream.duration else 0.0
        if "mov" in container.format.name and done / header.rate < 0.9 * promised - _LATE:
            raise MediaError("the sound ends long before its header says")

    return Track(header, stretches())


def _has_length_table(data: bytes) -> bool:
    """Whether an MP3 begins with a table of its length. Without, only reading it to its end tells; guesses from the
    bit rate of its start, which soundfile would cut it at, can be far off.
    """
    start = 0
    if data[:3] == b"ID3" and len(data) >= 10:  # tags: their size is in four bytes of seven bits
        start = 10 + sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    return any(word in data[start : start + 200] for word in (b"Xing", b"Info", b"VBRI"))


def _seconds(container: Any, stream: Any) -> float | None:
    if container.format.name in ("mp3", "aac"):  # guessed from the bit rate of the first moments
        return None
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1e6


def _silence(seconds: float, header: Header) -> Iterator[np.ndarray]:
    left = round(seconds * header.rate)
    while left > 0:
        count = min(left, STRETCH // header.channels)
        yield np.zeros((count, header.channels), np.float32)
        left -= count


def _samples(frame: Any, channels: int) -> np.ndarray:
    """A decoded frame as float32 `[samples, channels]`."""
    raw = frame.to_ndarray()
    raw = raw.T if frame.format.is_planar else raw.reshape(-1, channels)
    return to_float(raw)


def to_float(raw: np.ndarray) -> np.ndarray:
    """Samples as float32 of full scale -1 to 1: integers are divided by 2 to the (bits - 1), 8-bit ones centred first.

    Raises:
        MediaError: they are neither floats nor integers of 8 (unsigned), 16 or 32 bits.
    """
    if raw.dtype.kind == "f":
        return raw.astype(np.float32)
    if raw.dtype == np.uint8:
        return (raw.astype(np.float32) - 128) / 128
    if raw.dtype in (np.int16, np.int32):
        return (raw / 2.0 ** (8 * raw.dtype.itemsize - 1)).astype(np.float32)
    raise MediaError(f"samples of {raw.dtype} are not read: use floats from -1 to 1, or integers of 16 or 32 bits")
