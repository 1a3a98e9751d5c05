"""Small valid files of every format that the installed libraries write, for `fuzz_media`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import soundfile
from PIL import Image

from polymodal.data.media.audio import AudioRequest
from polymodal.data.media.image import ImageRequest
from polymodal.data.media.time_series import TimeSeriesRequest
from polymodal.data.media.video import VideoRequest

MAX_BYTES = 12 * 1024
_AUDIO_FORMATS = (
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("WAV", "IMA_ADPCM"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
)
_AUDIO_CONTAINERS = (("ipod", "aac"), ("adts", "aac"), ("matroska", "libopus"), ("avi", "pcm_s16le"), ("mpeg", "mp2"))
_VIDEO_CONTAINERS = (
    ("mp4", "libx264"),
    ("mp4", "mpeg4"),
    ("mov", "mjpeg"),
    ("matroska", "ffv1"),
    ("matroska", "mpeg4"),
    ("webm", "libvpx"),
    ("webm", "libvpx-vp9"),
    ("avi", "mpeg4"),
    ("avi", "mjpeg"),
    ("mpeg", "mpeg1video"),
    ("mpegts", "mpeg2video"),
)


@dataclass(frozen=True)
class Seed:
    """A valid file and its decoding request; `name` is the kind of media and the format."""

    name: str
    data: bytes
    request: Any


def seeds() -> list[Seed]:
    """All seeds, each at most 12 KiB (containers pad)."""
    found = [*_images(), *_audio(), *_videos(), *_series()]
    for seed in found:
        if not 0 < len(seed.data) <= MAX_BYTES:
            raise ValueError(f"the seed for {seed.name} has {len(seed.data)} bytes")
    return found


def _image(number: int = 0, side: int = 16) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((side, side))


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def _images() -> Iterator[Seed]:
    request = ImageRequest(32, "crop")
    image, exif = _image(), Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 256)
    frames = [_image(number) for number in range(1, 4)]
    for kind, variant, options in (
        ("PNG", image, {}),
        ("PNG", image.convert("P"), {"transparency": 0}),
        ("PNG", deep, {}),
        ("PNG", image.convert("RGBA"), {"exif": exif}),
        ("JPEG", image, {"exif": exif}),
        ("JPEG", image, {"progressive": True}),
        ("JPEG", image.convert("CMYK"), {}),
        ("WebP", image, {}),
        ("WebP", image, {"lossless": True, "exif": exif}),
        ("GIF", image, {"save_all": True, "append_images": frames}),
        ("BMP", image, {}),
        ("BMP", image.convert("1"), {}),
        ("TIFF", image, {}),
        ("TIFF", image, {"compression": "tiff_lzw"}),
        ("TIFF", image, {"compression": "jpeg"}),
        ("TIFF", deep, {"compression": "tiff_adobe_deflate"}),
    ):
        yield Seed(f"image {kind}", _saved(variant, kind, **options), request)
    for number, kind in enumerate(("GIF", "WebP", "PNG")):
        data = _saved(image, kind, save_all=True, append_images=frames, duration=100)
        yield Seed(f"video {kind}", data, VideoRequest(3, 32, "crop", ("uniform", "scene", "keyframe")[number]))


def _tone(rate: int, channels: int) -> np.ndarray:
    time = np.arange(round(0.05 * rate)) / rate
    return np.stack([0.5 * np.sin(2 * np.pi * 440 * (1 + channel) * time) for channel in range(channels)], 1)


def _audio() -> Iterator[Seed]:
    plain = AudioRequest()
    full = AudioRequest(channels=2, trim_silence_db=40.0, normalization="rms", denoise=True, voice_activity_only=True)
    for number, (kind, subtype) in enumerate(_AUDIO_FORMATS):
        sink = io.BytesIO()
        soundfile.write(sink, _tone(8_000, 1 + number % 2), 8_000, subtype, format=kind)
        yield Seed(f"audio {kind}", sink.getvalue(), (plain, full)[number % 2])
    for number, (container, codec) in enumerate(_AUDIO_CONTAINERS):
        yield Seed(f"audio in {container}", _written(container, None, codec), (plain, full)[number % 2])


def _videos() -> Iterator[Seed]:
    for number, (container, codec) in enumerate(_VIDEO_CONTAINERS):
        sampling = ("uniform", "keyframe", "scene")[number % 3]
        yield Seed(f"video {container}", _written(container, codec, None), VideoRequest(3, 32, "crop", sampling))
    yield Seed("audio in mp4", _written("mp4", "mpeg4", "aac"), AudioRequest())


def _written(container: str, video_codec: str | None, audio_codec: str | None) -> bytes:
    """A file with four frames, or a twentieth of a second of audio, or both."""
    sink = io.BytesIO()
    with av.open(sink, "w", format=container) as output:
        if video_codec:
            stream = output.add_stream(video_codec, rate=25)
            stream.width = stream.height = 32
            stream.pix_fmt = "yuvj420p" if video_codec == "mjpeg" else "yuv420p"
        if audio_codec:
            track = output.add_stream(audio_codec, rate=48_000)
            track.layout = "mono"
        if video_codec:
            for number in range(4):
                frame = av.VideoFrame.from_ndarray(np.asarray(_image(number, 32)), format="rgb24")
                output.mux(stream.encode(frame))
            output.mux(stream.encode())
        if audio_codec:
            values = (_tone(48_000, 1) * 32_767).astype(np.int16).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(values, format="s16", layout="mono")
            frame.sample_rate = 48_000
            output.mux(track.encode(frame))
            output.mux(track.encode())
    return sink.getvalue()


def _series() -> Iterator[Seed]:
    values = np.random.default_rng(0).normal(size=(40, 2))
    request = TimeSeriesRequest(channels=2, max_steps=64, long_series="pool")
    for dtype in (np.float32, np.int16, np.float64):
        sink = io.BytesIO()
        np.save(sink, (values * 100).astype(dtype), allow_pickle=False)
        yield Seed("time_series npy", sink.getvalue(), request)
    lines = [f"{a:.3f},{b:.3f}" if number % 7 else f"{a:.3f}," for number, (a, b) in enumerate(values)]
    yield Seed("time_series csv", "\n".join(lines).encode(), request)
    named = TimeSeriesRequest(channels=2, channel_names=("left", "right"), time_channel="time", max_steps=16)
    rows = [f"{number / 10},{a:.2f},{b:.2f}" for number, (a, b) in enumerate(values)]
    yield Seed("time_series csv", "\r\n".join(["time,left,right", *rows]).encode(), named)
