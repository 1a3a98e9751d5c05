"""`tune_worker`: another process, on this or another machine, that runs trials of a search."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

from polymodal.core.argument_types import check_arguments
from polymodal.core.errors import DataError, PolymodalError
from polymodal.core.progress import Progress
from polymodal.experiments.arguments import as_table
from polymodal.tuning.search_file import FILE as SEARCH
from polymodal.tuning.search_file import SearchSpec
from polymodal.tuning.space import SearchSpace
from polymodal.tuning.storage import check_storage
from polymodal.tuning.study import Study, Worker
from polymodal.tuning.trial_store import OpenLimits
from polymodal.tuning.worker import run_here

#: Longest time until the search has begun, and seconds between two looks at it.
START_SECONDS, POLL_SECONDS = 600.0, 1.0


@check_arguments
def tune_worker(
    data: Any, *, search: Path | str, storage: str, root: Path | str | None = None, progress: bool = False
) -> int:
    """Run trials of the search in the folder `search`, which `tune` has begun with the same `storage`, until it ends.

    If this process ends early, its trial is repeated by the others. If the search has not begun, it is waited for.

    data: the table of the search; its path may be another one on this machine
    search: the folder of the search (`out` of `tune`), on a file system that all machines share
    storage: the URL of the database with the trials
    root: as in `fit`; progress: whether to show the trials

    Returns:
        The number of trials that this process completed.

    Raises:
        DataError: the table is not that of the search.
        PolymodalError: the search has ended or does not begin in ten minutes, or the database cannot be used.
        MissingExtraError, RecipeError: as in `tune`.
    """
    check_storage(storage)
    table = as_table(data, root)
    if table is None:
        raise DataError("there is no training data")
    bar, folder = Progress(progress), Path(search).resolve()
    spec = _wait_for_search(folder, storage)
    if table.fingerprint() != spec.fingerprint:
        raise DataError("this is not the table of the search: its cells differ", file=table.name)
    folds, space = spec.open(table)
    with spec.record(folder, storage).errors():
        study, limits = _wait_for_study(spec, folder, space, storage)
        run_here(study, folds, max_trials=limits.max_trials, deadline=limits.deadline, log=bar.log)
        return study.num_completed()


def _wait_for_search(folder: Path, storage: str) -> SearchSpec:
    """The search in a folder, when there is one."""
    end = time.monotonic() + START_SECONDS
    while not (folder / SEARCH).is_file():
        _wait(end, folder)
    spec = SearchSpec.read(folder)
    spec.record(folder, storage)
    return spec


def _wait_for_study(spec: SearchSpec, folder: Path, space: SearchSpace, storage: str) -> tuple[Study, OpenLimits]:
    """The study, when its writer has opened it, and its limits."""
    worker, end = Worker(group=1 + secrets.randbelow(2**31)), time.monotonic() + START_SECONDS
    study = Study(folder, space, spec.objectives, spec.seed, worker, spec.record(folder, storage))
    while True:
        limits = study.store.limits
        if limits is not None and limits.is_open:
            return study, limits
        _wait(end, folder)


def _wait(end: float, folder: Path) -> None:
    if time.monotonic() > end:
        raise PolymodalError(
            f"no search is running in {folder}: begin or resume it by `polymodal tune` with the same storage"
        )
    time.sleep(POLL_SECONDS)
