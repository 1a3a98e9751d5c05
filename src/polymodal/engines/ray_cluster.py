"""The engine `ray`: shards on the machines of a Ray cluster, by actors that open their work once.

Ray only schedules. An actor is sent the description of a shard, and reads and writes the files itself, so no rows and
no media pass through Ray's object store.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from polymodal.core.errors import MissingExtraError, PolymodalError
from polymodal.engines.shards import (
    MAX_ATTEMPTS,
    Done,
    Shard,
    WorkSpec,
    killed_too_often,
    shard_to_json,
    warn_of_retry,
)
from polymodal.runtime.thread_limit import num_cores

#: The variable with the address of a cluster; without it, Ray is started on this machine for the run.
ADDRESS = "RAY_ADDRESS"
#: Times that Ray is started: on a busy machine, its agent may need more than the 15 seconds that Ray grants it.
START_ATTEMPTS = 3
#: Longest time until the first actor has started, in seconds: a cluster may have to start machines.
START_SECONDS = 900.0
#: Bytes of Ray's object store. It holds descriptions of shards only.
OBJECT_STORE_BYTES = 100 << 20


class ShardActor:
    """An actor: the work of one process. It is a class of its own, so that Ray finds it by its name."""

    def __init__(self, module: str, arguments: dict[str, Any]) -> None:
        self._work: Any = None
        self._spec = WorkSpec(module, arguments)

    def ready(self) -> bool:
        """Whether the process has started."""
        return True

    def run(self, values: dict[str, Any]) -> str:
        """Run the work of a shard. Returns the text of an error, or an empty text."""
        try:
            self._work = self._work or self._spec.open()
            self._work.run(Shard(**values))
        except PolymodalError as error:
            return str(error)
        return ""


@dataclass(frozen=True)
class RayEngine:
    """Shards on a Ray cluster: the one at `RAY_ADDRESS`, or one on this machine that is started for the run.

    workers: number of actors; default: as many as the processors of the cluster allow
    cpus, gpus: what each actor occupies
    attempts: times that a shard is begun before the run fails, if its actor dies

    An actor that dies is replaced, and its shard begins again, with a `ShardRetryWarning`.
    """

    workers: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    attempts: int = MAX_ATTEMPTS

    def run(self, spec: WorkSpec, shards: Sequence[Shard], done: Done) -> None:
        if not shards:
            return
        ray = require_ray()
        with _cluster(ray, self.workers, self.cpus):
            actors = [self._start(ray, spec) for _ in range(self._count(ray, len(shards)))]
            try:
                _check_started(ray, actors, self)
                self._run(ray, spec, actors, shards, done)
            finally:
                for actor in actors:
                    ray.kill(actor)

    def _count(self, ray: Any, shards: int) -> int:
        available = ray.cluster_resources()
        fitting = int(available.get("CPU", 1) / self.cpus) if self.cpus else shards
        if self.gpus:
            fitting = min(fitting, int(available.get("GPU", 0) / self.gpus))
        return max(1, min(shards, self.workers or fitting))

    def _start(self, ray: Any, spec: WorkSpec) -> Any:
        options = {"num_cpus": self.cpus, "num_gpus": self.gpus}
        return ray.remote(ShardActor).options(**options).remote(spec.module, spec.arguments)

    def _run(self, ray: Any, spec: WorkSpec, actors: list[Any], shards: Sequence[Shard], done: Done) -> None:
        """Give each actor a shard whenever it is free. Dead actors in the list are replaced."""
        died = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError, ray.exceptions.WorkerCrashedError)
        waiting, running, killed = deque(shards), dict[Any, tuple[Any, Shard]](), Counter[int]()
        idle = list(actors)
        while waiting or running:
            while waiting and idle:
                actor, shard = idle.pop(), waiting.popleft()
                running[actor.run.remote(shard_to_json(shard))] = (actor, shard)
            (ready, *_), _ = ray.wait(list(running), num_returns=1)
            actor, shard = running.pop(ready)
            try:
                problem = ray.get(ready)
            except died as error:
                killed[shard.number] += 1
                if killed[shard.number] >= self.attempts:
                    raise killed_too_often(shard, self.attempts) from None
                reason = f"its actor has ended ({type(error).__name__}); it may have run out of memory"
                warn_of_retry(shard, killed[shard.number], self.attempts, reason)
                actors[actors.index(actor)] = replacement = self._start(ray, spec)
                waiting.appendleft(shard)
                idle.append(replacement)
                continue
            if problem:
                raise PolymodalError(problem)
            done(shard)
            idle.append(actor)


def require_ray() -> Any:
    """The package ray.

    Raises:
        MissingExtraError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtraError("ray", "ray", "the engine 'ray'") from None
    return ray


@contextmanager
def _cluster(ray: Any, workers: int | None, cpus: float) -> Iterator[None]:
    """Connect to the cluster, or start one on this machine and stop it at the end."""
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if not os.environ.get(ADDRESS):
        logical = max(num_cores(), int((workers or 1) * cpus + 0.999))
        options |= {"address": "local", "num_cpus": logical, "include_dashboard": False}
        options["object_store_memory"] = OBJECT_STORE_BYTES
    start_ray(ray, options)
    try:
        yield
    finally:
        ray.shutdown()


def start_ray(ray: Any, options: dict[str, Any]) -> None:
    """Start Ray or connect to it, with several attempts.

    Raises:
        PolymodalError: it does not start.
    """
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            ray.init(**options)
            return
        except Exception as error:  # Ray raises a bare Exception if its agent starts too late
            ray.shutdown()
            if attempt == START_ATTEMPTS:
                where = os.environ.get(ADDRESS) or "this machine"
                raise PolymodalError(f"Ray cannot be started on {where}: {str(error).splitlines()[0]}") from error


def _check_started(ray: Any, actors: list[Any], engine: RayEngine) -> None:
    """Wait for the first actor, so that a cluster without room is an error and not a wait without end."""
    ready, _ = ray.wait([actor.ready.remote() for actor in actors], num_returns=1, timeout=START_SECONDS)
    if not ready:
        raise PolymodalError(
            f"the Ray cluster has started no worker with {engine.cpus:g} CPUs and {engine.gpus:g} GPUs in "
            f"{START_SECONDS:.0f} seconds; it has {ray.cluster_resources()}"
        )
