"""Peak memory of `fit`, and whether it grows with the table."""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.process_memory import watch_memory
from benchmarks.record import Record

_FIT = """
import sys, polymodal
polymodal.fit(sys.argv[1], "answer", settings=["size=tiny", "training.epochs=1", "training.batch_size=256",
    "training.num_threads=1", "training.precision=fp32", "evaluation.unimodal_scores=none"])
"""
_DEMO = """
import sys
from pathlib import Path
from polymodal.cli.demo import run_demo
run_demo(Path(sys.argv[1]), ["training.epochs=1", "training.num_threads=1", "training.precision=fp32"], progress=False)
"""
_STARTS = ["ba", "co", "du", "fe", "gi", "lo", "mu", "ne", "pi", "ra"]
_ENDS = ["ker", "lan", "mot", "nis", "pel", "rud", "sem"]
WORDS = [start + end for start in _STARTS for end in _ENDS]


def run(smallest: bool) -> Record:
    """Peak MiB of processes that train for one epoch."""
    record = Record(
        name="memory",
        title="Peak memory of `fit`",
        method=(
            "Fresh processes that read a CSV file of texts and numbers, train a tiny model for one epoch, and score "
            "it; and the demo on easy-VQA for one epoch. 'Resident' is all memory, including libraries and pages of "
            "files; 'anonymous' is the memory of the process itself. One thread, fp32, because timing the "
            "alternatives would need memory too."
        ),
        unit="MiB",
        larger_is_better=False,
    )
    small, large = (300, 600) if smallest else (10_000, 100_000)
    with TemporaryDirectory() as folder:
        work_folder = Path(folder)
        for rows in (small, large):
            write_table(work_folder / f"{rows}.csv", rows)
        environment = {**os.environ, "POLYMODAL_CACHE": str(work_folder / "cache")}
        peaks = {
            f"{small:,} rows": peak(["-c", _FIT, str(work_folder / f"{small}.csv")], environment),
            f"{large:,} rows": peak(["-c", _FIT, str(work_folder / f"{large}.csv")], environment),
        }
        if not smallest:
            peaks["import only"] = peak(["-c", "from polymodal import fit"], environment)
            peaks["easy-VQA, 38,575 rows"] = peak(["-c", _DEMO, str(work_folder / "demo")], environment)
        sizes = [round((work_folder / f"{rows}.csv").stat().st_size / 2**20, 2) for rows in (small, large)]
    for name, (resident, anonymous) in peaks.items():
        record.values[f"{name}: resident"] = [resident]
        record.values[f"{name}: anonymous"] = [anonymous]
    for kind in ("resident", "anonymous"):
        record.compare(f"{large:,} rows: {kind}", f"{small:,} rows: {kind}")
    record.facts = {"MiB of the files": sizes}
    return record


def write_table(path: Path, rows: int) -> None:
    """A CSV file with a text, two numbers and an answer that depends on them."""
    draw = random.Random(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "first", "second", "answer"])
        for _ in range(rows):
            text = " ".join(draw.choices(WORDS, k=12))
            first, second = draw.gauss(0, 1), draw.gauss(0, 1)
            writer.writerow([text, f"{first:.4f}", f"{second:.4f}", "high" if first > second else "low"])


def peak(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Peak resident and anonymous MiB of a Python process, read from the system every 5 ms (Linux).

    Raises:
        RuntimeError: the process failed.
    """
    process = subprocess.Popen([sys.executable, *arguments], env=environment)
    (found,) = watch_memory([process])
    return found["resident"], found["anonymous"]
