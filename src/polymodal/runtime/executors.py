"""Work in several processes of this machine, each `python -m MODULE`. What they do stands in arguments and files, what
they say in lines of text: no object goes from one process to another, so nothing is ever pickled."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from polymodal.core.errors import PolymodalError

#: Seconds between two looks at the processes.
POLL_SECONDS = 0.2
#: Seconds in which the last lines of a process that has ended are read.
DRAIN_SECONDS = 5.0

#: Called with a line that a process prints; several threads call it.
LineHandler = Callable[[str], None]
#: Called with the number of a killed process and a reason for people; whether another shall take its place.
ReplacePolicy = Callable[[int, str], bool]


class LocalExecutor:
    """Runs a module in several processes until each has ended.

    A process is given `arguments`, its number as `--worker`, and that of this process as `--parent`, so that it can end
    itself once that is gone.

    logs: the folder for what each prints on standard error, `worker-N.log`
    say: gets each line that one prints on standard output
    threads: of the numeric libraries in each process
    """

    def __init__(self, module: str, arguments: Sequence[str], *, logs: Path, say: LineHandler, threads: int = 1) -> None:
        self.command = [sys.executable, "-m", module, *arguments, "--parent", str(os.getpid())]
        self.logs, self.say, self.threads = logs, say, threads

    def run(self, count: int, replace: ReplacePolicy) -> None:
        """Start `count` processes and wait until all have ended. Whatever ends the wait ends them too.

        replace: decides on a process that a signal has killed (as the system does when memory runs out)

        Raises:
            PolymodalError: a process has ended by an error, or was killed and `replace` refuses another.
        """
        running: list[_Process] = []
        begun = 0
        try:
            while begun < count:
                running.append(self._start(begun))
                begun += 1
            while running:
                time.sleep(POLL_SECONDS)
                for one in [one for one in running if one.status is not None]:
                    running.remove(one)
                    if self._goes_on(one, replace):
                        running.append(self._start(begun))
                        begun += 1
        finally:
            for one in running:
                one.stop()

    def _start(self, number: int) -> _Process:
        return _Process([*self.command, "--worker", str(number)], self.logs / f"worker-{number}.log", self)

    def _goes_on(self, ended: _Process, replace: ReplacePolicy) -> bool:
        """Whether another process takes the place of one that has ended."""
        last, status = ended.last_words(), ended.status or 0
        if status == 0:
            return False
        reason = f"its process was killed by signal {-status}; it may have run out of memory"
        if status > 0 or not replace(ended.pid, reason):
            raise PolymodalError(f"a process ended early: {last}")
        self.say(f"a process was killed: {reason}")
        return True


class _Process:
    def __init__(self, command: list[str], log: Path, executor: LocalExecutor) -> None:
        self.log = log
        with log.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": str(executor.threads)},
            )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, args=(executor.say,), daemon=True)
        self._reader.start()

    @property
    def status(self) -> int | None:
        """The exit status once it has ended: a negative one is a signal."""
        return self._process.poll()

    def last_words(self) -> str:
        """The last line of its log, once all that it printed is said."""
        self._reader.join(DRAIN_SECONDS)
        lines = self.log.read_text(encoding="utf-8").strip().splitlines()
        return f"{lines[-1] if lines else 'it said nothing'} (all of it in {self.log})"

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    def _read(self, say: LineHandler) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            say(line.rstrip("\n"))
