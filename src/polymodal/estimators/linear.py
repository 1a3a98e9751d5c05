"""Linear models: logistic regression for classes and labels, ridge regression for numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from polymodal.core.registry import register
from polymodal.estimators.base import Estimator, EstimatorOptions, EstimatorState, EstimatorTarget, Fold
from polymodal.estimators.penalized_models import Coefficients, linear_path, raw_predictions, row_losses
from polymodal.estimators.standard_columns import StandardColumns
from polymodal.features.feature_table import FeatureTable

#: Penalties, from strong to weak; fewer of them for more than `MANY_ROWS` rows.
PENALTIES = tuple(10.0 ** np.arange(0.5, -7.1, -0.5))
FEW_PENALTIES = tuple(10.0 ** np.arange(-1.5, -7.1, -0.75))
MANY_ROWS = 3000
#: The path ends after this number of penalties without a better loss; for many rows after the first.
PATIENCE, MIN_STEPS = 2, 3


@register
class LinearModel(Estimator):
    """Logistic regression on all features together for classes and labels, ridge regression for numbers.

    It is strong on TF-IDF of texts and on embeddings of frozen encoders, and where rows are few. See `StandardColumns`
    for the scales of the columns, Hoerl and Kennard, "Ridge Regression: Biased Estimation for Nonorthogonal Problems",
    1970, and Friedman, Hastie and Tibshirani, "Regularization Paths for Generalized Linear Models via Coordinate
    Descent", 2010, for paths of penalties with warm starts.

    The penalty is that with the smallest loss on the held-out rows, among them an infinite one, which gives the
    constant prediction; each number of a target of several numbers has its own. With more than 3,000 rows, the first
    fold alone chooses it. The model is then fitted on all rows with this penalty.

    Example:
        >>> from polymodal.features.feature_table import FeatureBlock
        >>> values = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
        >>> table = FeatureTable({"x": (FeatureBlock("number", values),)}, {"x": np.ones(40, bool)})
        >>> target = EstimatorTarget("real", 1, 2.0 * values, np.ones(40))
        >>> rows = np.arange(40)
        >>> folds = [Fold(rows[rows % 2 == part], rows[rows % 2 != part]) for part in range(2)]
        >>> model = LinearModel(LinearModel.Options())
        >>> bool(np.abs(model.cross_fit(table, target, folds) - 2 * values).max() < 0.01)
        True
    """

    class Options(EstimatorOptions):
        name: Literal["linear"] = "linear"

    def cross_fit(self, features: FeatureTable, target: EstimatorTarget, folds: Sequence[Fold]) -> np.ndarray:
        features = features.select(self.options.inputs)
        held_out = np.full((len(target), target.size), np.nan, np.float32)
        many = len(target) > MANY_ROWS
        leading = folds[:1] if many else folds
        penalties = FEW_PENALTIES if many else PENALTIES
        chosen, predictions = _choose_penalties(features, target, leading, penalties, 1 if many else PATIENCE)
        for fold, raw in zip(leading, predictions, strict=True):
            held_out[fold.held_out] = raw
        for fold in folds[len(leading) :]:
            columns = StandardColumns()
            coefficients = _fit(columns, features.take(fold.train), target.take(fold.train), chosen)
            held_out[fold.held_out] = raw_predictions(columns.transform(features.take(fold.held_out)), coefficients)
        self._columns = StandardColumns()
        self._coefficients = _fit(self._columns, features, target, chosen)
        return held_out

    def predict(self, features: FeatureTable) -> np.ndarray:
        columns = self._columns.transform(features.select(self.options.inputs))
        return raw_predictions(columns, self._coefficients)

    def save(self) -> EstimatorState:
        state = {f"columns.{name}": np.asarray(value) for name, value in self._columns.state.items()}
        return EstimatorState({**state, "coefficients": self._coefficients})

    def load(self, state: EstimatorState) -> None:
        prefix = "columns."
        self._columns = StandardColumns()
        self._columns.load(
            {name.removeprefix(prefix): value for name, value in state.arrays.items() if name.startswith(prefix)}
        )
        self._coefficients = state.arrays["coefficients"]


def _choose_penalties(
    features: FeatureTable,
    target: EstimatorTarget,
    folds: Sequence[Fold],
    penalties: Sequence[float],
    patience: int,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The penalty of each value of the target `[size]`, and the raw predictions of the held-out rows of each fold."""
    held = [target.take(fold.held_out) for fold in folds]
    paths, best_raw = [], []
    for fold, rows in zip(folds, held, strict=True):
        columns, train = StandardColumns(), target.take(fold.train)
        x = columns.fit(features.take(fold.train), train.weight)
        paths.append((linear_path(x, train, penalties), columns.transform(features.take(fold.held_out))))
        best_raw.append(np.tile(train.constant().astype(np.float32), (len(rows), 1)))
    best_loss = _held_out_loss(best_raw, held)
    chosen, waited = np.full(target.size, np.inf), np.zeros(target.size, int)
    for step, penalty in enumerate(penalties):
        raws = [raw_predictions(x, next(path)) for path, x in paths]
        loss = _held_out_loss(raws, held)
        better = loss < best_loss
        best_loss, chosen = np.where(better, loss, best_loss), np.where(better, penalty, chosen)
        best_raw = [np.where(better, raw, best) for raw, best in zip(raws, best_raw, strict=True)]
        waited = np.where(better, 0, waited + 1)
        if step >= MIN_STEPS and (waited >= patience).all():
            break
    return chosen, best_raw


def _held_out_loss(raws: Sequence[np.ndarray], held: Sequence[EstimatorTarget]) -> np.ndarray:
    """The weighted mean loss over the rows of all folds, `[size]`: the same for all classes or labels."""
    losses = [rows.weight @ row_losses(raw, rows) for raw, rows in zip(raws, held, strict=True)]
    total = np.sum(losses, axis=0) / sum(rows.weight.sum() for rows in held)
    size = held[0].size
    return total if held[0].space == "real" else np.full(size, total.mean())


def _fit(columns: StandardColumns, features: FeatureTable, target: EstimatorTarget, chosen: np.ndarray) -> Coefficients:
    """Fit the columns, and the coefficients for the chosen penalty of each value of the target."""
    x = columns.fit(features, target.weight)
    coefficients = np.zeros((x.shape[1] + 1, target.size), np.float32)
    coefficients[-1] = target.constant()
    penalties = sorted({penalty for penalty in chosen.tolist() if np.isfinite(penalty)}, reverse=True)
    for penalty, fitted in zip(penalties, linear_path(x, target, penalties), strict=True):
        coefficients[:, chosen == penalty] = fitted[:, chosen == penalty]
    return coefficients
