"""Gradient-boosted trees on numbers, categories, and out-of-fold predictions of linear models of texts and media."""

from __future__ import annotations

from typing import Literal

from polymodal.core.registry import register
from polymodal.estimators.gradient_boosting import GradientBoosting
from polymodal.estimators.stacked_columns import StackedColumns


@register
class Stacking(GradientBoosting):
    """Gradient-boosted trees that read a text, an image or another input of many features as the predictions of a
    linear model (Wolpert, "Stacked generalization", 1992), see `StackedColumns`.

    A linear model can use the thousands of n-grams of a text, and trees find how its prediction depends on numbers,
    categories and dates. Inputs of few columns are read as `gradient_boosting` reads them.

    Example:
        >>> import numpy as np
        >>> from polymodal.estimators.base import EstimatorTarget, Fold
        >>> from polymodal.features.feature_table import FeatureBlock, FeatureTable
        >>> random = np.random.default_rng(0)
        >>> text, size = random.normal(size=(300, 40)).astype(np.float32), random.normal(size=(300, 1))
        >>> blocks = {"text": (FeatureBlock("embedding", text),), "size": (FeatureBlock("number", size),)}
        >>> table = FeatureTable(blocks, {"text": np.ones(300, bool), "size": np.ones(300, bool)})
        >>> value = (text[:, :20].sum(axis=1) / 4 * np.sign(size[:, 0]))[:, None]
        >>> target, rows = EstimatorTarget("real", 1, value, np.ones(300)), np.arange(300)
        >>> folds = [Fold(rows[rows % 3 != part], rows[rows % 3 == part]) for part in range(3)]
        >>> found = Stacking(Stacking.Options()).cross_fit(table, target, folds)
        >>> found.shape
        (300, 1)
    """

    class Options(GradientBoosting.Options):
        name: Literal["stacking"] = "stacking"  # type: ignore[assignment]

    def _new_columns(self) -> StackedColumns:
        return StackedColumns(self.seed)
