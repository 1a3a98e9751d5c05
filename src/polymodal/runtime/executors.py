"""Work in several local processes, each `python -m MODULE`.

Processes get their work from arguments and files, and report it in lines of text, so nothing is pickled.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from polymodal.core.errors import PolymodalError

#: Seconds between two checks of the processes.
POLL_SECONDS = 0.2
#: Longest time to read the last lines of a finished process, in seconds.
DRAIN_SECONDS = 5.0

#: Called with each line that a process prints, from several threads.
LineHandler = Callable[[str], None]
#: Called with the id of a killed process and a readable reason; returns whether to start a replacement.
ReplacePolicy = Callable[[int, str], bool]


class LocalExecutor:
    """Runs a module in several processes until all have finished.

    A process gets `arguments`, its number as `--worker`, and the id of this process as `--parent`, so that it can exit
    when its parent is gone.

    logs: folder for the standard error of each process, `worker-N.log`
    on_line: called with each line of standard output of a process
    threads: number of threads of the numeric libraries in each process
    environment: further variables of the processes
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        logs: Path,
        on_line: LineHandler,
        threads: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = [sys.executable, "-m", module, *arguments, "--parent", str(os.getpid())]
        self.logs, self.on_line = logs, on_line
        self.environment = {**(environment or {}), "OMP_NUM_THREADS": str(threads)}

    def run(self, count: int, replace: ReplacePolicy) -> None:
        """Start `count` processes and wait until all have finished. An exception in the wait stops them.

        replace: whether to replace a process that was killed by a signal (for example when memory runs out)

        Raises:
            PolymodalError: a process has failed, or was killed and is not replaced.
        """
        running: list[_Process] = []
        started = 0
        try:
            while started < count:
                running.append(self._start(started))
                started += 1
            while running:
                time.sleep(POLL_SECONDS)
                for one in [one for one in running if one.status is not None]:
                    running.remove(one)
                    if self._needs_replacement(one, replace):
                        running.append(self._start(started))
                        started += 1
        finally:
            for one in running:
                one.stop()

    def _start(self, number: int) -> _Process:
        return _Process([*self.command, "--worker", str(number)], self.logs / f"worker-{number}.log", self)

    def _needs_replacement(self, ended: _Process, replace: ReplacePolicy) -> bool:
        """Whether to start another process in place of one that has ended."""
        last, status = ended.last_line(), ended.status or 0
        if status == 0:
            return False
        reason = f"its process was killed by signal {-status}; it may have run out of memory"
        if status > 0 or not replace(ended.pid, reason):
            raise PolymodalError(f"a process failed: {last}")
        self.on_line(f"a process was killed: {reason}")
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
                env={**os.environ, **executor.environment},
            )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, args=(executor.on_line,), daemon=True)
        self._reader.start()

    @property
    def status(self) -> int | None:
        """The exit status of a finished process, negative after a signal; None while it runs."""
        return self._process.poll()

    def last_line(self) -> str:
        """The last line of the log, after all output was handled."""
        self._reader.join(DRAIN_SECONDS)
        lines = self.log.read_text(encoding="utf-8").strip().splitlines()
        return f"{lines[-1] if lines else 'no message'} (see {self.log})"

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    def _read(self, on_line: LineHandler) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            on_line(line.rstrip("\n"))
