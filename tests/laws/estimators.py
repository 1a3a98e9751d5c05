"""Features and targets for the laws of estimators, with and without a planted signal."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from polymodal.core.registry import find
from polymodal.core.types import Space
from polymodal.estimators.base import Estimator, EstimatorTarget, Fold
from polymodal.features.feature_table import FeatureBlock, FeatureTable

SPACES: tuple[Space, ...] = ("categorical", "binary", "real")
#: By input: the chance that a row has it.
PRESENT = {"in_number": 0.9, "in_category": 0.9, "in_text": 0.8, "in_image": 0.8}


def sample_features(rows: int, seed: int = 0) -> FeatureTable:
    """Four inputs, one of each kind of features, each with missing rows, and numbers with missing cells."""
    random = np.random.default_rng(seed)
    present = {name: random.random(rows) < chance for name, chance in PRESENT.items()}
    numbers = random.normal(size=(rows, 3)).astype(np.float32)
    numbers[random.random((rows, 3)) < 0.1] = np.nan
    numbers[:, 2] = 7.0
    numbers[~present["in_number"]] = np.nan
    categories = random.integers(0, (4, 30), (rows, 2)).astype(np.int32)
    categories[~present["in_category"]] = -1
    words = random.random((rows, 40)) * (random.random((rows, 40)) < 0.15)
    words[~present["in_text"]] = 0
    embeddings = random.normal(size=(rows, 6)).astype(np.float32)
    embeddings[~present["in_image"]] = np.nan
    blocks: dict[str, tuple[FeatureBlock, ...]] = {
        "in_number": (FeatureBlock("number", numbers),),
        "in_category": (FeatureBlock("category", categories, (4, 30)),),
        "in_text": (FeatureBlock("sparse", csr_matrix(words.astype(np.float32))),),
        "in_image": (FeatureBlock("embedding", embeddings),),
    }
    return FeatureTable(blocks, present)


def planted_target(features: FeatureTable, space: Space, *, noise: float = 0.3, seed: int = 1) -> EstimatorTarget:
    """A target that follows the first column of each input: three classes, two labels, or two numbers."""
    random = np.random.default_rng(seed)
    block: dict[str, Any] = {name: some[0].values for name, some in features.blocks.items()}
    score = np.nan_to_num(block["in_number"][:, 0]) + np.nan_to_num(block["in_image"][:, 0])
    score = (
        score + 1.5 * (block["in_category"][:, 0] == 1) + 2.0 * np.asarray(block["in_text"][:, [0]].sum(axis=1)).ravel()
    )
    score = score + noise * random.normal(size=len(features))
    return as_target(score, space)


def noise_target(rows: int, space: Space, seed: int = 1) -> EstimatorTarget:
    """A target that no feature follows."""
    return as_target(np.random.default_rng(seed).normal(size=rows), space)


def as_target(score: np.ndarray, space: Space) -> EstimatorTarget:
    weight = np.ones(len(score))
    if space == "categorical":
        return EstimatorTarget(space, 3, np.digitize(score, np.quantile(score, [0.4, 0.7])), weight)
    if space == "binary":
        labels = np.stack([score > np.median(score), score > np.quantile(score, 0.7)], axis=1)
        return EstimatorTarget(space, 2, labels.astype(np.float64), weight)
    standard = (score - score.mean()) / score.std()
    return EstimatorTarget(space, 2, np.stack([standard, -standard], axis=1), weight)


def folds_of(rows: int, count: int = 3) -> list[Fold]:
    every = np.arange(rows)
    return [Fold(every[every % count != part], every[every % count == part]) for part in range(count)]


def estimator(name: str, seed: int = 0, **options: Any) -> Estimator:
    component = find("estimator", name)
    built: Estimator = component(component.Options(**options), seed=seed)
    return built
