"""Planted audio-visual sets: what two senses reach together, alone, and with one of them gone at prediction.

    python -m benchmarks.planted_senses        # needs no data; `-s key=value` changes the recipe, for studies

`make_spoken_digits`: a noisy picture and a noisy tone sequence of a digit. `make_moving_shapes_with_audio`: a clip and
a sound in which only the order in time tells.
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
#: Each set: its maker and its target. Default recipes, but for epochs: enough, and no more, for all models alike.
SETS: dict[str, tuple[Callable[[int, int], dict[str, list[Any]]], str]] = {
    "digits": (make_spoken_digits, "digit"),
    "motion": (make_moving_shapes_with_audio, "motion"),
}
EPOCHS = 24


def measure(names: list[str], settings: list[str]) -> Record:
    """Train on both inputs and on each alone, for every set."""
    record = Record(
        name="planted_senses",
        title="Planted audio-visual sets: together, alone, and with one input missing at prediction",
        method=f"Generated and seeded; {TRAIN:,} rows to train and validate on, {TEST:,} to test, {EPOCHS} epochs, the "
        "default recipe otherwise. Differences are paired, with bootstrap intervals.",
        unit="accuracy",
        larger_is_better=True,
    )
    for name in names:
        make, target = SETS[name]
        chosen = [f"training.epochs={EPOCHS}", *settings]
        plan, splits = plan_fit(make(TRAIN, 1), target, settings=chosen, test=make(TEST, 2))
        print(name, {one: spec.encoder.name for one, spec in plan.recipe.inputs.items() if spec.encoder}, flush=True)
        found = study(plan.recipe, [splits], [(one,) for one in plan.recipe.inputs])
        found.tell(record, name)
    return record


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted_senses")
    parser.add_argument("names", nargs="*", default=[], help=f"of {', '.join(SETS)}; all if none is named")
    parser.add_argument("-s", "--set", action="append", default=[], dest="settings")
    given = parser.parse_args()
    whole = not given.settings and not given.names
    run_study(measure, given.names or list(SETS), given.settings, folder=RECORDS if whole else None)
