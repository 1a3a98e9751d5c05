"""The record of the trials of a search: their state, their settings and their end, for all its processes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polymodal.tuning.candidate import Candidate
from polymodal.tuning.heartbeat import Heartbeat, SilentTrials
from polymodal.tuning.pareto import OBJECTIVES
from polymodal.tuning.storage import StudyStorage, require_optuna

TRIALS = "trials"
#: Times that a trial is begun before it has failed, if its process is killed.
MAX_ATTEMPTS = 3
#: Attribute of a search in a database with its limits, which other machines read.
LIMITS = "limits"


@dataclass(frozen=True)
class OpenLimits:
    """The limits of a search that other machines may join.

    max_trials, deadline: largest number of trials, and the end of the trials (`time.time()`)
    is_open: whether trials are run
    """

    max_trials: int | None
    deadline: float | None
    is_open: bool


class TrialStore:
    """The trials in a journal or a database, and the results of those that were scored in `folder/trials`.

    In a database, running trials have a heartbeat, so that other machines notice the end of a process.
    """

    def __init__(self, folder: Path, objectives: Sequence[str], place: StudyStorage) -> None:
        """
        Raises:
            MissingExtraError: Optuna or the driver of the database is not installed.
            ArtifactError: the journal is damaged.
            PolymodalError: the database cannot be reached.
        """
        self.optuna = require_optuna()
        self.folder, self.objectives, self.place = folder, list(objectives), place
        self.is_shared = place.url is not None
        self.storage = place.open()
        with place.parsing():
            self.study = self.optuna.create_study(
                storage=self.storage,
                study_name=place.name,
                directions=["maximize"] * len(self.objectives),
                load_if_exists=True,
            )
        self._silent = SilentTrials()

    def trials(self) -> list[Any]:
        """All trials of Optuna, in order."""
        return list(self.study.get_trials(deepcopy=False))

    def running(self) -> list[Any]:
        """The trials that were started and have not ended."""
        return list(self.study.get_trials(deepcopy=False, states=(self.optuna.trial.TrialState.RUNNING,)))

    def heartbeat(self, trial: Any) -> AbstractContextManager[None]:
        """The block in which a trial runs."""
        return Heartbeat(self.storage, trial._trial_id) if self.is_shared else nullcontext()

    def set_attributes(self, number: int, **attributes: Any) -> None:
        """Set user attributes of a trial by its number, also for a trial of another process."""
        study = self.storage.get_study_id_from_name(self.place.name)
        trial = self.storage.get_trial_id_from_study_id_trial_number(study, number)
        for key, value in attributes.items():
            self.storage.set_trial_user_attr(trial, key, value)

    def close(self, number: int, status: str, reason: str) -> None:
        """Close a trial without a score on all folds."""
        self.set_attributes(number, status=status, reason=reason)
        state = self.optuna.trial.TrialState
        self.study.tell(number, state=state.PRUNED if status == "pruned" else state.FAIL)

    def complete(self, number: int, candidate: Candidate) -> None:
        """Close a trial that was scored on all folds."""
        self.set_attributes(number, status="complete", seconds=candidate.seconds)
        values = [OBJECTIVES[name](candidate) for name in self.objectives]
        self.study.tell(number, values)

    def recover(self, trial: Any) -> bool:
        """Close a trial whose process was killed after it was saved but before it was recorded. Returns whether it
        was."""
        if not (self.folder / TRIALS / f"{trial.number}.json").is_file():
            return False
        candidate = Candidate.load(self.folder / TRIALS, str(trial.number))
        if candidate.latency_ms is None:
            self.close(trial.number, "pruned", pruned_reason(candidate))
        else:
            self.complete(trial.number, candidate)
        return True

    def repeat(self, trial: Any, reason: str) -> bool:
        """Close a running trial whose process was killed, and enqueue it again; the third time, it has failed. Returns
        whether this process did so, and not another one."""
        kills = trial.user_attrs.get("kills", 0) + 1
        is_last = kills >= MAX_ATTEMPTS
        if is_last:
            reason = f"its process was killed {kills} times; it may have run out of memory"
        try:
            if self.recover(trial):
                return False
            self.set_attributes(trial.number, status="failed" if is_last else "unfinished", reason=reason)
            self.storage.set_trial_state_values(trial._trial_id, self.optuna.trial.TrialState.FAIL)
        except self.optuna.exceptions.UpdateFinishedTrialError:
            return False
        if not is_last:
            self.study.enqueue_trial(trial.params, user_attrs={"again": trial.number, "kills": kills})
        return True

    def repeat_silent(self) -> bool:
        """Repeat the trials without a heartbeat. Returns whether there was one."""
        if not self.is_shared:
            return False
        silent = self._silent.among(self.running())
        repeated = [self.repeat(trial, "its machine or its process has ended") for trial in silent]
        return any(repeated)

    @property
    def limits(self) -> OpenLimits | None:
        """The limits that the machine that writes the search has set; None before it did."""
        values = self.study.user_attrs.get(LIMITS)
        return None if values is None else OpenLimits(**values)

    @limits.setter
    def limits(self, limits: OpenLimits) -> None:
        self.study.set_user_attr(LIMITS, vars(limits))


def pruned_reason(candidate: Candidate) -> str:
    """Why a trial with a low score was not run on all folds."""
    return f"below the median after {candidate.num_folds} folds"
