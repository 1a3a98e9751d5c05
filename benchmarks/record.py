"""Run records: all measurements of a benchmark, with the method and the machine."""

from __future__ import annotations

import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

import polymodal
from benchmarks import BENCHMARKS, STUDIES

RECORDS = Path(__file__).parent / "records"
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


@dataclass
class Ratio:
    """`ours` against `reference`, from the medians; above 1 means that Polymodal is better.

    low, high: the smallest and largest ratio within one round; of all pairs if one side ran more often
    target: the smallest acceptable ratio, if it was set before measuring
    """

    ours: str
    reference: str
    value: float
    low: float
    high: float
    target: float | None = None


@dataclass
class Record:
    """The result of a benchmark. `values` has the measurements of each contestant in order of the rounds.

    load: the load average before the benchmark
    repeated, disturbed: number of rounds that were repeated because other programs used the machine, and of disturbed
        rounds that were kept
    tables: tables by title, the first row is the header; the results page shows them in place of `values`
    measurements: further measurements, which the results page does not show
    """

    name: str
    title: str
    method: str
    unit: str
    larger_is_better: bool
    values: dict[str, list[float]] = field(default_factory=dict)
    ratios: list[Ratio] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    date: str = ""
    smallest: bool = False
    machine: dict[str, Any] = field(default_factory=dict)
    load: float | None = None
    repeated: int = 0
    disturbed: int = 0
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    measurements: dict[str, Any] = field(default_factory=dict)

    def median(self, contestant: str) -> float:
        return statistics.median(self.values[contestant])

    def compare(self, ours: str, reference: str, target: float | None = None) -> None:
        """Add the ratio of two contestants."""

        def better(one: float, other: float) -> float:
            return one / other if self.larger_is_better else other / one

        one, other = self.values[ours], self.values[reference]
        pairs = zip(one, other, strict=True) if len(one) == len(other) else itertools.product(one, other)
        rounds = [better(a, b) for a, b in pairs]
        value = better(self.median(ours), self.median(reference))
        self.ratios.append(Ratio(ours, reference, value, min(rounds), max(rounds), target))

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(rounded(asdict(self)), indent=1, ensure_ascii=False) + "\n")
        return path

    def show(self) -> str:
        """The record as lines for a terminal."""
        lines = [f"{self.name}: {self.title} ({self.unit})"]
        lines += [f"  {self.median(name):>12,.4g}  {name}" for name in self.values]
        for ratio in self.ratios:
            goal = f", target {ratio.target:g}" if ratio.target is not None else ""
            spread = f"{ratio.low:.2f} to {ratio.high:.2f}"
            lines.append(f"  {ratio.value:.2f}x ({spread}{goal})  {ratio.ours} / {ratio.reference}")
        lines += [f"  {name}: {value}" for name, value in self.facts.items()]
        return "\n".join(lines)


def read_records(folder: Path) -> list[Record]:
    """The records of a folder, in the order of the benchmarks; the studies come last."""
    records = []
    for path in (folder / f"{name}.json" for name in (*BENCHMARKS, *STUDIES)):
        if not path.is_file():
            continue
        raw = json.loads(path.read_text())
        raw["ratios"] = [Ratio(**ratio) for ratio in raw["ratios"]]
        records.append(Record(**raw))
    return records


def run_study(
    measure: Callable[..., Record], *arguments: Any, smallest: bool = False, folder: Path | None = RECORDS
) -> Record:
    """Measure, add the date, the machine and its load to the record, write it and print it.

    measure: called with `arguments`
    folder: folder of the record; None: do not write it
    """
    load = load_average()
    record = measure(*arguments)
    record.date, record.smallest = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), smallest
    record.machine, record.load = machine_facts(), load
    if folder is not None:
        record.write(folder)
    print(record.show(), flush=True)
    return record


def machine_facts() -> dict[str, Any]:
    """The processor, its number formats, memory, and versions; no name of the machine."""
    cpu = Path("/proc/cpuinfo")
    described = dict(line.split(":", 1) for line in cpu.read_text().splitlines() if ":" in line) if cpu.exists() else {}
    facts = {key.strip(): value.strip() for key, value in described.items()}
    flags = facts.get("flags", "").split()
    return {
        "processor": facts.get("model name", platform.processor() or platform.machine()),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "polymodal": polymodal.__version__,
    }


def load_average() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def rounded(value: Any) -> Any:
    """Floats to five significant digits, at any depth."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list | tuple) else value
