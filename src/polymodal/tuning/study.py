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

from polymodal.checkpoint.reading import parsing
from polymodal.core.errors import MissingExtraError, PolymodalError, TrainingError
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.pareto import OBJECTIVES
from polymodal.tuning.space import SearchSpace
from polymodal.tuning.trial import TrialRunner, run_trial

JOURNAL, TRIALS, STUDY_NAME = "study.journal", "trials", "search"
#: Number of complete trials before trials are pruned, and number of folds before a trial can be pruned.
MIN_COMPLETE_TRIALS, WARMUP_FOLDS = 5, 1
#: Maximum number of initial points; later trials are drawn by the sampler.
MAX_INITIAL_POINTS = 16
#: After this many duplicate trials in a row, the space is considered exhausted.
MAX_DUPLICATES = 25
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


class Study:
    """The trials of one search, in a journal that several processes share.

    Optuna proposes the trials: first the initial points of the space, then by the multivariate tree-structured Parzen
    estimator (Bergstra et al., "Algorithms for Hyper-Parameter Optimization", 2011). With a single objective, a trial
    is pruned if its score after two or more folds is below the median of earlier trials.
    """

    def __init__(self, folder: Path, space: SearchSpace, objectives: Sequence[str], seed: int, worker: int = 0) -> None:
        """
        worker: index of this process among those of the search; each process has its own seed

        Raises:
            MissingExtraError: Optuna is not installed.
            ArtifactError: the journal is damaged.
        """
        optuna = require_optuna()
        self.optuna, self.folder, self.space = optuna, folder, space
        self.seed = seed + 7919 * worker
        self.objectives = list(objectives)
        journal, path = optuna.storages.journal, str(folder / JOURNAL)
        backend = journal.JournalFileBackend(path, lock_obj=journal.JournalFileOpenLock(path))
        with parsing(folder / JOURNAL):
            self.storage = optuna.storages.JournalStorage(backend)
            self.study = optuna.create_study(
                storage=self.storage,
                study_name=STUDY_NAME,
                directions=["maximize"] * len(self.objectives),
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(n_startup_trials=MIN_COMPLETE_TRIALS, n_warmup_steps=WARMUP_FOLDS),
            )

    def enqueue_initial(self, max_trials: int | None) -> None:
        """Enqueue the initial points, and the unfinished trials of an earlier run. One process must call this before
        any process calls `run`."""
        max_points = MAX_INITIAL_POINTS if max_trials is None else min(max_trials, MAX_INITIAL_POINTS)
        if not self.study.get_trials(deepcopy=False):
            for point in self.space.initial_points(max_points):
                self.study.enqueue_trial(point)
        queued = {trial.user_attrs.get("again") for trial in self.study.get_trials(deepcopy=False)}
        for trial in self.study.get_trials(deepcopy=False):
            status = trial.user_attrs.get("status")
            if trial.state.name == "RUNNING" and not self._recover(trial):
                self._close(trial.number, "unfinished", "the process was killed")
                status = "unfinished"
            elif trial.state.name == "RUNNING":
                continue
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
            trial = self._next_trial()
            overrides = self.space.suggest(trial)
            self._set_attributes(trial.number, overrides=overrides, process=os.getpid())
            if max_trials is not None and self._num_counted(trial.number) >= max_trials:
                self._close(trial.number, "duplicate", "beyond the maximum number of trials")
                continue
            if self._is_duplicate(trial):
                num_duplicates += 1
                continue
            num_duplicates = 0
            self._run_trial(trial, overrides, runner, deadline, log, parent)

    def records(self) -> list[TrialRecord]:
        """All trials that were started, in order."""
        return [
            TrialRecord(
                trial.number,
                trial.user_attrs.get("status", "unfinished"),
                trial.user_attrs.get("reason", ""),
                trial.user_attrs.get("overrides", {}),
            )
            for trial in self.study.get_trials(deepcopy=False)
            if trial.state.name != "WAITING"
        ]

    def candidate(self, record: TrialRecord) -> Candidate | None:
        """The candidate of a complete or pruned trial, else None."""
        if record.status not in ("complete", "pruned"):
            return None
        return Candidate.load(self.folder / TRIALS, str(record.number))

    def fail_trial(self, process: int, reason: str) -> bool:
        """Mark the running trial of a dead process as failed. Returns whether there was one."""
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state.name == "RUNNING" and trial.user_attrs.get("process") == process:
                self._close(trial.number, "failed", reason)
                return True
        return False

    def _next_trial(self) -> Any:
        """The next trial. The sampler is seeded by the seed and the number of trials, so that a resumed search draws
        the same trials as an uninterrupted one."""
        num_trials = len(self.study.get_trials(deepcopy=False))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # several arguments are experimental
            self.study.sampler = self.optuna.samplers.TPESampler(
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
                if trial.should_prune():
                    raise TrialStopped("pruned", _pruned_reason(candidate), candidate)
            seconds_per_fold = (time.time() - start) / candidate.num_folds
            remaining = seconds_per_fold * (len(runner.folds) - candidate.num_folds)
            if deadline is not None and time.time() + remaining > deadline and self._seconds():
                raise TrialStopped("unfinished", "it would have ended after the time limit", candidate)

        try:
            candidate = run_trial(runner, self.space.recipe(overrides), f"trial {number}", on_fold)
            if not np.isfinite(candidate.score):
                raise TrainingError("the score is undefined")
        except TrialStopped as stopped:
            if stopped.status == "pruned":
                stopped.candidate.save(self.folder / TRIALS, str(number))
                log(f"trial {number}  pruned after {stopped.candidate.num_folds} folds")
            self._close(number, stopped.status, stopped.reason)
        except (PolymodalError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
                raise
            reason = str(error) if isinstance(error, PolymodalError) else f"out of memory: {error}"
            self._close(number, "failed", reason)
            log(f"trial {number}  failed: {reason}")
        else:
            _exit_without_parent(parent)
            candidate.save(self.folder / TRIALS, str(number))
            self._complete(number, candidate)
            components = {path: value for path, value in overrides.items() if isinstance(value, str | dict)}
            log(
                f"trial {number}  {abs(candidate.score):.4f}  {candidate.seconds:.1f} s  {format_overrides(components)}"
            )

    def _complete(self, number: int, candidate: Candidate) -> None:
        self._set_attributes(number, status="complete", seconds=candidate.seconds)
        values = [OBJECTIVES[name](candidate) for name in self.objectives]
        self.study.tell(number, values)

    def _recover(self, trial: Any) -> bool:
        """Close a trial whose process was killed after it was saved but before it was recorded. Returns whether it
        was."""
        if not (self.folder / TRIALS / f"{trial.number}.json").is_file():
            return False
        candidate = Candidate.load(self.folder / TRIALS, str(trial.number))
        if candidate.latency_ms is None:
            self._close(trial.number, "pruned", _pruned_reason(candidate))
        else:
            self._complete(trial.number, candidate)
        return True

    def _is_duplicate(self, trial: Any) -> bool:
        """Whether an earlier trial has the same values. If so, close this trial with the same result."""
        for other in self.study.get_trials(deepcopy=False):
            if other.number >= trial.number or other.params != trial.params:
                continue
            status = other.user_attrs.get("status")
            if status in ("duplicate", "unfinished"):
                continue
            self._set_attributes(trial.number, status="duplicate", reason=f"the same as trial {other.number}")
            if other.state.name == "COMPLETE":
                self.study.tell(trial.number, other.values)
            else:
                self.study.tell(trial.number, state=self.optuna.trial.TrialState.FAIL)
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
            for trial in self.study.get_trials(deepcopy=False)
        )

    def _seconds(self) -> list[float]:
        """The times of the trials that ran on all folds."""
        trials = self.study.get_trials(deepcopy=False)
        return [trial.user_attrs["seconds"] for trial in trials if "seconds" in trial.user_attrs]

    def _close(self, number: int, status: str, reason: str) -> None:
        """Close a trial without a score on all folds."""
        self._set_attributes(number, status=status, reason=reason)
        state = self.optuna.trial.TrialState
        self.study.tell(number, state=state.PRUNED if status == "pruned" else state.FAIL)

    def _set_attributes(self, number: int, **attributes: Any) -> None:
        """Set user attributes of a trial by its number, also for a trial of another process."""
        study = self.storage.get_study_id_from_name(STUDY_NAME)
        trial = self.storage.get_trial_id_from_study_id_trial_number(study, number)
        for key, value in attributes.items():
            self.storage.set_trial_user_attr(trial, key, value)


def _exit_without_parent(parent: int | None) -> None:
    """Exit if the parent process is gone."""
    if parent is not None and os.getppid() != parent:
        raise SystemExit(1)


def _pruned_reason(candidate: Candidate) -> str:
    return f"below the median after {candidate.num_folds} folds"


def repair_journal(folder: Path) -> None:
    """Repair the journal after a crash: delete a stale lock and a truncated last line. No process may be using it."""
    path = folder / JOURNAL
    (folder / f"{JOURNAL}.lock").unlink(missing_ok=True)
    if path.is_file():
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            path.write_bytes(content[: content.rfind(b"\n") + 1])


def require_optuna() -> Any:
    """Import Optuna, with logging of errors only.

    Raises:
        MissingExtraError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("optuna", "tune", "the recipe search") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def format_overrides(overrides: dict[str, Any]) -> str:
    """The settings of a trial in one line: components by name, numbers with two digits.

    Example:
        >>> format_overrides({"fusion": {"name": "late"}, "training.learning_rate": 0.00123})
        'fusion late  learning_rate 0.0012'
    """
    return "  ".join(f"{_short(path)} {_shown(value)}" for path, value in overrides.items())


def _short(path: str) -> str:
    kind, *rest = path.split(".")
    return path if kind not in ("inputs", "outputs", "training") else rest[-1 if kind == "training" else 0]


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        rest = ", ".join(f"{key} {one}" for key, one in value.items() if key != "name")
        return f"{value.get('name', '')}({rest})" if rest else str(value.get("name", ""))
    return f"{value:.2g}" if isinstance(value, float) else str(value)
