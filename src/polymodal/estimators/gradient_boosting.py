"""Gradient-boosted trees: LightGBM on numbers, categories and reduced embeddings, averaged over folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from polymodal.core.registry import register
from polymodal.estimators.base import Estimator, EstimatorOptions, EstimatorState, EstimatorTarget, Fold
from polymodal.estimators.boosted_trees import BoostedRows, boost_together, boosting_options, boosting_rounds
from polymodal.estimators.lightgbm_library import load_lightgbm
from polymodal.estimators.terms import Terms
from polymodal.estimators.tree_columns import TreeColumns
from polymodal.features.feature_table import FeatureTable

#: Rounds without a smaller loss after which growing ends.
PATIENCE = 40


@register
class GradientBoosting(Estimator):
    """Gradient-boosted trees by LightGBM (Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree",
    2017), the strongest single model on tables of numbers and categories.

    Each fold has a model of its own, and a prediction is the mean of their raw values (Breiman, "Bagging predictors",
    1996). The columns are those of `TreeColumns`, fitted in each fold on the training rows. All folds have the same
    number of rounds, the one with the smallest mean loss on the held-out rows. Labels and numbers have trees of their
    own.

    Example:
        >>> from polymodal.features.feature_table import FeatureBlock
        >>> values = np.linspace(-1, 1, 200, dtype=np.float32)[:, None]
        >>> table = FeatureTable({"x": (FeatureBlock("number", values),)}, {"x": np.ones(200, bool)})
        >>> target = EstimatorTarget("categorical", 2, (np.abs(values[:, 0]) > 0.5).astype(int), np.ones(200))
        >>> rows = np.arange(200)
        >>> folds = [Fold(rows[rows % 2 == part], rows[rows % 2 != part]) for part in range(2)]
        >>> model = GradientBoosting(GradientBoosting.Options())
        >>> bool((model.cross_fit(table, target, folds).argmax(1) == target.values).mean() > 0.95)
        True
    """

    class Options(EstimatorOptions):
        name: Literal["gradient_boosting"] = "gradient_boosting"
        num_leaves: int | None = Field(default=None, ge=2, le=256)
        """Largest number of leaves of a tree. Default: 8 for up to 500 training rows, else 15."""
        learning_rate: float | None = Field(default=None, gt=0, le=1)
        """Factor of each tree. Default: 0.05 for up to 1,000 training rows, else 0.1; more if rounds are limited."""

    def cross_fit(self, features: FeatureTable, target: EstimatorTarget, folds: Sequence[Fold]) -> np.ndarray:
        features = features.select(self.options.inputs)
        self._columns, self._starts = [], []
        sides: list[tuple[np.ndarray, np.ndarray]] = []
        for fold in folds:
            columns, train = self._new_columns(), target.take(fold.train)
            fitted = columns.fit(features.take(fold.train), train)
            sides.append((fitted, columns.transform(features.take(fold.held_out))))
            self._columns.append(columns)
            self._starts.append(train.constant())
        models = [self._boost(target, folds, sides, part) for part in range(self._num_parts(target))]
        self._texts = [list(some) for some in zip(*models, strict=True)]
        self._load_boosters()
        held_out = np.full((len(target), target.size), np.nan, np.float32)
        for at, (fold, (_, columns_)) in enumerate(zip(folds, sides, strict=True)):
            held_out[fold.held_out] = self._raw(at, columns_)
        return held_out

    def predict(self, features: FeatureTable) -> np.ndarray:
        features = features.select(self.options.inputs)
        raws = [self._raw(at, columns.transform(features)) for at, columns in enumerate(self._columns)]
        return np.asarray(np.mean(raws, axis=0, dtype=np.float64), np.float32)

    def terms(self, features: FeatureTable) -> Terms:
        """The Shapley values of the columns in each tree, summed over the trees, as LightGBM computes them (TreeSHAP:
        Lundberg et al., "From local explanations to global understanding with explainable AI for trees", 2020)."""
        features = features.select(self.options.inputs)
        keys = self._columns[0].keys(features)
        distinct = tuple(dict.fromkeys(keys))
        values = np.zeros((len(features), len(distinct), self._starts[0].shape[0]))
        start = np.stack(self._starts).mean(axis=0, dtype=np.float64)
        places = [distinct.index(key) for key in keys]
        for at, columns in enumerate(self._columns):
            found, expected = self._fold_terms(at, columns.transform(features))
            start += expected / len(self._columns)
            for column, place in enumerate(places):
                values[:, place] += found[:, column] / len(self._columns)
        return Terms(distinct, values, np.asarray(start))

    def save(self) -> EstimatorState:
        arrays = {"starts": np.stack(self._starts)}
        for at, columns in enumerate(self._columns):
            arrays |= {f"{at}.{name}": value for name, value in columns.state.items()}
        texts = {f"{at}.{part}": text for at, some in enumerate(self._texts) for part, text in enumerate(some)}
        return EstimatorState(arrays, texts)

    def load(self, state: EstimatorState) -> None:
        self._starts = list(state.arrays["starts"])
        self._columns = []
        for at in range(len(self._starts)):
            columns, prefix = self._new_columns(), f"{at}."
            columns.load(
                {name.removeprefix(prefix): value for name, value in state.arrays.items() if name.startswith(prefix)}
            )
            self._columns.append(columns)
        parts = len(state.texts) // len(self._starts)
        self._texts = [[state.texts[f"{at}.{part}"] for part in range(parts)] for at in range(len(self._starts))]
        self._load_boosters()

    def _new_columns(self) -> TreeColumns:
        """The columns of one fold, not yet fitted."""
        return TreeColumns(self.seed)

    @staticmethod
    def _num_parts(target: EstimatorTarget) -> int:
        """The number of models in a fold: one for all classes, one for each label or number."""
        return 1 if target.space == "categorical" else target.size

    def _boost(
        self,
        target: EstimatorTarget,
        folds: Sequence[Fold],
        sides: Sequence[tuple[np.ndarray, np.ndarray]],
        part: int,
    ) -> list[str]:
        """The model of each fold for all classes, or for one label or number."""
        values = target.values if target.space == "categorical" else target.values[:, part]
        rows = min(len(fold.train) for fold in folds)
        usable = [at for at, fold in enumerate(folds) if np.ptp(values[fold.train]) > 0 and sides[at][0].shape[1]]
        texts = [""] * len(folds)
        if not usable:
            return texts
        parts = []
        for at in usable:
            start = self._starts[at] if target.space == "categorical" else self._starts[at][[part]]
            parts.append(
                (
                    BoostedRows(sides[at][0], values[folds[at].train], target.weight[folds[at].train], start),
                    BoostedRows(sides[at][1], values[folds[at].held_out], target.weight[folds[at].held_out], start),
                )
            )
        classes = target.size if target.space == "categorical" else 1
        max_rounds = boosting_rounds(classes, len(usable))
        chosen = self.options.model_dump(include={"num_leaves", "learning_rate"}, exclude_none=True)
        if target.space == "binary" and not np.isin(values, (0, 1)).all():
            chosen["objective"] = "cross_entropy"  # shares of labels, as a teacher predicts them
        options = boosting_options(target.space, target.size, rows, max_rounds, self.seed, chosen)
        categories = [self._columns[at].categories for at in usable]
        fitted = boost_together(parts, categories, options, max_rounds=max_rounds, patience=PATIENCE)
        for at, text in zip(usable, fitted, strict=True):
            texts[at] = text
        return texts

    def _load_boosters(self) -> None:
        """Read the models from their texts, also after fitting, so that a loaded estimator predicts the same."""
        self._boosters: list[list[Any]] = [[_booster(text) for text in some] for some in self._texts]

    def _raw(self, at: int, columns: np.ndarray) -> np.ndarray:
        """The raw predictions `[rows, size]` of one fold."""
        import torch

        raw = np.tile(self._starts[at], (len(columns), 1))
        for part, booster in enumerate(self._boosters[at]):
            if booster is None or not len(columns):
                continue
            values = booster.predict(columns, raw_score=True, num_threads=torch.get_num_threads())
            if values.ndim == 2:
                raw += values
            else:
                raw[:, part] += values
        return raw.astype(np.float32)

    def _fold_terms(self, at: int, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The terms `[rows, columns, size]` of one fold, and the expected values `[size]` of its trees."""
        import torch

        rows, width = columns.shape
        size = self._starts[at].shape[0]
        values, expected = np.zeros((rows, width, size)), np.zeros(size)
        for part, booster in enumerate(self._boosters[at]):
            if booster is None or not rows:
                continue
            found = booster.predict(columns, pred_contrib=True, num_threads=torch.get_num_threads())
            classes = found.shape[1] // (width + 1)
            found = found.reshape(rows, classes, width + 1).transpose(0, 2, 1)
            own = slice(None) if classes > 1 else slice(part, part + 1)
            values[:, :, own] += found[:, :-1]
            expected[own] += found[0, -1]
        return values, expected


def _booster(text: str) -> Any:
    if not text:
        return None
    lightgbm = load_lightgbm()

    return lightgbm.Booster(model_str=text)
