"""A search tries each recipe once, keeps what it tried, and survives kills and failures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polymodal.tuning import study as studies
from polymodal.tuning.folds import Folds
from polymodal.tuning.study import Study, TrialRecord, repair_journal
from polymodal.tuning.trial import TrialRunner
from tuning.searches import search

#: `late` cannot tell what two inputs only say together.
FUSIONS = {"fusion": ["late", "concat"]}
GOOD = [{"name": "concat", "dropout": share} for share in (0.0, 0.02, 0.04, 0.06, 0.08)]
IMPOSSIBLE = {"name": "bottleneck", "num_layers": 2, "fusion_layer": 1}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path / "cache"))


def work(study: Study, folds: Folds, place: Path, *, most: int | None = None, deadline: float | None = None) -> None:
    study.enqueue_initial(most)
    study.run(
        TrialRunner(folds, place / "bench"), max_trials=most, deadline=deadline, log=lambda text: None, parent=None
    )


def by_status(study: Study) -> dict[str, list[TrialRecord]]:
    found: dict[str, list[TrialRecord]] = {}
    for attempt in study.records():
        found.setdefault(attempt.status, []).append(attempt)
    return found


def fusion_of(attempt: TrialRecord) -> Any:
    return attempt.overrides["fusion"]


def test_the_better_of_two_fusions_is_found_and_no_trial_runs_twice(tmp_path: Path) -> None:
    study, folds = search(tmp_path / "out", FUSIONS)
    work(study, folds, tmp_path)  # without a limit: it ends when every recipe was tried
    complete = by_status(study)["complete"]
    assert sorted(map(fusion_of, complete)) == ["concat", "late"]
    scores = {fusion_of(one): study.candidate(one).score for one in complete}  # type: ignore[union-attr]
    assert scores["concat"] > 0.85
    assert scores["late"] < 0.7
    candidate = study.candidate(complete[0])
    assert candidate is not None
    assert candidate.num_folds == 2
    assert candidate.latency_ms is not None
    assert candidate.num_parameters > 0
    assert candidate.memory_mib is not None
    assert candidate.memory_mib >= round(16 * candidate.num_parameters / 2**20, 1) > 0, (
        "four numbers for each that learns"
    )
    assert candidate.score == folds.score(candidate.distributions)
    assert not np.isnan(candidate.distributions["target"]).any()


def test_a_search_ends_at_the_count_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    choices = {"fusion": GOOD[:2], "training.learning_rate": {"low": 0.01, "high": 0.05, "log": True}}
    study, folds = search(tmp_path / "out", choices)
    work(study, folds, tmp_path, most=3)
    first = [attempt for attempt in study.records() if attempt.status == "complete"]
    assert len(first) == 3
    files = {path: path.read_bytes() for path in (tmp_path / "out" / "trials").iterdir()}
    again, folds = search(tmp_path / "out", choices)
    work(again, folds, tmp_path, most=3)
    assert again.records() == study.records()
    work(again, folds, tmp_path, most=4)
    assert len(by_status(again)["complete"]) == 4
    assert again.records()[:3] == first
    assert all(path.read_bytes() == kept for path, kept in files.items())


def test_after_the_deadline_only_a_first_trial_is_run_and_to_its_end(tmp_path: Path) -> None:
    study, folds = search(tmp_path / "out", FUSIONS)
    work(study, folds, tmp_path, deadline=0.0)
    assert [attempt.status for attempt in study.records()] == ["complete"]


def test_a_trial_that_would_exceed_the_time_limit_is_not_counted_and_runs_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, folds = search(tmp_path / "out", FUSIONS)
    work(study, folds, tmp_path, most=1)
    monkeypatch.setattr(study, "_has_budget", lambda max_trials, deadline: len(study.records()) < 2)
    work(study, folds, tmp_path, deadline=0.0)
    assert [attempt.status for attempt in study.records()] == ["complete", "unfinished"]
    again, folds = search(tmp_path / "out", FUSIONS)
    work(again, folds, tmp_path, most=2)
    assert sorted(map(fusion_of, by_status(again)["complete"])) == ["concat", "late"]


def test_a_trial_with_a_much_lower_score_is_pruned_and_kept(tmp_path: Path) -> None:
    study, folds = search(tmp_path / "out", {"fusion": [*GOOD, "late"]}, folds=3)
    work(study, folds, tmp_path, most=6)
    found = by_status(study)
    assert sorted(found) == ["complete", "pruned"]
    (pruned,) = found["pruned"]
    assert fusion_of(pruned) == "late"
    candidate = study.candidate(pruned)
    assert candidate is not None
    assert candidate.num_folds == 2
    np.testing.assert_array_equal(np.isnan(candidate.distributions["target"]).any(1), folds.fold_of == 2)


def test_a_recipe_that_cannot_be_built_is_recorded_and_the_search_continues(tmp_path: Path) -> None:
    study, folds = search(tmp_path / "out", {"fusion": [IMPOSSIBLE, "concat"]})
    work(study, folds, tmp_path, most=2)
    failed, complete = study.records()
    assert (failed.status, complete.status) == ("failed", "complete")
    assert "fusion_layer" in failed.reason
    assert study.candidate(failed) is None


@pytest.mark.parametrize(
    "error", [MemoryError("40 GiB"), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")]
)
def test_running_out_of_memory_costs_one_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    real = studies.run_trial

    def run(runner: TrialRunner, recipe: Any, *more: Any) -> Any:
        if recipe.fusion.name == "late":
            raise error
        return real(runner, recipe, *more)

    monkeypatch.setattr(studies, "run_trial", run)
    study, folds = search(tmp_path / "out", FUSIONS)
    work(study, folds, tmp_path, most=2)
    failed, complete = study.records()
    assert failed.status == "failed"
    assert "out of memory" in failed.reason
    assert complete.status == "complete"


def test_a_programming_error_is_not_a_failed_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(studies, "run_trial", run)
    study, folds = search(tmp_path / "out", FUSIONS)
    with pytest.raises(RuntimeError, match="mat1"):
        work(study, folds, tmp_path, most=2)


def test_costs_can_be_optimized(tmp_path: Path) -> None:
    study, folds = search(tmp_path / "out", {"hidden_size": [16, 64]}, optimize=["score", "size"])
    work(study, folds, tmp_path, most=2)
    assert [attempt.status for attempt in study.records()] == ["complete"] * 2
    values = [trial.values for trial in study.study.get_trials()]
    sizes = [study.candidate(attempt).size_mib for attempt in study.records()]  # type: ignore[union-attr]
    assert [one[1] for one in values] == [-size for size in sizes]
    assert sizes[0] != sizes[1]


KILLED_IN_THE_MIDDLE = """
import os, signal, sys
from pathlib import Path
from tuning.searches import search
from polymodal.tuning import trial
from polymodal.tuning.trial import TrialRunner

real, calls = trial.train_model, []

def train(*given, **named):
    calls.append(1)
    if len(calls) == 4:  # the second fold of the second trial
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*given, **named)

trial.train_model = train
place = Path(sys.argv[1])
study, folds = search(place / "out", {"fusion": ["late", "concat"]})
study.enqueue_initial(None)
study.run(TrialRunner(folds, place / "bench"), max_trials=None, deadline=None, log=print, parent=None)
"""


def test_a_killed_search_is_resumed(tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-c", KILLED_IN_THE_MIDDLE, str(tmp_path)]
    path = os.pathsep.join(filter(None, [str(tests), os.environ.get("PYTHONPATH")]))
    killed = subprocess.run(command, cwd=tests, env={**os.environ, "PYTHONPATH": path}, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    out = tmp_path / "out"
    journal = out / studies.JOURNAL
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 4, "wor')  # and a line was being written
    (out / f"{studies.JOURNAL}.lock").touch()
    finished = {path: path.read_bytes() for path in (out / "trials").iterdir()}
    assert [path.stem for path in finished if path.suffix == ".json"] == ["0"]
    repair_journal(out)
    study, folds = search(out, FUSIONS)
    work(study, folds, tmp_path)
    found = by_status(study)
    assert [fusion_of(one) for one in found["complete"]] == ["late", "concat"]
    assert [fusion_of(one) for one in found["unfinished"]] == ["concat"]
    assert all(path.read_bytes() == kept for path, kept in finished.items())
    whole, folds = search(tmp_path / "whole", FUSIONS)
    work(whole, folds, tmp_path)
    for one, other in zip(found["complete"], by_status(whole)["complete"], strict=True):
        first, second = study.candidate(one), whole.candidate(other)
        assert first is not None
        assert second is not None
        np.testing.assert_array_equal(first.distributions["target"], second.distributions["target"])


def test_a_trial_that_was_saved_but_not_recorded_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, folds = search(tmp_path / "out", FUSIONS)

    def killed(number: int, candidate: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(study.store, "complete", killed)
    with pytest.raises(KeyboardInterrupt):
        work(study, folds, tmp_path, most=1)
    again, folds = search(tmp_path / "out", FUSIONS)
    kept = (tmp_path / "out" / "trials" / "0.json").read_bytes()
    work(again, folds, tmp_path, most=1)
    assert [attempt.status for attempt in again.records()] == ["complete"]
    assert (tmp_path / "out" / "trials" / "0.json").read_bytes() == kept
