"""`autotune`: the number format and the number of threads of a training run, by a short measurement."""

from __future__ import annotations

import copy
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import nn

from polymodal.core.paths import cache_folder
from polymodal.recipe.training import TrainingOptions
from polymodal.runtime.autotune_store import keep_choice, read_choice
from polymodal.runtime.compute import (
    CPU,
    NO_BF16,
    NO_FP16,
    ComputeConfig,
    Precision,
    has_bf16,
    has_fp16,
    network_device,
)
from polymodal.runtime.cpu_kernels import processor_name
from polymodal.runtime.random_state import isolated_random_state
from polymodal.runtime.thread_limit import max_threads, num_cores

#: More threads than this are not tried.
MAX_TRIED_THREADS = 8
#: Timed rounds over the candidates, after one to warm up; fewer once the trial has taken this many seconds.
ROUNDS, TRIAL_SECONDS = 5, 3.0
#: A candidate is chosen over an earlier one if it is faster by this factor, and faster in this share of the rounds.
MIN_GAIN, MIN_AGREEMENT = 1.1, 0.75
#: If one thread gets less than this share of a processor during the measurement, other programs are running.
MIN_PROCESSOR_SHARE = 0.8
#: Ways of loss balancing whose gradients can be scaled, as fp16 needs.
SCALABLE = ("fixed", "uncertainty")
#: Version of the measurement. A higher version invalidates all stored choices.
VERSION = 2


def autotune_cache() -> Path:
    """The folder with the measurements of `autotune`."""
    return cache_folder() / "compute_choices"


def autotune(
    options: TrainingOptions, network: nn.Module, step: Callable[[Any], None], memory: Path | None
) -> ComputeConfig:
    """The fastest configuration to run `step(copy of network)`, among those that the recipe and the device allow.

    Each candidate is timed on the same copy in several rounds, and the medians are compared; bf16 and more threads
    must be faster by 10% and in most rounds to be chosen. bf16 is a candidate only if the device has instructions for
    it, and more than one thread only if `OMP_NUM_THREADS` allows it. The trial takes a few seconds, or one step of each
    candidate if that is longer.

    The choice is stored in the folder `memory` by processor and network, so that a second run of the same recipe
    computes in the same way. If other programs use the processors during the measurement, wall time tells nothing about
    threads: then the choice is one thread, with the precision that needs less processor time, and is not stored.

    The parameters and the random state of the caller do not change; the copy shares the frozen parameters.
    """
    device = network_device(network)
    candidates = _candidates(options, device)
    if len(candidates) == 1:
        return candidates[0]
    key = _machine_key(network, candidates)
    known = _read_choice(memory, key, candidates)
    if known is not None:
        return known
    trial = copy.deepcopy(network, {id(one): one for one in network.parameters() if not one.requires_grad})
    with isolated_random_state():
        timings = _measure(candidates, lambda: step(trial), device)
    busy = device == CPU and is_busy(candidates, timings)
    compared = [one for one in candidates if one.threads == candidates[0].threads] if busy else candidates
    best = fastest([(timings[one].processor if busy else timings[one].wall) for one in compared])
    measured = ", ".join(
        f"{one.precision} x {one.threads}: {statistics.median(timings[one].wall) * 1e3:.1f} ms" for one in candidates
    )
    reasons = [
        f"median step of the first batch, precision x threads: {measured}",
        f"measured on {datetime.now(UTC):%Y-%m-%d}",
        *(["other programs used the processors: the fewest threads, by processor time, not stored"] if busy else []),
        *([NO_BF16] if candidates[0].reason == NO_BF16 else []),
    ]
    chosen = replace(compared[best], reason="; ".join(reasons))
    if memory is not None and not busy:
        keep_choice(memory, key, asdict(chosen))
    return chosen


@dataclass
class Timings:
    """The wall time and the processor time of each timed step of a candidate, in seconds."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


def is_busy(candidates: Sequence[ComputeConfig], timings: dict[ComputeConfig, Timings]) -> bool:
    """Whether other programs used the processors: a step on one thread got less than a whole one."""
    return any(
        sum(timings[one].processor) < MIN_PROCESSOR_SHARE * sum(timings[one].wall)
        for one in candidates
        if one.threads == 1
    )


def fastest(seconds: Sequence[Sequence[float]]) -> int:
    """The index of the fastest candidate, given the seconds of each in the same rounds. A later one must be faster by
    `MIN_GAIN` in the median and in `MIN_AGREEMENT` of the rounds.

    Example:
        >>> fastest([[2.0, 2.0, 2.0], [1.0, 1.1, 1.0]]), fastest([[2.0, 2.0, 2.0], [1.0, 5.0, 1.9]])
        (1, 0)
    """
    best = 0
    for index, own in enumerate(seconds):
        wins = sum(mine < other for mine, other in zip(own, seconds[best], strict=True))
        gain = statistics.median(seconds[best]) > MIN_GAIN * statistics.median(own)
        if gain and wins >= MIN_AGREEMENT * len(own):
            best = index
    return best


def unmeasured(options: TrainingOptions, device: str) -> ComputeConfig:
    """The configuration of a network that is too large to measure: bf16 on an accelerator that has it and fp32 on a
    processor, unless the recipe says otherwise, with as many threads as it allows."""
    candidates = _candidates(options, device)
    precision = candidates[0 if device == CPU else -1].precision
    chosen = [one for one in candidates if one.precision == precision][-1]
    return chosen if chosen.reason in (NO_BF16, NO_FP16) else replace(chosen, reason="not measured, as it is sharded")


def _candidates(options: TrainingOptions, device: str) -> list[ComputeConfig]:
    threads = (
        [options.num_threads] if options.num_threads != "auto" else sorted({1, min(max_threads(), MAX_TRIED_THREADS)})
    )
    precisions: list[Precision] = [options.precision] if options.precision != "auto" else ["fp32"]
    if options.precision == "auto" and has_bf16(device):
        precisions.append("bf16")
    elif options.precision == "auto" and has_fp16(device) and options.loss_balancing in SCALABLE:
        precisions.append("fp16")
    is_set = "auto" not in (options.precision, options.num_threads)
    reason = "set by the recipe" if is_set else "the only choice on this processor"
    return [ComputeConfig(one, count, reason, device).supported() for one in precisions for count in threads]


def _measure(
    candidates: Sequence[ComputeConfig], step: Callable[[], None], device: str
) -> dict[ComputeConfig, Timings]:
    """The times of `step` with each candidate, in alternating rounds. The first round warms up, unless it takes as long
    as the whole trial may."""
    timings = {candidate: Timings() for candidate in candidates}
    begun, _ = clocks()
    for attempt in range(ROUNDS + 1):
        for candidate in candidates:
            with candidate.active():
                wall, processor = clocks()
                step()
                _finish(device)
                now = clocks()
                timings[candidate].wall.append(now[0] - wall)
                timings[candidate].processor.append(now[1] - processor)
        is_over = clocks()[0] - begun > TRIAL_SECONDS
        if attempt == 0 and not is_over:
            timings = {candidate: Timings() for candidate in candidates}
        if is_over:
            break
    return timings


def clocks() -> tuple[float, float]:
    """The wall time and the processor time of this process, in seconds from any start."""
    return time.perf_counter(), time.process_time()


def _finish(device: str) -> None:
    """Wait until an accelerator has finished its work."""
    if device != CPU:
        torch.accelerator.synchronize(device)


def _machine_key(network: nn.Module, candidates: Sequence[ComputeConfig]) -> str:
    """A hash of everything that decides which candidate is faster: machines may share a home directory."""
    shapes = [(name, tuple(parameter.shape)) for name, parameter in network.named_parameters()]
    device = network_device(network)
    accelerator = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else ""
    waiting = os.environ.get("OMP_WAIT_POLICY")
    facts = (VERSION, processor_name(), num_cores(), accelerator, waiting, torch.__version__, shapes, candidates)
    return xxhash.xxh3_128_hexdigest(repr(facts).encode())


def _read_choice(memory: Path | None, key: str, candidates: Sequence[ComputeConfig]) -> ComputeConfig | None:
    """The stored choice, if it is one of the candidates."""
    stored = {} if memory is None else read_choice(memory, key)
    for candidate in candidates:
        found = replace(candidate, reason=str(stored.get("reason")))
        if asdict(found) == stored:
            return found
    return None
