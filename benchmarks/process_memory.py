"""The peak memory of processes, read from the system every 5 ms (Linux)."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: What is read of a process: all resident memory, with libraries and pages of files, and that of the process itself.
KINDS = {"VmHWM": "resident", "RssAnon": "anonymous"}


def watch_memory(processes: Sequence[subprocess.Popen[Any]]) -> list[dict[str, float]]:
    """The peak resident and anonymous MiB of each process, after all have ended.

    Raises:
        RuntimeError: a process failed.
    """
    highest = [dict.fromkeys(KINDS, 0) for _ in processes]
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            for process, own in zip(processes, highest, strict=True):
                try:
                    status = Path(f"/proc/{process.pid}/status").read_text()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                for line in status.splitlines():
                    name, _, value = line.partition(":")
                    if name in own:
                        own[name] = max(own[name], int(value.split()[0]))
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    codes = [process.wait() for process in processes]
    ended.set()
    watcher.join()
    if any(codes):
        raise RuntimeError(f"the measured processes ended with the codes {codes}")
    return [{KINDS[name]: value / 1024 for name, value in own.items()} for own in highest]
