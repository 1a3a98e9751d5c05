"""How many processes decode at once: found by measuring, since it depends on the machine, its load and the files."""

from __future__ import annotations

import time

# A larger crew stays only if it does this much more work a second than the smaller one.
WORTH = 1.15
# A rate is believed after so many seconds and so many files for each process.
WINDOW_SECONDS = 0.4
WINDOW_FILES = 4
# After a larger crew was not worth it, the next attempt waits this long: the machine may be less busy then.
REST_SECONDS = 30.0


class Crew:
    """The number of processes, `count`, from 1 to `most`: it doubles while that pays.

    Work is counted in bytes of encoded files, plus some for each file. Time in which a process waits for files does
    not count: where fetching files is what takes long, another process would only wait too.
    """

    def __init__(self, most: int) -> None:
        self.count, self.most = 1, most
        self._smaller: tuple[int, float] | None = None  # the crew before the last growth, and its rate
        self._rests_until = 0.0
        self.restart()

    def restart(self) -> None:
        """Measure from now on: a process has just started, or has waited for files."""
        self._since, self._work, self._files = time.monotonic(), 0, 0

    def done(self, size: int) -> None:
        """Count a decoded file of `size` bytes, and change the crew if enough is known."""
        self._work += size + 4096
        self._files += 1
        now = time.monotonic()
        if now - self._since < WINDOW_SECONDS or self._files < WINDOW_FILES * self.count:
            return
        rate = self._work / (now - self._since)
        if self._smaller is not None and rate < WORTH * self._smaller[1]:
            self.count = self._smaller[0]
            self._rests_until = now + REST_SECONDS
            self._smaller = None
        elif self.count < self.most and now >= self._rests_until:
            self._smaller = self.count, rate
            self.count = min(self.most, 2 * self.count)
        else:
            self._smaller = None
        self.restart()
