"""The processes that compute every case, two and then three: `python -m distributed.ranks FOLDER [NAMES]`.

The processes of a launch are forks of one that has imported everything: imports take longer than the cases.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from distributed.gradient_cases import Case, gradient_cases
from distributed.launch import launch_variables
from distributed.sharded_cases import sharded_cases
from distributed.steps import in_double_precision
from distributed.training_cases import training_cases
from distributed.world_cases import world_cases
from polymodal.distributed.start import start_world

SIZES = (2, 3)
#: What the first pretrained model of a process imports.
IMPORTED_LATE = ("transformers.modeling_utils",)


def cases() -> Iterator[tuple[str, Case]]:
    """Every case by name, those in double precision last."""
    yield from world_cases()
    yield from training_cases()
    yield from sharded_cases()
    in_double_precision()
    yield from gradient_cases()


def compute(variables: dict[str, str], folder: Path, wanted: list[str]) -> None:
    """The work of one process: its results, in a file with the number of the process."""
    os.environ |= variables
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    with start_world() as world:
        for name, case in cases():
            if wanted and not any(one in name for one in wanted):
                continue
            begun = time.perf_counter()
            try:
                results[name] = case(world)
            except Exception:  # noqa: BLE001 - the other processes may wait for this one, so nothing can follow
                results[name] = {"failed": traceback.format_exc()[-3000:]}
                break
            results[name]["seconds"] = time.perf_counter() - begun
    (folder / f"{world.size}-{world.rank}.json").write_text(json.dumps(results))


def main(folder: Path, wanted: list[str]) -> None:
    for name in IMPORTED_LATE:
        importlib.import_module(name)
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    for size in SIZES:
        processes = [
            context.Process(target=compute, args=(variables, folder, wanted)) for variables in launch_variables(size)
        ]
        for one in processes:
            one.start()
        for one in processes:
            one.join()
        if any(one.exitcode for one in processes):
            sys.exit(f"{size} processes ended with {[one.exitcode for one in processes]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
