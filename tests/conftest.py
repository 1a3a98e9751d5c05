"""Every test computes on one thread and keeps caches in a folder of the session."""

from __future__ import annotations

import os
from pathlib import Path

# Before numpy and torch are imported, and for the processes that tests start: on small matrices the threads of BLAS
# and OpenMP wait for one another longer than they compute, and several workers of pytest share the processors.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
os.environ["OMP_WAIT_POLICY"] = "passive"  # where a test is about two threads, they wait without computing

import pytest
import torch

from clocks import Clocks
from database import postgresql as postgresql
from object_store import s3 as s3


@pytest.fixture(autouse=True, scope="session")
def one_thread_and_own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        folder: Path = tmp_path_factory.mktemp("cache")
        patch.setenv("POLYMODAL_CACHE", str(folder))
        yield  # type: ignore[misc]


@pytest.fixture
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    """No other program disturbs the measurements of `autotune`, and all processors may be used."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("polymodal.runtime.thread_limit.num_cores", lambda: 2)
    clocks = Clocks()
    monkeypatch.setattr("polymodal.runtime.autotune.clocks", clocks.read)
    return clocks
