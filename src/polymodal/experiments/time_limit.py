"""Estimates by which a run with a time limit leaves out what would not end in time, and tells a limit that is too
short."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from polymodal.core.caller import warn_caller
from polymodal.core.errors import PolymodalWarning
from polymodal.core.formatting import format_duration
from polymodal.core.registry import build
from polymodal.estimators.base import Estimator, Fold
from polymodal.experiments.member_rows import MemberRows
from polymodal.features.feature_set import selected_items
from polymodal.features.feature_table import FeatureTable
from polymodal.nn.encoders.base import Encoder
from polymodal.preparation.feature_cache import FeatureSettings, encode_frozen_input
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.recipe.recipe import Recipe
from polymodal.tasks.base import Task

#: Items that are encoded to warm up, and items that are timed. Fewer than `MIN_ITEMS` items are not timed.
WARM_UP_ITEMS, TIMED_ITEMS, MIN_ITEMS = 8, 24, 128
#: A member is timed on one of this many rows, in one fold.
SAMPLED = 4


class TimeLimitWarning(PolymodalWarning):
    """A time limit cannot be kept."""


def encoding_seconds(
    recipe: Recipe, preparation: Preparation, encoders: Mapping[str, Encoder], prepared: PreparedTable
) -> float:
    """The estimated seconds in which the frozen encoders encode all prepared items, if none are cached."""
    settings, total = FeatureSettings.from_recipe(recipe), 0.0
    for name, encoder in encoders.items():
        source, seconds = prepared.inputs[name], 0.0
        if len(source.items) < MIN_ITEMS:
            continue
        for count in (WARM_UP_ITEMS, TIMED_ITEMS):
            some = selected_items(source, np.linspace(0, len(source.items) - 1, count).astype(np.int64))
            begun = time.perf_counter()
            encode_frozen_input(encoder, preparation.modalities[name], some, settings, folder=None)
            seconds = time.perf_counter() - begun
        total += seconds / TIMED_ITEMS * len(source.items)
    return total


def member_seconds(
    recipe: Recipe, tasks: Mapping[str, Task], rows: MemberRows, table: FeatureTable, number: int
) -> float:
    """The estimated seconds to fit a member for all outputs, from a fit on some rows of the first fold. The time is
    taken as proportional to the rows and the folds."""
    options, begun = (recipe.members or [])[number], time.perf_counter()
    selected = table.select(options.inputs)  # type: ignore[attr-defined]
    for output, task in tasks.items():
        positions, target = rows.target(output, task)
        folds = rows.folds_of(positions)
        if folds:
            first = Fold(folds[0].train[::SAMPLED], folds[0].held_out[::SAMPLED])
            chosen = np.concatenate(first)
            fold = Fold(np.arange(len(first.train)), np.arange(len(first.train), len(chosen)))
            estimator: Estimator = build("estimator", options, f"members.{number}", seed=recipe.seed)
            estimator.cross_fit(selected.take(positions[chosen]), target.take(chosen), [fold])
    return (time.perf_counter() - begun) * SAMPLED * (len(rows.folds) + 1) / 2


def warn_of_limit(available: float, needed: float, work: str) -> None:
    """Warn if work that cannot be left out needs more than the time that is left.

    available, needed: in seconds
    """
    if needed > max(0.0, available):
        warn_caller(
            f"the time limit cannot be kept: {work} takes about {format_duration(needed)} on this machine, and "
            f"{format_duration(max(0.0, available))} are left; one member is always trained",
            TimeLimitWarning,
        )
