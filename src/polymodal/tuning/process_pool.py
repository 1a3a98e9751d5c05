"""Several processes that work on one search."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from polymodal.core.errors import PolymodalError
from polymodal.tuning.study import Say, Study

#: Seconds between two looks at the processes.
LOOK = 0.2


def run_crew(study: Study, folder: Path, *, jobs: int, most: int | None, deadline: float | None, say: Say) -> None:
    """Run `jobs` processes until the search ends. One that is killed (out of memory) costs its trial, which counts as
    failed, and is replaced.

    Raises:
        PolymodalError: a process ended by an error that is no trial's.
    """
    command = [sys.executable, "-m", "polymodal.tuning.worker", str(folder), "--parent", str(os.getpid())]
    command += ["--most", str(most)] if most is not None else []
    command += ["--deadline", str(deadline)] if deadline is not None else []
    crew = [_Process(command, number, folder, say) for number in range(jobs)]
    begun = jobs
    try:
        while crew:
            time.sleep(LOOK)
            for one in [one for one in crew if one.ended is not None]:
                crew.remove(one)
                if one.ended == 0:
                    continue
                reason = f"its process was killed by signal {-(one.ended or 0)}; it may have run out of memory"
                if (one.ended or 0) > 0 or not study.give_up(one.number, reason):
                    raise PolymodalError(f"a process of the search ended early: {one.last_words()}")
                say(f"a process was killed: {reason}")
                crew.append(_Process(command, begun, folder, say))
                begun += 1
    finally:
        for one in crew:
            one.stop()


class _Process:
    """One process; what it prints is said, and its errors are kept in a log."""

    def __init__(self, command: list[str], worker: int, folder: Path, say: Say) -> None:
        self.log = folder / f"worker-{worker}.log"
        with self.log.open("w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                [*command, "--worker", str(worker)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        self.reader = threading.Thread(target=self._read, args=(say,), daemon=True)
        self.reader.start()

    @property
    def number(self) -> int:
        return self.process.pid

    @property
    def ended(self) -> int | None:
        """The exit status once it has ended: a negative one is a signal."""
        return self.process.poll()

    def last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8").strip().splitlines()
        return f"{lines[-1] if lines else 'it said nothing'} (all of it in {self.log})"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def _read(self, say: Say) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            say(line.rstrip("\n"))
