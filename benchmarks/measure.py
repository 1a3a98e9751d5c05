"""Interleaved measurement: A B A B, so that whatever else the machine does falls on both."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping

Run = Callable[[], float]


def interleaved(contestants: Mapping[str, Run], rounds: int, *, warm: int = 1) -> dict[str, list[float]]:
    """Call each contestant in turn, `warm + rounds` times; the measurements of the first `warm` rounds are dropped.

    A contestant returns its own measurement, so that it can leave its setting-up outside.
    """
    values: dict[str, list[float]] = {name: [] for name in contestants}
    for attempt in range(warm + rounds):
        for name, run in contestants.items():
            gc.collect()
            measured = run()
            if attempt >= warm:
                values[name].append(measured)
    return values
