"""Training with two processes of one thread, against one process with one thread and with two; collective operations;
memory with and without sharding."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import Any

from benchmarks.measure import interleaved
from benchmarks.process_memory import watch_memory
from benchmarks.record import Record

#: Width of the network of numbers, whose parameters grow with its square.
WIDTHS = (64, 1024, 3584)
#: Numbers of processes, and `training.sharding`, of the measurements of memory.
DIVISIONS = ((1, "none"), (2, "none"), (2, "full"), (4, "full"))

MEMORY_JOB = {"kind": "vit", "rows": 64, "width": 512, "layers": 12, "batch": 16}


def run(smallest: bool) -> Record:
    """Rows per second of one epoch, per number of processes and threads; the time of collective operations by size."""
    record = Record(
        name="several_processes",
        title="Training with several processes",
        method=(
            "One epoch of the trainer without validation, fp32 on a CPU, processes on one machine with the backend "
            "gloo. ViT: 6 layers on images of 64 pixels, a batch of 64 rows of all processes together. Processes have "
            "one thread each, unless stated. The honest rival of two processes is one process with two threads. Table: "
            "a network of numbers of growing width, a batch of 128; the time of collective operations is that of "
            "process 0, and includes its wait for the other. Memory: the same ViT with 12 layers and width 512, its "
            "peak in any process over training, validation and the last gathering of the weights; and what a process "
            "holds of weights and optimizer state after the last step."
        ),
        unit="rows/s",
        larger_is_better=True,
    )
    rows, width = (64, 32) if smallest else (768, 192)
    job = {"kind": "vit", "rows": rows, "width": width, "batch": 64}
    contestants = {
        "2 processes x 1 thread": lambda: measured(2, 1, job)["rows per second"],
        "1 process x 1 thread": lambda: measured(1, 1, job)["rows per second"],
        "1 process x 2 threads": lambda: measured(1, 2, job)["rows per second"],
    }
    interleaved(record, contestants, 1 if smallest else 2, warm=0)
    record.compare("2 processes x 1 thread", "1 process x 1 thread")
    record.compare("2 processes x 1 thread", "1 process x 2 threads")
    lines = [["parameters", "step of 1 process, ms", "step of 2, ms", "of this in collectives, ms", "share"]]
    for own in () if smallest else WIDTHS:
        numbers = {"kind": "numbers", "rows": 1024, "width": own, "batch": 128}
        alone, two = measured(1, 1, numbers), measured(2, 1, numbers)
        step, spent = two["milliseconds per step"], two["collective milliseconds per step"]
        shown = [alone["milliseconds per step"], step, spent]
        lines.append([f"{two['parameters']:,}", *(f"{value:.1f}" for value in shown), f"{spent / step:.0%}"])
    held = [["processes", "sharding", "parameters", "peak of a process, MiB", "of this anonymous, MiB", "held, MiB"]]
    layered = {"kind": "vit", "rows": 32, "width": 32, "batch": 16} if smallest else MEMORY_JOB
    for processes, sharding in DIVISIONS[2:3] if smallest else DIVISIONS:
        found = measured(processes, 1, {**layered, "sharding": sharding})
        peaks = [f"{max(one[kind] for one in found['memory']):.0f}" for kind in ("resident", "anonymous")]
        held.append([str(processes), sharding, f"{found['parameters']:,}", *peaks, f"{found['held MiB']:.0f}"])
    record.tables = {"Time of collective operations": lines, "Memory": held}
    return record


def measured(processes: int, threads: int, job: dict[str, Any]) -> dict[str, Any]:
    """What `several_processes_worker` measures with this many processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    if processes > 1:
        shared |= {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, "-m", "benchmarks.several_processes_worker", json.dumps({**job, "threads": threads})]
    started = [
        subprocess.Popen(
            command, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=subprocess.PIPE, text=True
        )
        for rank in range(processes)
    ]
    memory = watch_memory(started)
    assert started[0].stdout is not None
    found: dict[str, Any] = json.loads(started[0].stdout.read().strip().splitlines()[-1])
    return {**found, "memory": memory}
