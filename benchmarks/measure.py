"""Interleaved measurement: A B A B, so that other load of the machine affects both sides."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.record import Record

Run = Callable[[], float]
DISTURBED = 0.1  # the fraction of the processors that other programs may use during a round
RETRIES = 2


def interleaved(record: Record, contestants: Mapping[str, Run], rounds: int, *, warm: int = 1) -> None:
    """Call each contestant in turn, round after round, and add the measurements to the record.

    The first `warm` rounds are dropped. A round in which other programs used more than a tenth of the processors is
    repeated, at most `RETRIES` times in total. The record counts repeated rounds, and disturbed rounds that were kept.
    A contestant returns its own measurement, so that it can exclude its setup.
    """
    values: dict[str, list[float]] = {name: [] for name in contestants}
    done, retries = -warm, RETRIES if rounds > 1 else 0
    while done < rounds:
        measured, others = {}, 0.0
        for name, run in contestants.items():
            gc.collect()
            before = _clock()
            measured[name] = run()
            others = max(others, used_by_others(before, _clock()))
        if done >= 0 and others > DISTURBED and retries:
            retries -= 1
            record.repeated += 1
            continue
        if done >= 0:
            record.disturbed += others > DISTURBED
            for name, value in measured.items():
                values[name].append(value)
        done += 1
    record.values |= values


Clock = tuple[float, float, float]


def _clock() -> Clock:
    """Seconds of the clock, processor seconds of the whole machine, and of this process and its children."""
    stat = Path("/proc/stat")
    busy = 0.0
    if stat.exists():
        user, nice, system, _, _, irq, softirq, *_ = map(int, stat.read_text().split("\n", 1)[0].split()[1:])
        busy = (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    return time.perf_counter(), busy, own


def used_by_others(before: Clock, after: Clock) -> float:
    """The fraction of all processors that other programs used between two clocks; 0 if the system does not report
    it."""
    seconds, busy, own = (late - early for early, late in zip(before, after, strict=True))
    return max(0.0, busy - own) / (max(seconds, 0.05) * (os.cpu_count() or 1))
