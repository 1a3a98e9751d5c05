"""The search itself: which recipe is tried next, when a trial is cut short, and what is kept of each."""

from __future__ import annotations

import os
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.core.errors import MissingExtraError, PolymodalError, TrainingError
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.pareto import OBJECTIVES
from polymodal.tuning.space import SearchSpace
from polymodal.tuning.trial import TrialRunner, run_trial

JOURNAL, TRIALS, STUDY_NAME = "study.journal", "trials", "search"
#: Trials that must be whole before others are cut short, and folds that every trial runs.
MIN_COMPLETE_TRIALS, WARMUP_FOLDS = 5, 1
#: Points that are given, at most; the rest is drawn.
MAX_INITIAL_POINTS = 16
#: So many draws in a row that were tried before: the space is exhausted.
MAX_DUPLICATES = 25
#: Trials before which points are drawn at random rather than where good ones lie, besides those that are given.
NUM_RANDOM_TRIALS = 10

#: Called with a text for people after each trial.
LogFunction = Callable[[str], None]


class TrialStopped(Exception):
    """A trial ends before its last fold: `status` and `reason` as an `Attempt` has them, `candidate` what it has so
    far."""

    def __init__(self, status: str, reason: str, candidate: Candidate) -> None:
        self.status, self.reason, self.candidate = status, reason, candidate
        super().__init__(reason)


@dataclass(frozen=True)
class TrialRecord:
    """What became of one trial.

    status: `complete`; `pruned` after some folds; `failed` with a `reason`; `unfinished` as time ran out or its
        process was killed (resuming repeats it); `repeat` of an earlier one, or beyond the number asked for (not run)
    changes: the values that it drew, by recipe path
    """

    number: int
    status: str
    reason: str
    changes: dict[str, Any]

    @property
    def name(self) -> str:
        return f"trial {self.number}"


class Study:
    """The trials of one search, in a journal that several processes write.

    Optuna proposes them: first the points of the space, then by the tree-structured Parzen estimator (Bergstra et al.,
    "Algorithms for Hyper-Parameter Optimization", 2011), drawing all dimensions together. With one objective, a trial
    whose score after two folds or more is below the median of earlier trials there is cut short.
    """

    def __init__(self, folder: Path, space: SearchSpace, objectives: Sequence[str], seed: int, worker: int = 0) -> None:
        """
        worker: the number of this process among those that work on the search, so that each draws its own

        Raises:
            MissingExtraError: Optuna is not installed.
        """
        optuna = require_optuna()
        self.optuna, self.folder, self.space = optuna, folder, space
        self.seed = seed + 7919 * worker
        self.objectives = list(objectives)
        journal, path = optuna.storages.journal, str(folder / JOURNAL)
        backend = journal.JournalFileBackend(path, lock_obj=journal.JournalFileOpenLock(path))
        self.storage = optuna.storages.JournalStorage(backend)
        self.study = optuna.create_study(
            storage=self.storage,
            study_name=STUDY_NAME,
            directions=["maximize"] * len(self.objectives),
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=MIN_COMPLETE_TRIALS, n_warmup_steps=WARMUP_FOLDS),
        )

    def enqueue_initial(self, most: int | None) -> None:
        """Queue the first points (`most` trials are asked for), and again those that a killed run or a deadline left
        unfinished. One process does this, before any other works."""
        most = MAX_INITIAL_POINTS if most is None else min(most, MAX_INITIAL_POINTS)
        if not self.study.get_trials(deepcopy=False):
            for point in self.space.points(most):
                self.study.enqueue_trial(point)
        queued = {trial.user_attrs.get("again") for trial in self.study.get_trials(deepcopy=False)}
        for trial in self.study.get_trials(deepcopy=False):
            status = trial.user_attrs.get("status")
            if trial.state.name == "RUNNING" and not self._recover(trial):
                self._close(trial.number, "unfinished", "its process was killed")
                status = "unfinished"
            elif trial.state.name == "RUNNING":
                continue
            if status == "unfinished" and trial.number not in queued:
                self.study.enqueue_trial(trial.params, user_attrs={"again": trial.number})

    def run(self, runner: TrialRunner, *, max_trials: int | None, deadline: float | None, log: LogFunction, parent: int | None) -> None:
        """Try recipes until `most` trials are there or a further one would end after `deadline` (`time.time()`).

        parent: the process on whose behalf this one works; when it is gone, so is this one
        """
        repeats = 0
        while repeats < MAX_DUPLICATES and self._has_budget(max_trials, deadline):
            trial = self._next_trial()
            changes = self.space.suggest(trial)
            self._set_attributes(trial.number, changes=changes, process=os.getpid())
            if max_trials is not None and self._num_counted(trial.number) >= max_trials:
                self._close(trial.number, "repeat", "more trials than were asked for")
                continue
            if self._is_duplicate(trial):
                repeats += 1
                continue
            repeats = 0
            self._run_trial(trial, changes, runner, deadline, log, parent)

    def records(self) -> list[TrialRecord]:
        """Every trial that was begun, in order."""
        return [
            TrialRecord(
                trial.number,
                trial.user_attrs.get("status", "unfinished"),
                trial.user_attrs.get("reason", ""),
                trial.user_attrs.get("changes", {}),
            )
            for trial in self.study.get_trials(deepcopy=False)
            if trial.state.name != "WAITING"
        ]

    def candidate(self, attempt: TrialRecord) -> Candidate | None:
        """The candidate of a trial that ran one fold or more."""
        if attempt.status not in ("complete", "pruned"):
            return None
        return Candidate.load(self.folder / TRIALS, str(attempt.number))

    def fail_trial(self, process: int, reason: str) -> bool:
        """Close the trial on which a process that is gone was working; whether there was one."""
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state.name == "RUNNING" and trial.user_attrs.get("process") == process:
                self._close(trial.number, "failed", reason)
                return True
        return False

    def _next_trial(self) -> Any:
        """The next trial. What is drawn follows from the seed and the number of trials so far, so that a search that
        was resumed draws as an uninterrupted one does."""
        drawn = len(self.study.get_trials(deepcopy=False))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # several arguments are marked as experimental
            self.study.sampler = self.optuna.samplers.TPESampler(
                n_startup_trials=NUM_RANDOM_TRIALS,
                seed=(self.seed * 1_000_003 + drawn) % 2**32,
                multivariate=True,
                group=True,
            )
        return self.study.ask()

    def _run_trial(
        self, trial: Any, changes: dict[str, Any], bench: TrialRunner, deadline: float | None, say: LogFunction, parent: int | None
    ) -> None:
        number, begun = trial.number, time.time()

        def watch(candidate: Candidate) -> None:
            _exit_without_parent(parent)
            if self.objectives == ["score"]:
                trial.report(candidate.score, candidate.num_folds - 1)
                if trial.should_prune():
                    raise TrialStopped("pruned", _pruned_reason(candidate), candidate)
            each = (time.time() - begun) / candidate.num_folds
            to_come = each * (len(bench.folds) - candidate.num_folds)
            if deadline is not None and time.time() + to_come > deadline and self._seconds():
                raise TrialStopped("unfinished", "it would have ended after the deadline", candidate)

        try:
            candidate = run_trial(bench, self.space.recipe(changes), f"trial {number}", watch)
            if not np.isfinite(candidate.score):
                raise TrainingError("its score is undefined")
        except TrialStopped as cut:
            if cut.status == "pruned":
                cut.candidate.save(self.folder / TRIALS, str(number))
                say(f"trial {number}  cut short after {cut.candidate.num_folds} folds")
            self._close(number, cut.status, cut.reason)
        except (PolymodalError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
                raise
            reason = str(error) if isinstance(error, PolymodalError) else f"out of memory: {error}"
            self._close(number, "failed", reason)
            say(f"trial {number}  failed: {reason}")
        else:
            _exit_without_parent(parent)
            candidate.save(self.folder / TRIALS, str(number))
            self._complete(number, candidate)
            parts = {path: value for path, value in changes.items() if isinstance(value, str | dict)}
            say(f"trial {number}  {abs(candidate.score):.4f}  {candidate.seconds:.1f} s  {format_overrides(parts)}")

    def _complete(self, number: int, candidate: Candidate) -> None:
        self._set_attributes(number, status="complete", seconds=candidate.seconds)
        values = [OBJECTIVES[name](candidate) for name in self.objectives]
        self.study.tell(number, values)

    def _recover(self, trial: Any) -> bool:
        """Close a trial that was saved but not yet told when its process was killed; whether it was one."""
        if not (self.folder / TRIALS / f"{trial.number}.json").is_file():
            return False
        candidate = Candidate.load(self.folder / TRIALS, str(trial.number))
        if candidate.latency_ms is None:
            self._close(trial.number, "pruned", _pruned_reason(candidate))
        else:
            self._complete(trial.number, candidate)
        return True

    def _is_duplicate(self, trial: Any) -> bool:
        """Whether an earlier trial had the same values: then this one is closed with what became of that."""
        for other in self.study.get_trials(deepcopy=False):
            if other.number >= trial.number or other.params != trial.params:
                continue
            status = other.user_attrs.get("status")
            if status in ("repeat", "unfinished"):
                continue
            self._set_attributes(trial.number, status="repeat", reason=f"the same as trial {other.number}")
            if other.state.name == "COMPLETE":
                self.study.tell(trial.number, other.values)
            else:
                self.study.tell(trial.number, state=self.optuna.trial.TrialState.FAIL)
            return True
        return False

    def _has_budget(self, most: int | None, deadline: float | None) -> bool:
        """Whether another trial is asked for and would end in time; the first is run in any case."""
        if most is not None and self._num_counted(None) >= most:
            return False
        spent = self._seconds()
        if deadline is None or self._num_counted(None) == 0:
            return True
        return time.time() + (statistics.median(spent) if spent else 0.0) < deadline

    def _num_counted(self, number: int | None) -> int:
        """How many trials were begun that count, before `number`."""
        return sum(
            trial.state.name != "WAITING"
            and (number is None or trial.number < number)
            and trial.user_attrs.get("status") not in ("repeat", "unfinished")
            for trial in self.study.get_trials(deepcopy=False)
        )

    def _seconds(self) -> list[float]:
        """What the trials that ran on all folds took."""
        trials = self.study.get_trials(deepcopy=False)
        return [trial.user_attrs["seconds"] for trial in trials if "seconds" in trial.user_attrs]

    def _close(self, number: int, status: str, reason: str) -> None:
        """End a trial that has no score of all folds."""
        self._set_attributes(number, status=status, reason=reason)
        state = self.optuna.trial.TrialState
        self.study.tell(number, state=state.PRUNED if status == "pruned" else state.FAIL)

    def _set_attributes(self, number: int, **facts: Any) -> None:
        """Facts about a trial, which may be one of a process that is gone: no `Trial` of it is here to set them on."""
        study = self.storage.get_study_id_from_name(STUDY_NAME)
        trial = self.storage.get_trial_id_from_study_id_trial_number(study, number)
        for key, value in facts.items():
            self.storage.set_trial_user_attr(trial, key, value)


def _exit_without_parent(parent: int | None) -> None:
    """End this process once the one that it works for is no longer there."""
    if parent is not None and os.getppid() != parent:
        raise SystemExit(1)


def _pruned_reason(candidate: Candidate) -> str:
    return f"after {candidate.num_folds} folds below the median"


def repair_journal(folder: Path) -> None:
    """Take what a killed process left out of a journal that nobody is writing: its lock, and half a line."""
    path = folder / JOURNAL
    (folder / f"{JOURNAL}.lock").unlink(missing_ok=True)
    if path.is_file():
        whole = path.read_bytes()
        if not whole.endswith(b"\n"):
            path.write_bytes(whole[: whole.rfind(b"\n") + 1])


def require_optuna() -> Any:
    """The package Optuna, quiet.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("optuna", "tune", "searching recipes") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def format_overrides(changes: dict[str, Any]) -> str:
    """What a trial drew, in one line: components by name, numbers with two digits."""
    return "  ".join(f"{_short(path)} {_shown(value)}" for path, value in changes.items())


def _short(path: str) -> str:
    kind, *rest = path.split(".")
    return path if kind not in ("inputs", "outputs", "training") else rest[-1 if kind == "training" else 0]


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        rest = ", ".join(f"{key} {one}" for key, one in value.items() if key != "name")
        return f"{value.get('name', '')}({rest})" if rest else str(value.get("name", ""))
    return f"{value:.2g}" if isinstance(value, float) else str(value)
