"""Workers of a search whose process is killed in the second fold of the trials with one dropout of the decoder."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from polymodal.tuning import trial, worker
from polymodal.tuning.worker import TrialsWork


def kill_in(dropout: float, times: int, notes: Path, target: str = "target") -> None:
    """Kill this process in the second fold of a trial with this dropout, unless that has happened `times` times."""
    whole, begun = trial.train_model, [0]

    def train(experiment: Any, **more: Any) -> Any:
        is_chosen = experiment.recipe.outputs[target].decoder.dropout == dropout
        begun[0] = begun[0] + 1 if is_chosen else 0
        if begun[0] == 2:
            for attempt in range(times):
                note = notes / f"killed-{attempt}"
                if not note.exists():
                    note.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
        return whole(experiment, **more)

    trial.train_model = train  # type: ignore[assignment]


def open_work(*, target: str, dropout: float, times: int, notes: str, **arguments: Any) -> TrialsWork:
    """The work of an engine."""
    kill_in(dropout, times, Path(notes), target)
    return worker.open_work(**arguments)


if __name__ == "__main__":
    kill_in(float(sys.argv.pop(1)), int(sys.argv.pop(1)), Path(sys.argv.pop(1)))
    worker.main()
