"""Signs of life of running trials, by which machines that share a search notice the end of a process."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from polymodal.tuning.storage import require_optuna

#: Seconds between two beats of a trial, and seconds without a beat after which its process counts as killed.
BEAT_SECONDS, SILENT_SECONDS = 10.0, 60.0
#: The attribute of a trial with the number of beats.
BEATS = "beats"


class Heartbeat:
    """Counts up the beats of a running trial in a thread, while the block runs.

    A beat that does not reach the storage is sent with the next one. If the storage stays away, the trial itself cannot
    be recorded, which is an error.
    """

    def __init__(self, storage: Any, trial: int) -> None:
        """
        trial: the id of the trial in the storage
        """
        self._storage, self._trial = storage, trial
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        exceptions, beats = require_optuna().exceptions, 0
        while not self._stop.wait(BEAT_SECONDS):
            beats += 1
            try:
                self._storage.set_trial_user_attr(self._trial, BEATS, beats)
            except exceptions.UpdateFinishedTrialError:
                return  # another process has taken the trial over
            except (exceptions.StorageInternalError, SQLAlchemyError):
                continue


class SilentTrials:
    """Finds running trials without a beat for `SILENT_SECONDS`, by the clock of this process alone."""

    def __init__(self) -> None:
        self._heard: dict[int, tuple[Any, float]] = {}

    def among(self, running: Sequence[Any]) -> list[Any]:
        """The trials whose number of beats has not changed for so long."""
        now = time.monotonic()
        for trial in running:
            beats = trial.user_attrs.get(BEATS)
            if trial.number not in self._heard or self._heard[trial.number][0] != beats:
                self._heard[trial.number] = (beats, now)
        return [trial for trial in running if now - self._heard[trial.number][1] > SILENT_SECONDS]
