"""Workers of a parallel search, each `python -m polymodal.tuning.worker FOLDER --parent N --worker N [...]`.

They communicate through the journal of the study and the files of the trials.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from polymodal.core.errors import PolymodalError
from polymodal.core.paths import scratch_folder
from polymodal.runtime.executors import LocalExecutor
from polymodal.runtime.thread_limit import max_threads
from polymodal.tuning.search_file import SearchSpec
from polymodal.tuning.study import LogFunction, Study
from polymodal.tuning.trial import TrialRunner


def run_workers(
    study: Study, folder: Path, *, jobs: int, max_trials: int | None, deadline: float | None, log: LogFunction
) -> None:
    """Run `jobs` worker processes until the search ends. They share the processors, at most `OMP_NUM_THREADS`.

    A killed process (such as out of memory) is replaced, and its trial is marked as failed.

    Raises:
        PolymodalError: a process ended with an error outside of a trial.
    """
    arguments = [str(folder)]
    arguments += ["--max-trials", str(max_trials)] if max_trials is not None else []
    arguments += ["--deadline", str(deadline)] if deadline is not None else []
    threads = max(1, max_threads() // jobs)
    executor = LocalExecutor("polymodal.tuning.worker", arguments, logs=folder, on_line=log, threads=threads)
    executor.run(jobs, study.fail_trial)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--worker", type=int, required=True)
    parser.add_argument("--max-trials", type=int)
    parser.add_argument("--deadline", type=float)
    given = parser.parse_args()
    torch.set_num_threads(1)
    spec = SearchSpec.read(given.folder)
    folds, space = spec.open(spec.table())
    study = Study(given.folder, space, spec.objectives, spec.seed, given.worker)
    with scratch_folder() as scratch:
        study.run(
            TrialRunner(folds, scratch),
            max_trials=given.max_trials,
            deadline=given.deadline,
            log=lambda text: print(text, flush=True),
            parent=given.parent,
        )


if __name__ == "__main__":
    try:
        main()
    except PolymodalError as error:
        sys.exit(f"{type(error).__name__}: {error}")
