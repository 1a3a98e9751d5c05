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

from polymodal.data.media.source import MediaError
from polymodal.errors import MissingExtraError
from polymodal.recipe.data import LimitOptions

#: Files whose name ends so hold sound and nothing else.
SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".au", ".wma", ".amr", ".caf"}
)
#: Samples of each channel read at a time.
STRETCH = 65_536
#: A sound track of a clip that starts later than the clip by more than this many seconds has silence put before it.
_LATE = 0.02
_QUICKTIME = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


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


def sound_format(data: bytes) -> str | None:
    """The container that the first bytes name, as FFmpeg calls it; None for one that is not read."""
    head = data[:16]
    if head[:4] in (b"RIFF", b"RF64", b"RIFX"):
        return {b"WAVE": "wav", b"AVI ": "avi", b"WEBP": "webp"}.get(head[8:12])
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[4:8] in _QUICKTIME:
        return "mov"
    starts = {
        b"fLaC": "flac",
        b"OggS": "ogg",
        b"ID3": "mp3",
        b".snd": "au",
        b"riff": "w64",
        b"caff": "caf",
        b"#!AMR": "amr",
        b"\x1aE\xdf\xa3": "matroska",
        b"FLV\x01": "flv",
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
        b"\x00\x00\x01\xba": "mpeg",
        b"GIF8": "gif",
    }
    for start, name in starts.items():
        if head.startswith(start):
            return name
    if len(data) > 188 and data[0] == data[188] == 0x47:
        return "mpegts"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:  # eleven set bits begin a frame of MPEG audio
        return "aac" if head[1] & 0x06 == 0 else "mp3"
    return None


@contextmanager
def open_track(data: bytes) -> Iterator[Track | None]:
    """The sound in `data`; None for a clip or an animation that has none.

    Raises:
        MediaError: empty, damaged, or of a format that is not read.
        MissingExtraError: the packages that read sounds are not installed.
    """
    if not data:
        raise MediaError("the file is empty (0 bytes)")
    name = sound_format(data)
    if name is None:
        raise MediaError("not a sound of a known format (WAV, FLAC, OGG, MP3, AAC ...), nor a clip with sound")
    if name in ("gif", "webp"):
        yield None
        return
    soundfile, av = package("soundfile"), package("av")
    with _plain_reasons():
        file = None
        if name in ("wav", "w64", "flac", "ogg", "mp3", "aiff", "au"):
            try:
                file = soundfile.SoundFile(io.BytesIO(data))
            except soundfile.LibsndfileError:  # a codec that it lacks, or damage: the other reader tells
                file = None
        if file is not None:
            with file:
                yield _plain_track(file)
            return
        with av.open(io.BytesIO(data), format=name, options={"protocol_whitelist": ""}) as container:
            yield _stream_track(container)


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
    if header.rate > limits.rate:
        raise MediaError(f"a sample rate of {header.rate} Hz is over the limit of {limits.rate} Hz")
    if header.channels > limits.channels:
        raise MediaError(f"{header.channels} channels are over the limit of {limits.channels}")
    if header.seconds is not None and header.seconds > limits.seconds:
        raise MediaError(f"{header.seconds:.1f} seconds of sound are over the limit of {limits.seconds:g}")


@contextmanager
def _plain_reasons() -> Iterator[None]:
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
        done = 0
        while len(samples := file.read(STRETCH, dtype="float32", always_2d=True)):
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
        if stream.duration and done / header.rate < 0.9 * float(stream.duration * stream.time_base) - _LATE:
            raise MediaError("the sound ends long before its header says")

    return Track(header, stretches())


def _seconds(container: Any, stream: Any) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1e6


def _silence(seconds: float, header: Header) -> Iterator[np.ndarray]:
    left = round(seconds * header.rate)
    while left > 0:
        count = min(left, STRETCH)
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
