"""File metadata, read in processes that may crash."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from polymodal.core.errors import MissingExtraError
from polymodal.data.media.audio import read_header
from polymodal.data.media.image import read_image_size
from polymodal.data.media.metadata import MediaMetadata, read_metadata
from polymodal.data.media.probe import ProbeRequest, decode, layout
from polymodal.data.media.source import MediaError
from polymodal.data.media.time_series import read_file
from polymodal.data.media.video import read_video_metadata
from polymodal.data.media.workers.pool import decoding_pool
from polymodal.data.table.sample import ColumnSample
from polymodal.modalities.image import Image as ImageModality
from polymodal.modalities.time_series import TimeSeries
from polymodal.modalities.video import Video
from polymodal.recipe.data import LimitOptions

LIMITS = LimitOptions()
MATROSKA = bytes.fromhex("1a45dfa3") + bytes(100)
SLOW_TABLE = b"1\n" * 3_000_000


def png(width: int, height: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (width, height), (200, 0, 0)).save(sink, "PNG")
    return sink.getvalue()


def gif(count: int, side: int = 50) -> bytes:
    sink = io.BytesIO()
    first, *others = [Image.new("L", (side, side + 10), 10 * number) for number in range(count)]
    first.save(sink, "GIF", save_all=True, append_images=others)
    return sink.getvalue()


def wav(seconds: float = 0.5, channels: int = 2) -> bytes:
    sink = io.BytesIO()
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(sink, np.zeros((round(seconds * 8_000), channels)), 8_000, "PCM_16", format="WAV")
    return sink.getvalue()


def film() -> bytes:
    av = pytest.importorskip("av")
    sink = io.BytesIO()
    with av.open(sink, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 48
        for level in range(0, 250, 50):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return sink.getvalue()


def npy(shape: tuple[int, ...]) -> bytes:
    sink = io.BytesIO()
    np.save(sink, np.zeros(shape))
    return sink.getvalue()


def one(media: str, data: bytes) -> MediaMetadata:
    (found,) = read_metadata(media, [data], None, LIMITS)
    assert isinstance(found, MediaMetadata)
    return found


def sample(values: list[Any]) -> ColumnSample:
    return ColumnSample("x", values, None, len(values), len(values), 0, None)


def test_of_images() -> None:
    data = png(40, 30)
    width, height = read_image_size(data)
    assert one("image", data) == MediaMetadata("PNG", width=width, height=height)


def test_of_audio() -> None:
    data = wav()
    stated = read_header(data)
    assert stated is not None
    found = one("audio", data)
    assert found == MediaMetadata(
        "WAV", seconds=stated.seconds, sampling_rate=stated.sampling_rate, channels=stated.channels
    )
    assert (found.seconds, found.sampling_rate, found.channels) == (0.5, 8_000, 2)


def test_of_videos() -> None:
    for form, data in {"MP4": film(), "GIF": gif(4)}.items():
        stated = read_video_metadata(data, LIMITS)
        found = one("video", data)
        assert found == MediaMetadata(form, stated.seconds, stated.frames, stated.width, stated.height)
    assert found == MediaMetadata("GIF", None, 4, 50, 60)
    silent = one("audio", film())
    assert silent == MediaMetadata("MP4")


@pytest.mark.parametrize(
    ("data", "form"),
    [(npy((7,)), "npy"), (npy((7, 3)), "npy"), ("a,é b\n1,2\n,4\n5,6\n".encode(), "text"), (b"1;2\n3;4\n", "text")],
    ids=["one dimension", "two dimensions", "names", "no names"],
)
def test_of_series(data: bytes, form: str) -> None:
    raw = read_file(data, LIMITS)
    found = one("time_series", data)
    sides = (found.rows,) if found.columns is None else (found.rows, found.columns)
    assert sides == raw.values.shape
    assert (found.format, found.column_names, bool(found.rows_are_steps)) == (
        form,
        raw.column_names,
        raw.rows_are_steps,
    )


def test_what_a_file_does_not_tell_is_nan_in_its_fields() -> None:
    found = decode(gif(2), ProbeRequest("video"), LIMITS)
    assert found.keys() == layout(ProbeRequest("video")).keys()
    assert math.isnan(found["seconds"])
    assert found["frames"] == 2


def test_in_order_with_the_reasons_of_those_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(10, 20))
    small = LimitOptions(megabytes=0.01)
    cells = [
        "b.png",
        "a.png",
        "../a.png",
        b"",
        wav(0.1),
        bytes(20_000),
        png(30, 20),
        {"bytes": None, "path": "a.png"},
        5,
    ]
    found = list(read_metadata("image", cells, tmp_path, small))
    assert [one.width if isinstance(one, MediaMetadata) else None for one in found] == [
        None,
        10,
        *[None] * 4,
        30,
        10,
        None,
    ]
    reasons = [str(one) for one in found if isinstance(one, MediaError)]
    parts = ["does not exist", "leaves the root", "empty", "those of WAV", "over the limit", "expected a path"]
    assert all(part in reason for part, reason in zip(parts, reasons, strict=True))
    assert list(read_metadata("image", [], tmp_path, small)) == []


def test_a_file_that_takes_too_long_costs_itself() -> None:
    found = list(
        read_metadata(
            "time_series", [npy((5,)), SLOW_TABLE, npy((6,))], None, LimitOptions(num_workers=1, timeout_seconds=0.25)
        )
    )
    assert isinstance(found[1], MediaError)
    assert "longer than 0.25 s" in str(found[1])
    assert [one.rows for one in found[::2] if isinstance(one, MediaMetadata)] == [5, 6]


@pytest.fixture
def deadly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every process that opens a video crashes."""
    (tmp_path / "av.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.syspath_prepend(tmp_path)
    decoding_pool(LIMITS).close()
    yield
    decoding_pool(LIMITS).close()


@pytest.mark.usefixtures("deadly")
def test_planning_outlives_a_file_that_kills_its_reader() -> None:
    clips = sample([gif(3, 100), MATROSKA, gif(2, 100), MATROSKA, gif(5, 100)])
    guess = Video.match_column(clips)
    assert guess is not None
    assert guess.confidence > 0.9
    assert Video.resolve(Video.Options(max_image_size=128), [clips]).image_size == 96
    assert Video.match_column(sample([MATROSKA] * 3)) is None


def test_a_package_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "av.py").write_text("raise ImportError('no')")
    monkeypatch.syspath_prepend(tmp_path)
    decoding_pool(LIMITS).close()
    clips = sample([gif(2), MATROSKA])
    try:
        assert Video.match_column(clips) is not None
        with pytest.raises(MissingExtraError, match="polymodal"):
            Video.resolve(Video.Options(), [clips])
    finally:
        decoding_pool(LIMITS).close()


def test_series_in_files_are_seen_as_those_in_memory() -> None:
    """The first cell decides between ties, so files keep their places among cells that are in memory."""
    for shapes in ([(10, 3), (12, 2)], [(12, 2), (10, 3)]):
        plain = TimeSeries.resolve(TimeSeries.Options(), [sample([np.zeros(shape) for shape in shapes])])
        assert (plain.layout, plain.channels, plain.num_steps) == ("steps_first", shapes[0][1], 16)
        for filed in ([0], [1], [0, 1]):
            cells = [npy(shape) if place in filed else np.zeros(shape) for place, shape in enumerate(shapes)]
            assert TimeSeries.resolve(TimeSeries.Options(), [sample([b"no numbers", *cells])]) == plain


def test_images_that_cannot_be_read_do_not_count() -> None:
    cells = [png(100, 200), b"no picture", np.zeros((100, 300, 3), np.uint8), Image.new("L", (90, 400)), png(100, 100)]
    options = ImageModality.resolve(ImageModality.Options(max_image_size=224), [sample(cells)])
    assert options.image_size == 96
