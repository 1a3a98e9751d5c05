"""The processes that compute every case, launches of two, three and four: `python -m distributed.ranks FOLDER [NAMES]`.

All are forks of one process that has imported everything: imports take longer than the cases. The launches run at the
same time, since a process waits for the others of its launch half of the time.
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

from distributed.gradient_cases import Case, Comparison, gradient_cases
from distributed.launch import launch_variables
from distributed.sharded_cases import hybrid, sharded_cases
from distributed.steps import in_double_precision
from distributed.training_cases import training_cases
from distributed.world_cases import world_cases
from polymodal.core.registry import KINDS, components
from polymodal.distributed.start import start_world

SIZES = (2, 3)
#: The size of the launch in which both dimensions of the mesh are above 1.
HYBRID = 4
#: What the first pretrained model, the first sharded network and the first checkpoint of a process import.
IMPORTED_LATE = (
    "transformers.modeling_utils",
    "torch._dynamo",
    "torch.distributed.fsdp",
    "torch.distributed.checkpoint.hf_storage",
    "polymodal.distributed.sharding",
)


def cases(size: int) -> Iterator[tuple[str, Case]]:
    """Every case of a launch by name, those in double precision last."""
    if size == HYBRID:
        yield "training hybrid", hybrid
        return
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
    compared: list[tuple[str, Comparison]] = []
    with start_world() as world:
        for name, case in cases(world.size):
            if wanted and not any(one in name for one in wanted):
                continue
            begun = time.perf_counter()
            try:
                found = case(world)
            except Exception:  # noqa: BLE001 - the other processes may wait for this one, so nothing can follow
                results[name] = {"failed": traceback.format_exc()[-3000:]}
                break
            if isinstance(found, Comparison):
                compared.append((name, found))
                found = found.result
            results[name] = {**found, "seconds": time.perf_counter() - begun}
        for name, own in compared[world.rank :: world.size]:  # the processes divide what one can do alone
            begun = time.perf_counter()
            try:
                results[name] |= own.finish()
            except Exception:  # noqa: BLE001 - a result like any other
                results[name] |= {"failed": traceback.format_exc()[-3000:]}
            results[name]["seconds"] += time.perf_counter() - begun
        (folder / f"{world.size}-{world.rank}.json").write_text(json.dumps(results))


def main(folder: Path, wanted: list[str]) -> None:
    for name in IMPORTED_LATE:
        importlib.import_module(name)
    for kind in KINDS:
        components(kind)
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    variables = [own for size in (*SIZES, HYBRID) for own in launch_variables(size)]
    processes = [context.Process(target=compute, args=(own, folder, wanted)) for own in variables]
    for one in processes:
        one.start()
    for one in processes:
        one.join()
    if any(one.exitcode for one in processes):
        sys.exit(f"the processes ended with {[one.exitcode for one in processes]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
