"""Fuzzing of the media loader: damaged files of every format through the decoding pool.

`python -m benchmarks.fuzz_media --files 200000 --seed 0` counts the outcomes and writes a record. Every file
is determined by the seed and its number, so `mutant` can create it again.
"""

from __future__ import annotations

import argparse
import random
import re
import threading
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.fuzz_seeds import Seed, seeds
from benchmarks.record import RECORDS, Record, run_study
from polymodal.data.media.source import MediaError
from polymodal.data.media.workers.pool import DecodePool
from polymodal.recipe.data import LimitOptions

FILES = 200_000
# Low limits, so that damaged headers exceed them and a hang costs little.
LIMITS = LimitOptions(megapixels=4, seconds=60, frames=2_000, values=100_000, timeout_seconds=10, memory_mib=512)
_START = 12
_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_OGG = []
for _value in range(256):
    _value <<= 24
    for _ in range(8):
        _value = (_value << 1 ^ (0x04C11DB7 if _value >> 31 else 0)) & 0xFFFFFFFF
    _OGG.append(_value)


def mutant(known: list[Seed], seed: int, number: int) -> tuple[Seed, bytes]:
    """The seed of the damaged file `number`, and its bytes."""
    draw = random.Random(f"{seed} {number}")
    chosen = draw.choice(known)
    data = bytearray(chosen.data)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        _damage(data, draw, known)
    if draw.random() < 0.75:  # without a valid start, a file is rejected before any decoder reads it
        data[:_START] = chosen.data[:_START]
    if draw.random() < 0.5:  # a decoder stops at a wrong checksum
        repair(data)
    return chosen, bytes(data)


def repair(data: bytearray) -> None:
    """Correct the checksums of a PNG or OGG file, as far as its parts can still be found."""
    if data[:4] == b"\x89PNG":
        start = 8
        while start + 12 <= len(data):
            end = start + 8 + int.from_bytes(data[start : start + 4], "big")
            if end + 4 > len(data):
                break
            data[end : end + 4] = zlib.crc32(data[start + 4 : end]).to_bytes(4, "big")
            start = end + 4
    start = data.find(b"OggS")
    while start >= 0 and start + 27 <= len(data):
        lengths = data[start + 27 : start + 27 + data[start + 26]]
        end = start + 27 + len(lengths) + sum(lengths)
        data[start + 22 : start + 26] = bytes(4)
        data[start + 22 : start + 26] = _ogg_checksum(data[start:end]).to_bytes(4, "little")
        start = data.find(b"OggS", max(start + 27, min(end, len(data))))


def _ogg_checksum(page: bytes) -> int:
    """CRC-32 with the polynomial 04c11db7, most significant bit first, without inversion (RFC 3533)."""
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ _OGG[value >> 24 ^ byte]
    return value


def _damage(data: bytearray, draw: random.Random, known: list[Seed]) -> None:
    """Change `data` in one way."""
    size = len(data)
    if size < 8:
        data += draw.randbytes(8)
        return
    start = draw.randrange(size)
    end = min(size, start + draw.choice((1, 4, 16, 64, 512)))
    match draw.randrange(9):
        case 0:  # flip bits
            for _ in range(draw.choice((1, 2, 8, 32))):
                data[draw.randrange(size)] ^= 1 << draw.randrange(8)
        case 1:  # cut off
            del data[start:]
        case 2:  # delete
            del data[start:end]
        case 3:  # repeat
            data[start:start] = bytes(data[start:end]) * draw.choice((1, 2, 10))
        case 4:  # exchange two segments
            other = draw.randrange(size)
            data[start:end], data[other : other + end - start] = data[other : other + end - start], data[start:end]
        case 5:  # the head of one file and the tail of another
            tail = draw.choice(known).data
            data[start:] = tail[draw.randrange(len(tail)) :]
        case 6:  # a number in the header, in either byte order
            start, width = draw.randrange(min(size - 4, 256)), draw.choice((1, 2, 4))
            value = draw.choice(_NUMBERS) & (1 << 8 * width) - 1
            data[start : start + width] = value.to_bytes(width, draw.choice(("little", "big")))
        case 7:  # random bytes
            data[start:end] = draw.randbytes(end - start)
        case 8:  # keep only the start
            data[min(size, draw.choice((12, 32, 128))) :] = draw.randbytes(draw.randrange(1, 1024))


class PeakMemory:
    """The peak memory of any process of a pool, in MiB, read from the system."""

    def __init__(self, pool: DecodePool) -> None:
        self.resident = self.mapped = 0.0
        self.processes: set[int] = set()
        self._pool, self._over = pool, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            for pid in self._pool.pids():
                self.processes.add(pid)
                try:
                    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                found = {
                    name: int(rest.split()[0]) / 1024
                    for name, _, rest in (line.partition(":") for line in lines)
                    if name in ("VmHWM", "VmPeak")
                }
                self.resident = max(self.resident, found.get("VmHWM", 0.0))
                self.mapped = max(self.mapped, found.get("VmPeak", 0.0))


def fuzz(files: int, seed: int, limits: LimitOptions = LIMITS) -> dict[str, Any]:
    """Outcomes of `files` damaged files, by format and reason.

    Raises:
        AssertionError: a result was lost, or is neither an item nor a reason.
    """
    known = seeds()
    names: list[str] = []

    def jobs() -> Iterator[tuple[bytes, Any]]:
        for number in range(files):
            chosen, data = mutant(known, seed, number)
            names.append(chosen.name)
            yield data, chosen.request

    by_format: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: Counter[str] = Counter()
    pool, count, start = DecodePool(limits), 0, time.perf_counter()
    with PeakMemory(pool) as peaks:
        for number, result in enumerate(pool.map(jobs())):
            assert isinstance(result, dict | MediaError), f"file {number} of seed {seed} gave {type(result)}"
            count += 1
            by_format[names[number]]["rejected" if isinstance(result, MediaError) else "decoded"] += 1
            if isinstance(result, MediaError):
                reasons[_reason(result)] += 1
    seconds = time.perf_counter() - start
    assert count == files, f"{files - count} results are lost"
    pool.close()
    return {
        "files": files,
        "seed": seed,
        "seconds": seconds,
        "by format": {name: dict(counts) for name, counts in sorted(by_format.items())},
        "reasons": dict(reasons.most_common()),
        "decoder crashes": reasons["the decoder crashed on this file"],
        "timeouts": reasons["decoding took longer than N s"],
        "processes": len(peaks.processes),
        "peak MiB resident in a process": peaks.resident,
        "peak MiB of address space of a process": peaks.mapped,
    }


#: Number of reasons in a record.
MAX_REASONS = 12


def _reason(error: MediaError) -> str:
    """A reason without its numbers and quoted parts."""
    return re.sub(r"(?<![A-Za-z])[0-9][0-9.,e+]*", "N", re.sub(r"'.*'", "'...'", str(error)))


def measure(files: int, seed: int) -> Record:
    found = fuzz(files, seed)
    record = Record(
        name="fuzz_media",
        title="Damaged media files through the decoding pool",
        method=(
            "Small valid files of every format that Pillow, soundfile, FFmpeg and numpy write are damaged by flipped "
            "bits, cuts, repeats, exchanges, splices, random bytes and changed header fields, up to six times each, "
            f"and decoded with limits of {LIMITS.memory_mib} MiB of memory and {LIMITS.timeout_seconds:g} s per file. "
            "Each file must be decoded or rejected with a reason; a lost result is a failure."
        ),
        unit="files/s",
        larger_is_better=True,
    )
    record.values["damaged files"] = [found["files"] / found["seconds"]]
    record.facts = found | {
        "by format": _decoded_by_format(found["by format"]),
        "reasons": _most_frequent(found["reasons"]),
    }
    return record


def _decoded_by_format(by_format: dict[str, dict[str, int]]) -> dict[str, str]:
    """Number of damaged files of each format that were decoded."""
    return {
        name: f"{counts.get('decoded', 0):,} of {sum(counts.values()):,} decoded" for name, counts in by_format.items()
    }


def _most_frequent(reasons: dict[str, int]) -> dict[str, int]:
    """The most frequent reasons, and the number of all others."""
    first = dict(list(reasons.items())[:MAX_REASONS])
    return first | {"other reasons": sum(reasons.values()) - sum(first.values())}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_media", description=__doc__)
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the record")
    chosen = parser.parse_args(arguments)
    run_study(measure, chosen.files, chosen.seed, smallest=chosen.files < FILES, folder=chosen.records)


if __name__ == "__main__":
    main()
