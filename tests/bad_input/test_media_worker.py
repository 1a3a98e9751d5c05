"""Files that crash, hang or exhaust the memory of a decoder fail on their own, without other files of the batch."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bad_input.test_images import SPOILT
from polymodal.core.errors import PolymodalError
from polymodal.data.media.image import ImageRequest
from polymodal.data.media.source import MediaError
from polymodal.data.media.workers.pool import DecodePool
from polymodal.recipe.data import LimitOptions

REQUEST = ImageRequest(16, "crop")


def png(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "PNG", compress_level=1)
    return sink.getvalue()


SMALL = png(Image.new("RGB", (24, 24), (200, 0, 0)))


@cache
def swelling() -> bytes:
    """Under a megabyte that decodes to 36 million transparent pixels: seconds of work and hundreds of MiB."""
    return png(Image.new("RGBA", (6000, 6000), (0, 0, 200, 128)))


def run(pool: DecodePool, bad: list[bytes]) -> list[str]:
    """The reasons of bad files that lie between sound ones, in one map; the sound ones are checked."""
    files = [SMALL] * 3
    for data in bad:
        files += [data, SMALL, SMALL]
    results = list(pool.map((data, REQUEST) for data in files))
    reasons = [str(result) for result in results if isinstance(result, MediaError)]
    wrong = [index for index, data in enumerate(files) if data is not SMALL]
    assert [index for index, result in enumerate(results) if isinstance(result, MediaError)] == wrong
    for index, result in enumerate(results):
        if index not in wrong:
            assert result["pixels"].shape == (16, 16, 3)
            assert (result["pixels"] == (200, 0, 0)).all()
    return reasons


@pytest.fixture
def limits() -> LimitOptions:
    return LimitOptions(num_workers=2)


@pytest.fixture
def pool(limits: LimitOptions) -> Iterator[DecodePool]:
    pool = DecodePool(limits)
    yield pool
    pool.close()


def test_spoilt_images(pool: DecodePool) -> None:
    sound = png(Image.effect_noise((64, 64), 50))
    reasons = run(pool, [spoil(sound) for spoil, _ in SPOILT.values()])
    expected = ["damaged", "damaged", "empty", "not an image", "over the limit", "more pixels", "more pixels"]
    assert len(reasons) == len(expected)
    for reason, part in zip(reasons, expected, strict=True):
        assert part in reason


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory cannot be bounded")
@pytest.mark.parametrize("limits", [LimitOptions(num_workers=1, memory_mib=256)], ids=["256 MiB"])
def test_more_memory_than_allowed(pool: DecodePool) -> None:
    reasons = run(pool, [swelling()] * 2)
    assert all("memory" in reason for reason in reasons)


@pytest.mark.parametrize("limits", [LimitOptions(num_workers=1, timeout_seconds=0.25)], ids=["a quarter of a second"])
def test_longer_than_patience(pool: DecodePool) -> None:
    assert run(pool, [swelling()]) == ["decoding took longer than 0.25 s"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGSEGV])
def test_a_file_that_its_decoder_dies_of(death: signal.Signals, pool: DecodePool) -> None:
    """Every process that has begun to swell is killed, as by a system without memory or by a crash of a library."""
    deaths, over = [], threading.Event()

    def kill() -> None:
        while not over.is_set():
            for pid in pool.pids():
                if pid not in deaths and resident(pid) > 120 * 2**20:
                    deaths.append(pid)
                    os.kill(pid, death)
            time.sleep(0.001)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        assert run(pool, [swelling()] * 2) == ["the decoder crashed on this file"] * 2
    finally:
        over.set()
        killer.join()
    assert len(deaths) == 4
    assert set(deaths).isdisjoint(pool.pids())


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_that_is_stopped_for_good_is_replaced(pool: DecodePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even its own alarm ends it: it answers nothing and does not end."""
    from polymodal.data.media.workers import pool as pools

    monkeypatch.setattr(pools, "_GRACE", 0.1)
    pool.limits = LimitOptions(num_workers=1, timeout_seconds=5)
    results = pool.map((SMALL, REQUEST) for _ in range(4000))
    # One that is stopped before its first answer would be given two minutes; a busy machine may replace the first one.
    started = [next(results) for _ in range(50)]
    assert not any(isinstance(result, MediaError) for result in started)
    (pid, *_) = pool.pids()
    os.kill(pid, signal.SIGSTOP)
    rest = list(results)
    assert len(rest) == 3950
    lost = [result for result in rest if isinstance(result, MediaError)]
    assert len(lost) <= 1
    assert pid not in pool.pids()


def test_a_process_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    pool = DecodePool(LimitOptions(num_workers=1))
    with pytest.raises(PolymodalError, match=r"does not start \(exit code 3\)"):
        list(pool.map([(SMALL, REQUEST)]))
    assert pool.pids() == []


def test_what_a_decoder_prints_does_not_reach_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that writes to the standard output when it is imported, past Python's own."""
    (tmp_path / "av.py").write_text(
        "import os\nfor out in (1, 2):\n    os.write(out, b'\\x01' * 100_000)\nraise ValueError('secret /path')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from polymodal.data.media.video import VideoRequest

    pool = DecodePool(LimitOptions(num_workers=1))
    request = VideoRequest(num_frames=2, image_size=16, resize_mode="crop", sampling="uniform")
    clip = bytes.fromhex("1a45dfa3") + bytes(100)
    results = list(pool.map([(SMALL, REQUEST), (clip, request), (SMALL, REQUEST)]))
    pool.close()
    assert [isinstance(result, MediaError) for result in results] == [False, True, False]
    assert "secret" not in str(results[1])
    np.testing.assert_array_equal(results[0]["pixels"], results[2]["pixels"])


def test_damaged_files_of_every_format() -> None:
    """A slice of the fuzzing that `benchmarks/fuzz_media.py` does at length; no result is lost."""
    pytest.importorskip("av", reason="writes videos")
    pytest.importorskip("soundfile", reason="writes audio files")
    from benchmarks.fuzz_media import fuzz

    found = fuzz(300, seed=1)
    counts = found["by format"].values()
    assert sum(sum(count.values()) for count in counts) == 300
    assert sum("decoded" in count for count in counts) > 10
    assert sum("rejected" in count for count in counts) > 20
    assert found["decoder crashes"] == found["timeouts"] == 0
    if sys.platform == "linux":
        assert found["peak MiB of address space of a process"] < 512 + 300


def test_files_of_every_format_are_decoded() -> None:
    """The undamaged files, so that what damage does is seen against something."""
    pytest.importorskip("av", reason="writes videos")
    pytest.importorskip("soundfile", reason="writes audio files")
    from benchmarks.fuzz_media import repair
    from benchmarks.fuzz_seeds import seeds

    known = seeds()
    pool = DecodePool(LimitOptions(num_workers=1))
    for seed, result in zip(known, pool.map((seed.data, seed.request) for seed in known), strict=True):
        assert isinstance(result, dict), f"{seed.name}: {result}"
        assert result, seed.name
        same = bytearray(seed.data)
        repair(same)
        assert same == seed.data, seed.name
    pool.close()
