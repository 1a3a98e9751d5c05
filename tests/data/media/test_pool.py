"""The decoding pool: ordered results, bounded memory, no processes left behind."""

from __future__ import annotations

import io
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polymodal.core.errors import MissingExtraError
from polymodal.data.media.image import ImageRequest, decode
from polymodal.data.media.source import MediaError
from polymodal.data.media.video import VideoRequest
from polymodal.data.media.workers import queue
from polymodal.data.media.workers.pool import DecodePool, decoding_pool
from polymodal.recipe.data import LimitOptions

LIMITS = LimitOptions(num_workers=2)
SMALL = ImageRequest(16, "crop")


def png(number: int, side: int = 24) -> bytes:
    """A picture of noise that no other number has."""
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


FILES = [png(number) for number in range(300)]


def expected(data: bytes, request: ImageRequest = SMALL) -> np.ndarray:
    return decode(data, request, LIMITS)["pixels"]


def agree(results: list[object], files: list[bytes]) -> bool:
    return len(results) == len(files) and all(
        isinstance(result, dict) and np.array_equal(result["pixels"], expected(data))
        for result, data in zip(results, files, strict=True)
    )


@pytest.fixture
def pool() -> Iterator[DecodePool]:
    pool = DecodePool(LIMITS)
    yield pool
    pool.close()
    assert pool.pids() == []


def children() -> set[int]:
    """The living children of this process."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == os.getpid() and fields[0] != "Z":
                found.add(int(entry.name))
    return found


def test_results_are_those_of_the_decoder_in_order(pool: DecodePool) -> None:
    files = list(FILES)
    files[7], files[90], files[299] = b"", b"no picture", FILES[0][:200]
    results = list(pool.map((data, SMALL) for data in files))
    reasons = {index: str(result) for index, result in enumerate(results) if isinstance(result, MediaError)}
    assert list(reasons) == [7, 90, 299]
    assert "empty" in reasons[7]
    assert "not an image of a supported format" in reasons[90]
    assert "damaged" in reasons[299]
    kept = [index for index in range(300) if index not in reasons]
    assert agree([results[index] for index in kept], [files[index] for index in kept])


def test_arrays_are_the_callers_own(pool: DecodePool) -> None:
    first, second = (result["pixels"] for result in pool.map([(FILES[0], SMALL)] * 2))
    first[:] = 0
    assert np.array_equal(second, expected(FILES[0]))


def test_one_map_may_mix_requests(pool: DecodePool) -> None:
    large = ImageRequest(32, "pad")
    results = list(pool.map([(FILES[0], SMALL), (FILES[0], large), (FILES[1], SMALL)]))
    for result, (data, request) in zip(results, [(0, SMALL), (0, large), (1, SMALL)], strict=True):
        assert np.array_equal(result["pixels"], expected(FILES[data], request))


def test_nothing_is_nothing(pool: DecodePool) -> None:
    assert list(pool.map([])) == []
    assert pool.pids() == []


def test_files_are_drawn_as_they_are_needed(pool: DecodePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and results that are held stay below the limit, however slow one of the processes is."""
    monkeypatch.setattr("polymodal.data.media.workers.queue.MAX_HELD_BYTES", 100_000)
    drawn = itertools.count()
    results = pool.map((FILES[next(drawn) % 300], SMALL) for _ in itertools.count())
    found = list(itertools.islice(results, 300))
    assert agree(found, FILES)
    results.close()
    smallest = min([len(file) for file in FILES] + [result["pixels"].nbytes for result in found])
    assert next(drawn) <= 300 + 100_000 / smallest + 1


def test_an_error_of_the_caller_is_the_callers(pool: DecodePool) -> None:
    def jobs() -> Iterator[tuple[bytes, ImageRequest]]:
        yield FILES[0], SMALL
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        list(pool.map(jobs()))
    with pytest.raises(TypeError, match="not a media request"):
        list(pool.map([(FILES[0], "32 pixels")]))
    assert agree(list(pool.map([(FILES[0], SMALL)])), FILES[:1])


def test_results_wait_for_the_caller_and_only_so_many(pool: DecodePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two results at a time all of them still come, in order."""
    request = ImageRequest(256, "crop")
    monkeypatch.setattr(queue, "MAX_HELD_BYTES", 2 * 256 * 256 * 3)
    count = 0
    for data, result in zip(FILES, pool.map((data, request) for data in FILES), strict=True):
        count += np.array_equal(result["pixels"], expected(data, request))
    assert count == 300


def test_processes_stay_for_the_next_map_and_are_no_more_than_allowed() -> None:
    pool = DecodePool(LimitOptions(num_workers=1))
    seen = set()
    for _ in range(3):
        assert agree(list(pool.map((data, SMALL) for data in FILES)), FILES)
        seen.update(pool.pids())
    assert len(seen) == 1
    pool.close()
    assert agree(list(pool.map([(FILES[0], SMALL)])), FILES[:1])
    pool.close()


def test_maps_of_one_pool_and_of_two_may_take_turns(pool: DecodePool) -> None:
    other = DecodePool(LimitOptions(num_workers=1, megapixels=1))
    first, second, third = (one.map((data, SMALL) for data in FILES) for one in (pool, pool, other))
    turns = list(zip(first, second, third, strict=True))
    assert all(agree([turn[i] for turn in turns], FILES) for i in range(3))
    other.close()


def test_one_pool_for_each_set_of_limits() -> None:
    same = LIMITS.model_copy()
    assert decoding_pool(LIMITS) is decoding_pool(same)
    strict = decoding_pool(LimitOptions(num_workers=2, megapixels=0.0001))
    assert strict is not decoding_pool(LIMITS)
    (result,) = strict.map([(FILES[0], SMALL)])
    assert isinstance(result, MediaError)
    assert "24 x 24 pixels" in str(result)
    strict.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_is_left_over(pool: DecodePool) -> None:
    def counts() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    list(pool.map([(FILES[0], SMALL)]))
    pool.close()
    before, family = counts(), children()
    for number in range(30):
        results = pool.map((data, SMALL) for data in FILES[:40])
        for _ in range(number % 3 * 10):  # not begun, begun and given up, used up
            next(results)
        if number % 3 == 0:
            list(results)
        results.close()
        if number % 10 == 5:
            for pid in pool.pids():
                os.kill(pid, signal.SIGKILL)
    assert len(pool.pids()) <= 2
    pool.close()
    assert counts() == before
    assert children() == family


def test_a_killed_process_costs_nothing(pool: DecodePool) -> None:
    """Who kills from outside kills once: the file is tried again."""
    results = pool.map((data, SMALL) for data in FILES)
    start = list(itertools.islice(results, 10))
    for pid in pool.pids():
        os.kill(pid, signal.SIGKILL)
    assert agree(start + list(results), FILES)


def test_a_fork_has_its_own_processes(pool: DecodePool) -> None:
    assert agree(list(pool.map([(FILES[0], SMALL)])), FILES[:1])
    mine = pool.pids()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            fine = pool.pids() == [] and agree(list(pool.map([(FILES[1], SMALL)])), FILES[1:2])
            code = 0 if fine and set(pool.pids()).isdisjoint(mine) else 2
            pool.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert agree(list(pool.map([(FILES[2], SMALL)])), FILES[2:3])
    assert pool.pids() == mine


_USE = """
import os, sys, signal
from polymodal.data.media.image import ImageRequest
from polymodal.data.media.workers.pool import decoding_pool
from polymodal.recipe.data import LimitOptions
pool = decoding_pool(LimitOptions(num_workers=1))
results = pool.map([(sys.stdin.buffer.read(), ImageRequest(16, "crop"))] * 1000)
next(results)
print(*pool.pids(), flush=True)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("end", ["returns", "killed"])
def test_processes_end_with_the_one_that_uses_them(end: str) -> None:
    done = subprocess.run([sys.executable, "-c", _USE, end], input=FILES[0], stdout=subprocess.PIPE, timeout=300)
    assert (done.returncode == 0) == (end == "returns")
    pid = int(done.stdout)
    deadline = time.monotonic() + 120
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{pid}").exists()


def test_a_package_that_is_not_there_is_an_error_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "av.py").write_text("raise ImportError('no')")
    monkeypatch.syspath_prepend(tmp_path)
    pool = DecodePool(LimitOptions(num_workers=1))
    clip = bytes.fromhex("1a45dfa3") + bytes(100)
    with pytest.raises(MissingExtraError, match=r"needs .*: pip install 'polymodal\["):
        list(
            pool.map(
                [
                    (FILES[0], SMALL),
                    (clip, VideoRequest(num_frames=2, image_size=16, resize_mode="crop", sampling="uniform")),
                ]
            )
        )
    pool.close()
    assert pool.pids() == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("{'pixels': found['pixels'].astype('int16')}", "pixels is int16 instead of uint8"),
        ("{'pixels': found['pixels'][:, 1:]}", r"pixels has shape \(16, 15, 3\)"),
        ("{**found, 'times': found['pixels']}", "returns pixels, times instead of pixels"),
    ],
)
def test_a_decoder_that_breaks_its_layout_is_an_error_of_the_program(
    change: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "from polymodal.data.media import image\nright = image.decode\n"
        f"def decode(*given):\n    found = right(*given)\n    return {change}\nimage.decode = decode\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    pool = DecodePool(LimitOptions(num_workers=1))
    with pytest.raises(RuntimeError, match=f"decoder of image does not follow its layout.*{reason}"):
        list(pool.map([(FILES[0], SMALL)]))
    assert pool.pids() == []


def test_work_for_a_single_process_gets_one(pool: DecodePool) -> None:
    assert agree(list(pool.map(((data, SMALL) for data in FILES), single=True)), FILES)
    assert len(pool.pids()) == 1


def test_decoding_processes_start_without_heavy_libraries() -> None:
    code = (
        "import sys, polymodal.data.media.workers.worker, polymodal.data.media.image, polymodal.data.media.audio, "
        "polymodal.data.media.video, polymodal.data.media.time_series, polymodal.data.media.probe; "
        "print(*{'torch', 'pyarrow', 'sklearn', 'pandas', 'av', 'soundfile', 'soxr'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(("workers", "count"), [(None, 8), (3, 3), (99, 12)])
def test_there_are_as_many_processes_as_asked_for_and_processors(
    workers: int | None, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)))
    assert DecodePool(LimitOptions(num_workers=workers)).count == count


def test_no_more_processes_start_than_there_are_files(pool: DecodePool) -> None:
    assert agree(list(pool.map([(FILES[0], SMALL)])), FILES[:1])
    assert len(pool.pids()) == 1
