"""Start-up time: until Polymodal is imported, and until the first training step is done."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import interleaved
from benchmarks.record import Record

LIMIT_SECONDS = 120
_TRAIN = """
import sys
from polymodal.datasets import load_easy_vqa
from polymodal.workflows.fit import fit
tables, root = load_easy_vqa()
test, rows = tables["test"], int(sys.argv[2])
fit(tables["train"].slice(0, rows), "answer", recipe="easy_vqa", test=test.slice(0, rows), root=root, out=sys.argv[1])
"""


def run(smallest: bool) -> Record:
    """Seconds of fresh processes."""
    record = Record(
        name="startup",
        title="Start-up of a fresh process",
        method=(
            "Seconds from the start of a Python process to its end (imports), or to the line of the first step in "
            "the training log (the demo on all of easy-VQA). 'First run' has an empty cache and decodes every image; "
            "'second run' finds them in the cache."
        ),
        unit="s",
        larger_is_better=False,
    )
    with TemporaryDirectory() as folder:
        work_folder = Path(folder)
        contestants = {
            "import polymodal": lambda: _seconds("import polymodal"),
            "from polymodal import fit": lambda: _seconds("from polymodal import fit"),
            "import torch": lambda: _seconds("import torch"),
            "import nothing": lambda: _seconds("pass"),
        }
        interleaved(record, contestants, 1 if smallest else 7, warm=0 if smallest else 1)
        record.compare("from polymodal import fit", "import torch")
        rows = 400 if smallest else 10**9
        for attempt in range(1 if smallest else 3):
            cache = work_folder / f"cache{attempt}"
            for name in ("first run", "second run")[: 1 if smallest else 2]:
                label = f"first training step, {name}"
                record.values.setdefault(label, []).append(_first_step(work_folder / f"{name}{attempt}", cache, rows))
    record.facts = {"limit for import polymodal": "1 s", "limit for the first training step": "4 s"}
    return record


def _seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def _first_step(out: Path, cache: Path, rows: int) -> float:
    """Start the demo on its first `rows` rows and stop it as soon as its log has a step."""
    log = out / "log.jsonl"
    environment = {**os.environ, "POLYMODAL_CACHE": str(cache)}
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", _TRAIN, str(out), str(rows)], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        while not (log.is_file() and log.stat().st_size):
            if process.poll() is not None:
                raise RuntimeError(f"the demo ended with code {process.returncode} before its first step")
            if time.perf_counter() - start > LIMIT_SECONDS:
                raise RuntimeError(f"there was no training step within {LIMIT_SECONDS} s")
            time.sleep(0.002)
        return time.perf_counter() - start
    finally:
        process.kill()
        process.wait()
