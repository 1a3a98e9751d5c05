"""Workers of a search: this process, processes of this machine, each
`python -m polymodal.tuning.worker FOLDER --parent N --worker N [...]`, or actors of a Ray cluster.

They communicate through the record of the trials and the files of the trials.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch

from polymodal.core.errors import PolymodalError
from polymodal.core.paths import scratch_folder
from polymodal.engines.ray_cluster import RayEngine
from polymodal.engines.shards import Shard, WorkSpec
from polymodal.runtime.executors import LocalExecutor
from polymodal.runtime.thread_limit import max_threads
from polymodal.tuning.folds import Folds
from polymodal.tuning.limits import SearchLimits
from polymodal.tuning.search_file import SearchSpec
from polymodal.tuning.storage import VARIABLE
from polymodal.tuning.study import LogFunction, Study, Worker
from polymodal.tuning.trial import TrialRunner

#: Times that an actor of a search is restarted. Each time, its trial is repeated or has failed.
MAX_RESTARTS = 20


def run_trials(study: Study, folds: Folds, limits: SearchLimits, deadline: float | None, log: LogFunction) -> None:
    """Run trials on the engine of the search until it ends, and wait for those of other machines.

    Raises:
        PolymodalError: a process ended with an error outside of a trial.
    """
    while True:
        if limits.engine == "ray":
            run_on_ray(study, jobs=limits.jobs, max_trials=limits.trials, deadline=deadline)
        elif limits.jobs == 1:
            run_here(study, folds, max_trials=limits.trials, deadline=deadline, log=log)
        else:
            run_workers(study, jobs=limits.jobs, max_trials=limits.trials, deadline=deadline, log=log)
        if not study.wait_for_others(deadline):
            return


def run_here(
    study: Study,
    folds: Folds,
    *,
    max_trials: int | None,
    deadline: float | None,
    log: LogFunction,
    parent: int | None = None,
) -> None:
    """Run trials in this process, in a temporary folder."""
    with scratch_folder() as scratch:
        study.run(TrialRunner(folds, scratch), max_trials=max_trials, deadline=deadline, log=log, parent=parent)


def run_workers(study: Study, *, jobs: int, max_trials: int | None, deadline: float | None, log: LogFunction) -> None:
    """Run `jobs` worker processes until the search ends. They share the processors, at most `OMP_NUM_THREADS`.

    A killed process (such as out of memory) is replaced, and its trial is repeated.

    Raises:
        PolymodalError: a process ended with an error outside of a trial.
    """
    folder, url = study.folder, study.store.place.url
    arguments = [str(folder)]
    arguments += ["--max-trials", str(max_trials)] if max_trials is not None else []
    arguments += ["--deadline", str(deadline)] if deadline is not None else []
    executor = LocalExecutor(
        "polymodal.tuning.worker",
        arguments,
        logs=folder,
        on_line=log,
        threads=max(1, max_threads() // jobs),
        environment={} if url is None else {VARIABLE: url},
    )
    executor.run(jobs, study.repeat_trial_of)


class TrialsWork:
    """The trials of one worker. A worker is a shard of the search; its number is that of the shard."""

    def __init__(self, folder: Path, max_trials: int | None, deadline: float | None, storage: str | None) -> None:
        self.folder, self.max_trials, self.deadline, self.storage = folder, max_trials, deadline, storage
        self.spec = SearchSpec.read(folder)
        self.folds, self.space = self.spec.open(self.spec.table())

    def run(self, shard: Shard) -> None:
        """Run trials until the search ends."""
        self.run_trials(shard.number, log=lambda text: None, parent=None)

    def run_trials(self, worker: int, log: LogFunction, parent: int | None) -> None:
        """Run trials as the worker of this number. A trial that it was running when it was killed is repeated."""
        place = self.spec.record(self.folder, self.storage)
        with place.errors():
            study = Study(self.folder, self.space, self.spec.objectives, self.spec.seed, Worker(worker), place)
            study.repeat_own_trials("its process was killed; it may have run out of memory")
            most, end = self.max_trials, self.deadline
            run_here(study, self.folds, max_trials=most, deadline=end, log=log, parent=parent)


def open_work(*, folder: str, max_trials: int | None, deadline: float | None, storage: str | None) -> TrialsWork:
    """The work of an engine."""
    torch.set_num_threads(1)
    return TrialsWork(Path(folder), max_trials, deadline, storage)


def run_on_ray(study: Study, *, jobs: int, max_trials: int | None, deadline: float | None) -> None:
    """Run `jobs` actors until the search ends. The folder of the search has the same path on all machines of the
    cluster.

    An actor that dies is restarted, and its trial is repeated.

    Raises:
        PolymodalError: an actor ended with an error outside of a trial, or died many times.
    """
    arguments = {"folder": str(study.folder), "max_trials": max_trials, "deadline": deadline}
    arguments["storage"] = study.store.place.url
    workers = [Shard(number, 0, 0, f"worker-{number}") for number in range(jobs)]
    engine = RayEngine(jobs, attempts=MAX_RESTARTS + 1)
    engine.run(WorkSpec("polymodal.tuning.worker", arguments), workers, lambda worker: None)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--worker", type=int, required=True)
    parser.add_argument("--max-trials", type=int)
    parser.add_argument("--deadline", type=float)
    given = parser.parse_args()
    limits = {"max_trials": given.max_trials, "deadline": given.deadline}
    work = open_work(folder=str(given.folder), **limits, storage=os.environ.get(VARIABLE))
    work.run_trials(given.worker, log=lambda text: print(text, flush=True), parent=given.parent)


if __name__ == "__main__":
    try:
        main()
    except PolymodalError as error:
        sys.exit(f"{type(error).__name__}: {error}")
