"""Clocks that a test sets, in place of those of the machine."""

from __future__ import annotations


class Clocks:
    """Wall time and processor time, which pass only in `work`, and a little at each reading."""

    def __init__(self) -> None:
        self.wall, self.processor = 0.0, 0.0

    def read(self) -> tuple[float, float]:
        self.work(1e-6)
        return self.wall, self.processor

    def work(self, seconds: float, processor: float | None = None) -> None:
        """Let `seconds` pass, in which this process gets `processor` seconds; default: all of them."""
        self.wall += seconds
        self.processor += seconds if processor is None else processor
