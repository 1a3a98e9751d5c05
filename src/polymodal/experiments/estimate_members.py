"""Cost estimate of the members beside the network: measured on some training rows, and scaled to all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from polymodal.core.registry import build
from polymodal.data.partition import Split
from polymodal.estimators.base import Estimator, Fold
from polymodal.experiments.member_rows import MemberRows
from polymodal.experiments.train_members import member_names
from polymodal.features.feature_set import FeatureSet
from polymodal.nn.encoders.base import Encoder
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.recipe.recipe import Recipe

#: Estimators are measured on at most this many rows.
MAX_ROWS = 512


@dataclass(frozen=True)
class MemberEstimate:
    """The estimated cost of the members.

    names: the members beside the network, in the order in which they are fitted
    folds: the folds in which members are compared; 1: on the validation rows
    feature_seconds: computing the features of all rows once, with the frozen encoders, without cached results
    fit_seconds: fitting all members in all folds. It is taken as proportional to the rows, so it is too low for kernels
    """

    names: tuple[str, ...]
    folds: int
    feature_seconds: float
    fit_seconds: float


def estimate_members(
    recipe: Recipe, preparation: Preparation, encoders: Mapping[str, Encoder], prepared: PreparedTable, rows: int
) -> MemberEstimate:
    """Fit every estimator on two thirds of the prepared rows, and scale the time to `rows` rows and to the folds."""
    count = min(MAX_ROWS, len(prepared))
    positions = np.arange(count)
    begun = time.perf_counter()
    features = FeatureSet(recipe, preparation, encoders, None)
    table = features.fit_transform(prepared, positions, positions)
    feature_seconds = time.perf_counter() - begun
    fold = Fold(positions[: 2 * count // 3], positions[2 * count // 3 :])
    sample = MemberRows((Split(prepared, positions),), (fold,))
    begun = time.perf_counter()
    for number, options in enumerate(recipe.members or []):
        for output, task in preparation.tasks.items():
            known, target = sample.target(output, task)
            folds = sample.folds_of(known)
            if folds:
                estimator: Estimator = build("estimator", options, f"members.{number}", seed=recipe.seed)
                estimator.cross_fit(table.select(options.inputs).take(known), target, folds)  # type: ignore[attr-defined]
    fit_seconds = time.perf_counter() - begun
    folds_in_all = recipe.ensemble.folds or 1
    scale = rows / count
    return MemberEstimate(
        tuple(member_names(recipe.members or [])),
        folds_in_all,
        round(feature_seconds * scale, 3),
        round(fit_seconds * scale * (folds_in_all + 1) / 2, 3),
    )
