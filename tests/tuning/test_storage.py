"""The trials of a search in a database: the same as in a journal, shared by machines, and repeated if one ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from database import PASSWORD
from polymodal.core.errors import DataError, MissingExtraError, PolymodalError, RecipeError
from polymodal.runtime.executors import LocalExecutor
from polymodal.tuning import heartbeat, study, tune_worker
from polymodal.tuning.results import TuningResult
from polymodal.tuning.storage import StudyStorage, check_storage, new_study_name
from polymodal.tuning.study import Study
from polymodal.tuning.trial import TrialRunner
from polymodal.tuning.tune import tune
from tuning.searches import RECIPE, data, search

DROPOUTS = [0.0, 0.1, 0.2]
#: The trial with this one is killed.
KILLED = 0.1
DECODERS = {"outputs.target.decoder": [{"name": "mlp", "dropout": share} for share in DROPOUTS]}
TESTS = Path(__file__).parents[1]
#: Single inputs need no unimodal networks beside the trials.
SINGLE: dict[str, Any] = {
    "inputs": {"a": RECIPE["inputs"]["a"]},
    "outputs": RECIPE["outputs"],
    "hidden_size": 8,
    "training": {"epochs": 1, "batch_size": 32, "learning_rate": 0.03},
    "evaluation": {"bootstrap_samples": 0},
}
SMALL = {**RECIPE, "training": {**RECIPE["training"], "epochs": 1}, "evaluation": {"bootstrap_samples": 0}}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")])))


def run(out: Path, source: Any = None, **more: Any) -> TuningResult:
    given: dict[str, Any] = {"recipe": SINGLE, "space": DECODERS, "folds": 2, "trials": 3, **more}
    return tune(source or data(80), out=out, time_limit=None, **given)


def dropout(overrides: dict[str, Any]) -> float:
    return float(overrides["outputs.target.decoder"]["dropout"])


def scores(found: TuningResult) -> dict[float, float]:
    """The score of each complete trial by its dropout, each of which was tried once."""
    complete = [entry for entry in found.entries if entry.status == "complete"]
    assert max(Counter(dropout(entry.overrides) for entry in complete).values()) == 1
    return {dropout(entry.overrides): entry.candidate.score for entry in complete}


def predictions(folder: Path, study: Study) -> dict[str, bytes]:
    """The bytes of the out-of-fold predictions of each complete trial, by its settings."""
    return {
        json.dumps(one.overrides): (folder / "trials" / f"{one.number}.0.npy").read_bytes()
        for one in study.records()
        if one.status == "complete"
    }


def test_a_database_draws_the_trials_of_a_journal_also_after_a_resume(
    tmp_path: Path, postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "NUM_RANDOM_TRIALS", 3)
    choices = {
        "hidden_size": {"low": 4, "high": 24},
        "training.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True},
    }
    found = {}
    for name, url in (("journal", None), ("database", postgresql)):
        folder = tmp_path / name
        place, most = StudyStorage(folder, url, new_study_name(url)), (7,) if url is None else (5, 7)
        for trials in most:
            one, folds = search(folder, choices, recipe=SMALL, storage=place)
            one.enqueue_initial(trials)
            runner = TrialRunner(folds, tmp_path / f"scratch-{name}-{trials}")
            one.run(runner, max_trials=trials, deadline=None, log=lambda text: None, parent=None)
        found[name] = (one.records(), predictions(folder, one))
    assert len(found["journal"][0]) == 7
    assert found["journal"] == found["database"]


def test_a_killed_machine_is_noticed_and_its_trial_repeated(
    tmp_path: Path, postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process joins, and is killed in the middle of its trial. A second one reads the table from elsewhere."""
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(heartbeat, "SILENT_SECONDS", 2.0)
    out, table = tmp_path / "out", tmp_path / "table.parquet"
    pq.write_table(pa.table(data(80)), table)
    joined = (
        "import sys; from pathlib import Path; import polymodal, killed_trials\n"
        "table, out, url, dropout, notes = sys.argv[1:]\n"
        "killed_trials.kill_in(float(dropout), 1, Path(notes))\n"
        "print(polymodal.tune_worker(table, search=out, storage=url))"
    )
    command = [sys.executable, "-c", joined, str(table), str(out), postgresql]
    killed = subprocess.Popen([*command, str(KILLED), str(tmp_path)])
    whole, seen = study.Study._run_trial, [0]

    def first_waits_for_the_kill(self: Study, trial: Any, *more: Any) -> None:
        seen[0] += 1
        if seen[0] == 1:  # this process has a trial, the other one has the rest
            killed.wait(60)
        whole(self, trial, *more)

    monkeypatch.setattr(study.Study, "_run_trial", first_waits_for_the_kill)
    found = run(out, table, storage=postgresql)
    assert killed.returncode == -9
    assert (tmp_path / "killed-0").exists()
    (lost,) = found.failed
    assert (dropout(lost.overrides), lost.status) == (KILLED, "unfinished")
    assert "has ended" in lost.reason
    alone = run(tmp_path / "alone", table)
    assert sorted(scores(found)) == DROPOUTS
    assert scores(found) == scores(alone)
    assert found.best.score == alone.best.score


def test_a_search_is_resumed_with_its_storage_alone_and_shows_no_password(tmp_path: Path, postgresql: str) -> None:
    table = tmp_path / "table.parquet"
    pq.write_table(pa.table(data(80)), table)
    first = run(tmp_path / "out", table, trials=1, storage=postgresql)
    assert list(scores(first)) == [0.0]
    with pytest.raises(RecipeError, match=r"are in postgresql://tester@127\.0\.0\.1"):
        run(tmp_path / "out", table, resume=True)
    with pytest.raises(PolymodalError, match=r"template1 has no trials of the search"):
        run(tmp_path / "out", table, resume=True, storage=postgresql.replace("/postgres", "/template1"))
    assert sorted(scores(run(tmp_path / "out", table, resume=True, storage=postgresql))) == DROPOUTS
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or PASSWORD.encode() not in path.read_bytes()
    assert not (tmp_path / "out" / "study.journal").exists()


def test_a_worker_needs_the_table_and_a_search_that_runs(
    tmp_path: Path, postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_worker, "START_SECONDS", 0.1)
    monkeypatch.setattr(tune_worker, "POLL_SECONDS", 0.05)
    with pytest.raises(PolymodalError, match="no search is running"):
        tune_worker.tune_worker(data(80), search=tmp_path / "none", storage=postgresql)
    run(tmp_path / "out", trials=1, storage=postgresql)
    with pytest.raises(DataError, match="its cells differ"):
        tune_worker.tune_worker(data(60), search=tmp_path / "out", storage=postgresql)
    with pytest.raises(PolymodalError, match="no search is running"):
        tune_worker.tune_worker(data(80), search=tmp_path / "out", storage=postgresql)


def test_a_killed_process_of_this_machine_is_replaced_and_its_trial_repeated(
    tmp_path: Path, postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def executor(module: str, arguments: list[str], **more: Any) -> LocalExecutor:
        return LocalExecutor("killed_trials", [str(KILLED), "1", str(tmp_path), *arguments], **more)

    monkeypatch.setattr("polymodal.tuning.worker.LocalExecutor", executor)
    found = run(tmp_path / "out", jobs=2, storage=postgresql)
    assert (tmp_path / "killed-0").exists()
    assert sorted(scores(found)) == DROPOUTS
    (lost,) = found.failed
    assert (dropout(lost.overrides), lost.status) == (KILLED, "unfinished")
    assert "killed by signal 9" in lost.reason


def test_a_trial_that_kills_its_process_three_times_has_failed(tmp_path: Path) -> None:
    one, _ = search(tmp_path, {"hidden_size": [8]})
    one.enqueue_initial(1)
    for _ in range(3):
        one.store.set_attributes(one._next_trial().number, process=1, group=0)
        assert one.repeat_trial_of(1, "its process was killed")
    assert [record.status for record in one.records()] == ["unfinished", "unfinished", "failed"]
    assert "killed 3 times" in one.records()[-1].reason
    assert [trial for trial in one.store.trials() if trial.state.name == "WAITING"] == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:///trials.db", "does not lock rows"),
        ("redis://host:6379", "pickled"),
        ("rediss://host:6379", "pickled"),
        ("grpc://host:13000", "checks no password"),
        ("postgres://host/trials", "did you mean 'postgresql'"),
        ("trials", "such as postgresql://"),
    ],
)
def test_other_storages_are_refused_with_the_reason(url: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        check_storage(url)


def test_a_database_that_is_not_there_is_told_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises(PolymodalError, match=r"postgresql://me@127\.0\.0\.1:1/trials cannot be used") as told:
        run(tmp_path / "out", storage="postgresql://me:secret@127.0.0.1:1/trials?connect_timeout=2")
    assert "secret" not in str(told.value)
    assert not (tmp_path / "out").exists()
    monkeypatch.setitem(sys.modules, "pymysql", None)
    monkeypatch.setattr("polymodal.tuning.storage.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"polymodal\[mysql\]"):
        check_storage("mysql://me@host/trials")
