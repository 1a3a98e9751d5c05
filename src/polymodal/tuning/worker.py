"""A search in several processes, each `python -m polymodal.tuning.worker FOLDER --parent N --worker N [...]`.

They meet in the journal of the study and the files of its trials.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from polymodal.core.errors import PolymodalError
from polymodal.core.paths import scratch_folder
from polymodal.runtime.executors import LocalExecutor
from polymodal.tuning.search_file import SearchSpec
from polymodal.tuning.study import LogFunction, Study
from polymodal.tuning.trial import TrialRunner


def run_workers(study: Study, folder: Path, *, jobs: int, most: int | None, deadline: float | None, say: LogFunction) -> None:
    """Run `jobs` processes until the search ends. One that is killed (out of memory) costs its trial, which counts as
    failed, and is replaced.

    Raises:
        PolymodalError: a process ended by an error that is no trial's.
    """
    arguments = [str(folder)]
    arguments += ["--most", str(most)] if most is not None else []
    arguments += ["--deadline", str(deadline)] if deadline is not None else []
    LocalExecutor("polymodal.tuning.worker", arguments, logs=folder, on_line=say).run(jobs, study.fail_trial)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--worker", type=int, required=True)
    parser.add_argument("--most", type=int)
    parser.add_argument("--deadline", type=float)
    given = parser.parse_args()
    torch.set_num_threads(1)
    job = SearchSpec.read(given.folder)
    folds, space = job.open(job.table())
    study = Study(given.folder, space, job.objectives, job.seed, given.worker)
    with scratch_folder() as place:
        study.run(
            TrialRunner(folds, place),
            max_trials=given.most,
            deadline=given.deadline,
            log=lambda text: print(text, flush=True),
            parent=given.parent,
        )


if __name__ == "__main__":
    try:
        main()
    except PolymodalError as error:
        sys.exit(f"{type(error).__name__}: {error}")
