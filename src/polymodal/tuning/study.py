"""The study of a search: proposes trials, prunes them and records their results."""

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

from polymodal.core.errors import PolymodalError, TrainingError
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.overrides import format_overrides
from polymodal.tuning.space import SearchSpace
from polymodal.tuning.storage import JOURNAL, StudyStorage
from polymodal.tuning.time_limit import TimeLimitReachedError
from polymodal.tuning.trial import TrialLimits, TrialRunner, run_trial
from polymodal.tuning.trial_store import TRIALS, OpenLimits, TrialStore, pruned_reason

#: Number of complete trials before trials are pruned, and number of folds before a trial can be pruned.
MIN_COMPLETE_TRIALS, WARMUP_FOLDS = 5, 1
#: Maximum number of initial points; later trials are drawn by the sampler.
MAX_INITIAL_POINTS = 16
#: Seconds between two looks at the trials of other machines.
POLL_SECONDS = 1.0
#: After this many duplicate trials in a row, the space is considered exhausted.
MAX_DUPLICATES = 25
#: The group of the processes that the writer of the search starts; those of other machines have numbers of their own.
MAIN = 0
#: Number of trials before the TPE sampler replaces random sampling.
NUM_RANDOM_TRIALS = 10

#: Called with a message after each trial.
LogFunction = Callable[[str], None]


class TrialStopped(Exception):
    """Raised to stop a trial before its last fold: `status` and `reason` of its `TrialRecord`, and the `candidate` so
    far."""

    def __init__(self, status: str, reason: str, candidate: Candidate) -> None:
        self.status, self.reason, self.candidate = status, reason, candidate
        super().__init__(reason)


@dataclass(frozen=True)
class TrialRecord:
    """The outcome of one trial.

    status: `complete`; `pruned` after some folds; `failed` with a `reason`; `unfinished` because the time limit was
        reached or its process was killed (it is repeated on resume); `duplicate` of an earlier trial, or beyond the
        maximum number of trials (not run)
    overrides: the settings of the trial, by recipe path
    """

    number: int
    status: str
    reason: str
    overrides: dict[str, Any]

    @property
    def name(self) -> str:
        return f"trial {self.number}"


@dataclass(frozen=True)
class Worker:
    """One process that runs trials.

    number: among the processes of its group
    group: `MAIN`, or a number of another machine that joined the search
    """

    number: int = 0
    group: int = MAIN

    def seed(self, seed: int) -> int:
        """The seed of this process."""
        return seed + 7919 * self.number + 104_729 * self.group


class Study:
    """The trials of one search, in a record that several processes share: a journal, or a database.

    Optuna proposes the trials: first the initial points of the space, then by the multivariate tree-structured Parzen
    estimator (Bergstra et al., "Algorithms for Hyper-Parameter Optimization", 2011). With a single objective, a trial
    is pruned if its score after two or more folds is below the median of earlier trials of its kind: networks, or one
    estimator.

    A trial whose process is killed is repeated; the third time, it has failed. In a database, running trials have a
    heartbeat, so that other machines notice it.
    """

    def __init__(
        self,
        folder: Path,
        space: SearchSpace,
        objectives: Sequence[str],
        seed: int,
        worker: Worker = Worker(),
        storage: StudyStorage | None = None,
    ) -> None:
        """
        storage: the record of the trials; default: the journal in `folder`

        Raises:
            MissingExtraError: Optuna or the driver of the database is not installed.
            ArtifactError: the journal is damaged.
            PolymodalError: the database cannot be reached.
        """
        self.folder, self.space, self.objectives = folder, space, list(objectives)
        self.seed, self.worker = worker.seed(seed), worker
        self.store = TrialStore(folder, objectives, storage or StudyStorage(folder))
        self.study = self.store.study

    def enqueue_initial(self, max_trials: int | None) -> None:
        """Enqueue the initial points, and the unfinished trials of an earlier run. One process must call this before
        any process calls `run`.

        Raises:
            PolymodalError: the storage is not that of the earlier run.
        """
        max_points = MAX_INITIAL_POINTS if max_trials is None else min(max_trials, MAX_INITIAL_POINTS)
        if not self.store.trials():
            if any((self.folder / TRIALS).glob("*.json")):
                place = self.store.place.title
                raise PolymodalError(f"{place} has no trials of the search in {self.folder}: give its first storage")
            for point in self.space.initial_points(max_points):
                self.study.enqueue_trial(point)
        queued = {trial.user_attrs.get("again") for trial in self.store.trials()}
        for trial in self.store.trials():
            status = trial.user_attrs.get("status")
            if trial.state.name == "RUNNING":
                if self._is_of_another_machine(trial) or self.store.recover(trial):
                    continue
                self.store.close(trial.number, "unfinished", "the process was killed")
                status = "unfinished"
            if status == "unfinished" and trial.number not in queued:
                self.study.enqueue_trial(trial.params, user_attrs={"again": trial.number})

    def run(
        self,
        runner: TrialRunner,
        *,
        max_trials: int | None,
        deadline: float | None,
        log: LogFunction,
        parent: int | None,
    ) -> None:
        """Run trials until there are `max_trials`, or another trial would end after `deadline` (`time.time()`).

        parent: id of the parent process; this process exits if the parent is gone
        """
        num_duplicates = 0
        while num_duplicates < MAX_DUPLICATES and self._has_budget(max_trials, deadline):
            self.store.repeat_silent()
            trial = self._next_trial()
            owner = {"process": os.getpid(), "worker": self.worker.number, "group": self.worker.group}
            self.store.set_attributes(trial.number, **owner)
            overrides = self.space.suggest(trial)
            self.store.set_attributes(trial.number, overrides=overrides)
            if max_trials is not None and self._num_counted(trial.number) >= max_trials:
                self.store.close(trial.number, "duplicate", "beyond the maximum number of trials")
                continue
            if self._is_duplicate(trial):
                num_duplicates += 1
                continue
            num_duplicates = 0
            with self.store.heartbeat(trial):
                try:
                    self._run_trial(trial, overrides, runner, deadline, log, parent)
                except self.store.optuna.exceptions.UpdateFinishedTrialError:
                    log(f"trial {trial.number}  was silent for too long: it is repeated by another process")

    def records(self) -> list[TrialRecord]:
        """All trials that were started, in order."""
        return [
            TrialRecord(
                trial.number,
                trial.user_attrs.get("status", "unfinished"),
                trial.user_attrs.get("reason", ""),
                trial.user_attrs.get("overrides", {}),
            )
            for trial in self.store.trials()
            if trial.state.name != "WAITING"
        ]

    def candidate(self, record: TrialRecord) -> Candidate | None:
        """The candidate of a complete or pruned trial, else None."""
        if record.status not in ("complete", "pruned"):
            return None
        return Candidate.load(self.folder / TRIALS, str(record.number))

    def repeat_trial_of(self, process: int, reason: str) -> bool:
        """Repeat the running trial of a killed process of this group. Returns whether it had one."""
        own = [one for one in self._running_of_group() if one.user_attrs.get("process") == process]
        for trial in own:
            self.store.repeat(trial, reason)
        return bool(own)

    def repeat_own_trials(self, reason: str) -> None:
        """Repeat the running trials of this worker: its process was killed, and this one is in its place."""
        for trial in self._running_of_group():
            if trial.user_attrs.get("worker") == self.worker.number:
                self.store.repeat(trial, reason)

    def num_completed(self) -> int:
        """Number of trials that the processes of this group completed."""
        own = [one for one in self.store.trials() if one.user_attrs.get("group") == self.worker.group]
        return sum(trial.user_attrs.get("status") == "complete" for trial in own)

    def open_to_others(self, max_trials: int | None, deadline: float | None) -> None:
        """Let other machines join the search, if its trials are in a database."""
        if self.store.is_shared:
            self.store.limits = OpenLimits(max_trials, deadline, is_open=True)

    def close_to_others(self) -> None:
        """Let no other machine begin a trial."""
        if self.store.is_shared:
            self.store.limits = OpenLimits(0, 0.0, is_open=False)

    def wait_for_others(self, deadline: float | None) -> bool:
        """Wait for the running trials of other machines, at most until `deadline`. Returns whether a trial of theirs is
        to be repeated."""
        while self.store.is_shared and self.store.running():
            if self.store.repeat_silent():
                return True
            if deadline is not None and time.time() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return False

    def _running_of_group(self) -> list[Any]:
        return [trial for trial in self.store.running() if trial.user_attrs.get("group") == self.worker.group]

    def _is_of_another_machine(self, trial: Any) -> bool:
        return self.store.is_shared and trial.user_attrs.get("group") != self.worker.group

    def _next_trial(self) -> Any:
        """The next trial. The sampler is seeded by the seed and the number of trials, so that a resumed search draws
        the same trials as an uninterrupted one."""
        num_trials = len(self.store.trials())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # several arguments are experimental
            self.study.sampler = self.store.optuna.samplers.TPESampler(
                n_startup_trials=NUM_RANDOM_TRIALS,
                seed=(self.seed * 1_000_003 + num_trials) % 2**32,
                multivariate=True,
                group=True,
            )
        return self.study.ask()

    def _run_trial(
        self,
        trial: Any,
        overrides: dict[str, Any],
        runner: TrialRunner,
        deadline: float | None,
        log: LogFunction,
        parent: int | None,
    ) -> None:
        number, start = trial.number, time.time()

        def on_fold(candidate: Candidate) -> None:
            _exit_without_parent(parent)
            if self.objectives == ["score"]:
                trial.report(candidate.score, candidate.num_folds - 1)
                if self._is_below_median(trial, candidate):
                    raise TrialStopped("pruned", pruned_reason(candidate), candidate)
            seconds_per_fold = (time.time() - start) / candidate.num_folds
            remaining = seconds_per_fold * (len(runner.folds) - candidate.num_folds)
            if deadline is not None and time.time() + remaining > deadline and self._seconds():
                raise TrialStopped("unfinished", "it would have ended after the time limit", candidate)

        limits = TrialLimits(deadline, is_shortened=not self._seconds())
        try:
            candidate = run_trial(runner, self.space.recipe(overrides), f"trial {number}", on_fold, limits)
            if not np.isfinite(candidate.score):
                raise TrainingError("the score is undefined")
        except TrialStopped as stopped:
            if stopped.status == "pruned":
                stopped.candidate.save(self.folder / TRIALS, str(number))
                log(f"trial {number}  pruned after {stopped.candidate.num_folds} folds")
            self.store.close(number, stopped.status, stopped.reason)
        except TimeLimitReachedError as error:
            self.store.close(number, "unfinished", str(error))
            log(f"trial {number}  {error}; --resume repeats it")
        except (PolymodalError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
                raise
            reason = str(error) if isinstance(error, PolymodalError) else f"out of memory: {error}"
            self.store.close(number, "failed", reason)
            log(f"trial {number}  failed: {reason}")
        else:
            _exit_without_parent(parent)
            candidate.save(self.folder / TRIALS, str(number))
            self.store.complete(number, candidate)
            components = {path: value for path, value in overrides.items() if isinstance(value, str | dict | list)}
            log(
                f"trial {number}  {abs(candidate.score):.4f}  {candidate.seconds:.1f} s  {format_overrides(components)}"
            )
            for note in candidate.notes:
                log(f"trial {number}  {note}")

    def _is_below_median(self, trial: Any, candidate: Candidate) -> bool:
        """Whether the score after these folds is below the median of earlier complete trials of the same kind, networks
        or one estimator, after as many folds. The first fold and the first trials are not compared."""
        step = candidate.num_folds - 1
        scores = [
            other.intermediate_values[step]
            for other in self.store.trials()
            if other.user_attrs.get("status") == "complete"
            and other.params.get("members") == trial.params.get("members")
            and step in other.intermediate_values
        ]
        if len(scores) < MIN_COMPLETE_TRIALS or candidate.num_folds <= WARMUP_FOLDS:
            return False
        return candidate.score < statistics.median(scores)

    def _is_duplicate(self, trial: Any) -> bool:
        """Whether an earlier trial has the same values. If so, close this trial with the same result."""
        for other in self.store.trials():
            if other.number >= trial.number or other.params != trial.params:
                continue
            status = other.user_attrs.get("status")
            if status in ("duplicate", "unfinished"):
                continue
            self.store.set_attributes(trial.number, status="duplicate", reason=f"the same as trial {other.number}")
            if other.state.name == "COMPLETE":
                self.study.tell(trial.number, other.values)
            else:
                self.study.tell(trial.number, state=self.store.optuna.trial.TrialState.FAIL)
            return True
        return False

    def _has_budget(self, max_trials: int | None, deadline: float | None) -> bool:
        """Whether another trial is allowed and would end in time; the first trial is always run."""
        if max_trials is not None and self._num_counted(None) >= max_trials:
            return False
        spent = self._seconds()
        if deadline is None or self._num_counted(None) == 0:
            return True
        return time.time() + (statistics.median(spent) if spent else 0.0) < deadline

    def _num_counted(self, number: int | None) -> int:
        """Number of started trials before `number`, without duplicates and unfinished trials."""
        return sum(
            trial.state.name != "WAITING"
            and (number is None or trial.number < number)
            and trial.user_attrs.get("status") not in ("duplicate", "unfinished")
            for trial in self.store.trials()
        )

    def _seconds(self) -> list[float]:
        """The times of the trials that ran on all folds."""
        trials = self.store.trials()
        return [trial.user_attrs["seconds"] for trial in trials if "seconds" in trial.user_attrs]


def _exit_without_parent(parent: int | None) -> None:
    """Exit if the parent process is gone."""
    if parent is not None and os.getppid() != parent:
        raise SystemExit(1)


def repair_journal(folder: Path) -> None:
    """Repair the journal after a crash: delete a stale lock and a truncated last line. No process may be using it."""
    path = folder / JOURNAL
    (folder / f"{JOURNAL}.lock").unlink(missing_ok=True)
    if path.is_file():
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            path.write_bytes(content[: content.rfind(b"\n") + 1])
