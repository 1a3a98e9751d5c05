"""Measure Polymodal on an accelerator: `python -m benchmarks.gpu --out gpu.json`, at most 8 minutes.

It compares every component with the CPU, and measures training and generation against the Trainer of transformers and a
hand-written loop. It needs torch, transformers, pyarrow and the other dependencies of Polymodal; components whose
packages are not installed are left out and named. `--dry-run` runs every part in tiny sizes on the CPU.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import polymodal
from benchmarks.gpu import throughput
from benchmarks.gpu.clock import Budget
from benchmarks.gpu.correctness import compare_all
from benchmarks.same_weights.tables import write_tables
from polymodal.runtime.compute import resolve_device

#: Largest relative difference of the gradients in fp32 that counts as equal.
TOLERANCE = 1e-3


def main(arguments: list[str] | None = None) -> int:
    """Run all parts, write the result, and return 1 if a component differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, mps or xpu")
    parser.add_argument("--minutes", type=float, default=8.0, help="components are left out after this time")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="the result, as JSON")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU: only tests that the script runs")
    chosen = parser.parse_args(arguments)
    device = "cpu" if chosen.dry_run else resolve_device(chosen.device, "--device")
    if device == "cpu" and not chosen.dry_run:
        parser.error("there is no accelerator on this machine; --dry-run tests the script on the CPU")
    result = measure(device, Budget(60 * chosen.minutes), dry_run=chosen.dry_run)
    chosen.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    wrong = [one["case"] for one in result["correctness"] if not _is_right(one)]
    print(json.dumps({key: value for key, value in result.items() if key != "correctness"}, indent=2))
    print(f"{len(result['correctness'])} components, {len(wrong)} wrong{': ' if wrong else ''}{', '.join(wrong)}")
    return int(bool(wrong))


def measure(device: str, budget: Budget, *, dry_run: bool) -> dict[str, Any]:
    """The results of all parts."""
    sizes, steps = (throughput.SMALL, 3) if dry_run else (throughput.LARGE, 20)
    result: dict[str, Any] = {
        "is_dry_run": dry_run,
        "device": device if device == "cpu" else torch.get_device_module(device).get_device_name(device),
        "machine": platform.platform(),
        "torch": torch.__version__,
        "polymodal": polymodal.__version__,
    }
    parts = {
        "training": lambda: throughput.training(device, sizes, steps=steps),
        "own_training": lambda: throughput.own_training(device, sizes),
        "generation": lambda: throughput.generation(device, sizes),
    }
    with TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        write_tables(data)
        result["correctness"] = compare_all(data, Path(folder), device, budget, few=dry_run)
    for name, part in parts.items():
        result[name] = {"left_out": "no time left"} if budget.is_over() else part()
    return result


def _is_right(one: dict[str, Any]) -> bool:
    if "left_out" in one:
        return True
    return "error" not in one and one["relative_difference"] < TOLERANCE and one.get("bf16_is_finite", True)


if __name__ == "__main__":
    raise SystemExit(main())
