"""A process of a parallel search: `python -m polymodal.tuning.worker FOLDER --parent N --worker N [...]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from polymodal.core.errors import PolymodalError
from polymodal.core.paths import scratch
from polymodal.tuning.search_file import Job
from polymodal.tuning.study import Study
from polymodal.tuning.trial import Bench


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--worker", type=int, required=True)
    parser.add_argument("--most", type=int)
    parser.add_argument("--deadline", type=float)
    given = parser.parse_args()
    torch.set_num_threads(1)
    job = Job.read(given.folder)
    folds, space = job.open(job.table())
    study = Study(given.folder, space, job.objectives, job.seed, given.worker)
    with scratch() as place:
        study.work(
            Bench(folds, place),
            most=given.most,
            deadline=given.deadline,
            say=lambda text: print(text, flush=True),
            parent=given.parent,
        )


if __name__ == "__main__":
    try:
        main()
    except PolymodalError as error:
        sys.exit(f"{type(error).__name__}: {error}")
