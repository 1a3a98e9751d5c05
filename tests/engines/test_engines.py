"""Engines run every shard once, also if a process is killed in the middle of one, and end cleanly."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import psutil
import pytest

from polymodal.core.errors import PolymodalError, RecipeError
from polymodal.engines.choose import make_engine
from polymodal.engines.local import LocalEngine
from polymodal.engines.shards import ArrayShare, Shard, ShardRetryWarning, WorkSpec

SHARDS = [Shard(number, 10 * number, 10 * number + 10, f"{number}.txt") for number in range(6)]


@pytest.fixture(autouse=True)
def _tests_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")])))


def spec(folder: Path, killed: dict[str, int] | None = None, **options: Any) -> WorkSpec:
    return WorkSpec("shard_work", {"kind": "numbers", "folder": str(folder), "killed": killed or {}, **options})


def rows(folder: Path) -> list[int]:
    return [int(line) for shard in SHARDS for line in (folder / shard.name).read_text().splitlines()]


def test_a_loop_and_processes_run_every_shard_once(tmp_path: Path) -> None:
    """D7 and D11: one of two processes is killed in the middle of a shard, and replaced."""
    for workers, killed in ((1, {}), (2, {"3": 1})):
        folder, done = tmp_path / str(workers), list[int]()
        folder.mkdir()
        with warnings.catch_warnings(record=True) as caught:
            LocalEngine(workers).run(spec(folder, killed), SHARDS, lambda shard, done=done: done.append(shard.number))
        told = [str(one.message) for one in caught if one.category is ShardRetryWarning]
        again = (
            "rows 30 to 39: its process was killed by signal 9; it may have run out of memory; attempt 2 of 3 begins"
        )
        assert told == [again] * len(killed)
        assert sorted(done) == list(range(6))
        assert rows(folder) == list(range(60))
        assert (folder / "killed-3-0").exists() == bool(killed)
    assert [
        child for child in psutil.Process().children(recursive=True) if "engines.worker" in str(child.cmdline())
    ] == []


def test_a_shard_that_kills_its_process_again_and_again_is_told(tmp_path: Path) -> None:
    with pytest.raises(PolymodalError, match="works on rows 20 to 29 was killed 3 times"):
        LocalEngine(2).run(spec(tmp_path, {"2": 9}), SHARDS, lambda shard: None)


def test_an_error_of_the_work_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(PolymodalError, match="row 10: a cell is wrong"):
        LocalEngine(2).run(spec(tmp_path, wrong=1), SHARDS, lambda shard: None)
    with pytest.raises(PolymodalError, match="row 10: a cell is wrong"):
        LocalEngine().run(spec(tmp_path, wrong=1), SHARDS, lambda shard: None)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_jobs_of_an_array_share_all_shards(count: int) -> None:
    shares = [ArrayShare.parse(f"{index}/{count}").of(SHARDS) for index in range(count)]
    assert sorted(shard.number for share in shares for shard in share) == list(range(6))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["", "1", "4/4", "-1/4", "1/0", "a/b", "1/4/5"])
def test_other_shares_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="from 0/4 to 3/4 for 4 jobs"):
        ArrayShare.parse(text)


def test_other_engines_are_refused() -> None:
    with pytest.raises(RecipeError, match="there is no engine 'rai'; did you mean 'ray'"):
        make_engine("rai")
    with pytest.raises(RecipeError, match="must be at least 1, not 0"):
        make_engine("local", 0)


def test_ray_is_imported_by_its_engine_alone() -> None:
    """D10"""
    code = "import polymodal.engines.choose as one, sys; one.make_engine('ray'); sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
