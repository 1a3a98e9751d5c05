"""The folder of tiny checkpoints: the same path in every process of a test run, so that test names are equal."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import gettempdir

RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))


def final_folder(made: Path, name: str) -> str:
    """The folder of the checkpoint `name` that was made in the folder `made`; the first process to end makes it."""
    place = Path(gettempdir()) / f"polymodal-tests-{RUN}" / name
    place.parent.mkdir(exist_ok=True)
    try:
        made.rename(place)
    except OSError:
        shutil.rmtree(made)
    return str(place)
