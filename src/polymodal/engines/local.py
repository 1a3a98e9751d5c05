"""The engine `local`: a loop in this process, or several processes of this machine."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from polymodal.engines.shards import (
    MAX_ATTEMPTS,
    Done,
    Shard,
    WorkSpec,
    killed_too_often,
    shard_to_json,
    warn_of_retry,
)
from polymodal.runtime.executors import LocalExecutor
from polymodal.runtime.thread_limit import max_threads

#: What a process prints before the number of a shard that is complete.
COMPLETE = "complete "
JOB = "job.json"


@dataclass(frozen=True)
class LocalEngine:
    """Shards in this process, one after the other, or in several processes that share the processors.

    A process that is killed is replaced, and its shard is begun again, with a `ShardRetryWarning`.
    """

    workers: int = 1

    def run(self, spec: WorkSpec, shards: Sequence[Shard], done: Done) -> None:
        if self.workers == 1 or len(shards) <= 1:
            work = spec.open() if shards else None
            for shard in shards:
                assert work is not None
                work.run(shard)
                done(shard)
            return
        with TemporaryDirectory(prefix="polymodal-") as name:
            _run_processes(Path(name), spec, shards, done, min(self.workers, len(shards)))


def _run_processes(folder: Path, spec: WorkSpec, shards: Sequence[Shard], done: Done, workers: int) -> None:
    job = {"spec": asdict(spec), "shards": [shard_to_json(shard) for shard in shards]}
    (folder / JOB).write_text(json.dumps(job), encoding="utf-8")
    by_number = {shard.number: shard for shard in shards}
    killed: Counter[int] = Counter()

    def on_line(line: str) -> None:
        if line.startswith(COMPLETE):
            done(by_number[int(line.removeprefix(COMPLETE))])

    def replace(pid: int, reason: str) -> bool:
        for number in free_claims(folder, pid):
            killed[number] += 1
            if killed[number] >= MAX_ATTEMPTS:
                raise killed_too_often(by_number[number])
            warn_of_retry(by_number[number], killed[number], MAX_ATTEMPTS, reason)
        return True

    threads = max(1, max_threads() // workers)
    executor = LocalExecutor("polymodal.engines.worker", [str(folder)], logs=folder, on_line=on_line, threads=threads)
    executor.run(workers, replace)


def claim(folder: Path, number: int) -> bool:
    """Claim a shard for this process. Whether no other process has it."""
    try:
        with (folder / f"claim-{number}").open("x", encoding="utf-8") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return False
    return True


def complete(folder: Path, number: int) -> None:
    """Note that a claimed shard is complete."""
    (folder / f"claim-{number}").write_text("complete", encoding="utf-8")


def free_claims(folder: Path, pid: int) -> list[int]:
    """Remove the claims of a process that was killed; returns their shards."""
    found = [file for file in folder.glob("claim-*") if file.read_text(encoding="utf-8") in (str(pid), "")]
    for file in found:
        file.unlink()
    return [int(file.name.removeprefix("claim-")) for file in found]
