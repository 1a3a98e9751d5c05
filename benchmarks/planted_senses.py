"""Synthetic audio-visual sets: both inputs together, each input only, and one input missing at prediction.

    python -m benchmarks.planted_senses        # needs no data; `-s key=value` overrides the recipe, for experiments

`make_spoken_digits`: a noisy image and a noisy tone sequence of a digit. `make_moving_shapes_with_audio`: a video and
audio in which only the order in time is informative.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from benchmarks.missing import study
from benchmarks.record import RECORDS, Record, run_study
from polymodal.datasets.moving_shapes import make_moving_shapes_with_audio, make_spoken_digits
from polymodal.workflows.fit import plan_fit

TRAIN, TEST = 2_400, 2_000
#: By set: its generator and its target. Default recipes except for the epochs, which are the same for all models.
SETS: dict[str, tuple[Callable[[int, int], dict[str, list[Any]]], str]] = {
    "digits": (make_spoken_digits, "digit"),
    "motion": (make_moving_shapes_with_audio, "motion"),
}
EPOCHS = 24


def measure(names: list[str], settings: list[str]) -> Record:
    """Train on both inputs and on each input only, for every set."""
    record = Record(
        name="planted_senses",
        title="Synthetic audio-visual sets: both inputs, one input, and one input missing at prediction",
        method=f"Synthetic and seeded; {TRAIN:,} rows for training and validation, {TEST:,} for the test, {EPOCHS} "
        "epochs, otherwise the default recipe. Differences are paired, with bootstrap intervals.",
        unit="accuracy",
        larger_is_better=True,
    )
    for name in names:
        make, target = SETS[name]
        chosen = [f"training.epochs={EPOCHS}", *settings]
        plan, splits = plan_fit(make(TRAIN, 1), target, settings=chosen, test=make(TEST, 2))
        print(name, {one: spec.encoder.name for one, spec in plan.recipe.inputs.items() if spec.encoder}, flush=True)
        result = study(plan.recipe, [splits], [(one,) for one in plan.recipe.inputs])
        result.add_to(record, name)
    return record


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted_senses")
    parser.add_argument("names", nargs="*", default=[], help=f"one of {', '.join(SETS)}; default: all")
    parser.add_argument("-s", "--set", action="append", default=[], dest="settings")
    chosen_arguments = parser.parse_args()
    is_complete = not chosen_arguments.settings and not chosen_arguments.names
    run_study(
        measure,
        chosen_arguments.names or list(SETS),
        chosen_arguments.settings,
        folder=RECORDS if is_complete else None,
    )
