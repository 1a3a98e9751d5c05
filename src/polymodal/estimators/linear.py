"""Linear models: logistic regression for classes and labels, ridge regression for numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.sparse import csr_matrix

from polymodal.core.registry import register
from polymodal.estimators.base import Estimator, EstimatorOptions, EstimatorState, EstimatorTarget, Fold
from polymodal.estimators.design_matrix import Coefficients, raw_predictions
from polymodal.estimators.penalty_choice import LinearFold, PenaltyChoice, choose_penalties, fit_with_penalties
from polymodal.estimators.relevance import relevance_scales
from polymodal.estimators.standard_columns import StandardColumns
from polymodal.estimators.terms import Terms
from polymodal.features.feature_table import FeatureTable

#: Penalties, from strong to weak; fewer of them for more than `MANY_ROWS` rows, or more than `MANY_PRODUCTS` products
#: of a feature with a coefficient in one pass over the rows.
PENALTIES = tuple(10.0 ** np.arange(0.5, -7.1, -0.5))
FEW_PENALTIES = tuple(10.0 ** np.arange(-1.5, -7.1, -0.75))
MANY_ROWS, MANY_PRODUCTS = 3000, 20_000_000
#: The path ends after this number of penalties without a better loss; for many rows after the first.
PATIENCE = 2


@register
class LinearModel(Estimator):
    """Logistic regression on all features together for classes and labels, ridge regression for numbers.

    It is strong on TF-IDF of texts and on embeddings of frozen encoders, and where rows are few. See `StandardColumns`
    for the scales of the columns, Hoerl and Kennard, "Ridge Regression: Biased Estimation for Nonorthogonal Problems",
    1970, and Friedman, Hastie and Tibshirani, "Regularization Paths for Generalized Linear Models via Coordinate
    Descent", 2010, for paths of penalties with warm starts.

    The penalty is that with the smallest loss on the held-out rows, among them an infinite one, which gives the
    constant prediction; each number of a target of several numbers has its own. With up to 3,000 rows and 20 million
    products of a feature with a coefficient, a second path scales each number, category, text and embedding by its
    share in the first model (`relevance_scales`), and is kept if its loss is smaller. With more, the first fold alone
    chooses the penalty. The model is then fitted on all rows.

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
        many = len(target) > MANY_ROWS or _products(features, target) > MANY_PRODUCTS
        leading = folds[:1] if many else folds
        choice, scaled = _choose(features, target, leading, many)
        for fold, raw in zip(leading, (scaled or choice).raw, strict=True):
            held_out[fold.held_out] = raw
        for fold in folds[len(leading) :]:
            columns = StandardColumns()
            coefficients = _fit(columns, features.take(fold.train), target.take(fold.train), choice, None)
            held_out[fold.held_out] = raw_predictions(columns.transform(features.take(fold.held_out)), coefficients)
        self._columns = StandardColumns()
        self._coefficients = _fit(self._columns, features, target, choice, scaled)
        return held_out

    def predict(self, features: FeatureTable) -> np.ndarray:
        columns = self._columns.transform(features.select(self.options.inputs))
        return raw_predictions(columns, self._coefficients)

    def terms(self, features: FeatureTable) -> Terms:
        """The columns of each feature times their coefficients, and the intercept, at which all centered columns are
        0."""
        features = features.select(self.options.inputs)
        keys = self._columns.keys(features)
        distinct = tuple(dict.fromkeys(keys))
        numbers = {key: number for number, key in enumerate(distinct)}
        places = np.array([numbers[key] for key in keys], np.int64)
        design = self._columns.transform(features)
        coefficients = self._coefficients.astype(np.float64)
        values = np.zeros((len(features), len(distinct), coefficients.shape[1]))
        for at in range(coefficients.shape[1]):
            per_term = csr_matrix((coefficients[:-1, at], (np.arange(len(keys)), places)), (len(keys), len(distinct)))
            width = design.dense.shape[1]
            values[:, :, at] = (per_term[:width].T @ design.dense.T).T
            values[:, :, at] += (design.sparse @ per_term[width:]).toarray()
        return Terms(distinct, values, coefficients[-1])

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


def _products(features: FeatureTable, target: EstimatorTarget) -> int:
    """The products of a feature with a coefficient in one pass over the rows."""
    blocks = [block.values for some in features.blocks.values() for block in some]
    return target.size * sum(int(values.size) for values in blocks)  # of a sparse matrix, the stored values


def _choose(
    features: FeatureTable, target: EstimatorTarget, folds: Sequence[Fold], many: bool
) -> tuple[PenaltyChoice, PenaltyChoice | None]:
    """The penalties for equal scales, and those for scales by relevance if they have a smaller loss."""
    sides: list[LinearFold] = []
    groups: list[np.ndarray] = []
    for fold in folds:
        columns, train = StandardColumns(), target.take(fold.train)
        x = columns.fit(features.take(fold.train), train.weight)
        new = columns.transform(features.take(fold.held_out))
        sides.append(LinearFold(x, train, new, target.take(fold.held_out)))
        groups.append(columns.groups(features))
    choice = choose_penalties(sides, FEW_PENALTIES if many else PENALTIES, 1 if many else PATIENCE)
    if many or max(len(np.unique(one)) for one in groups) == 1 or np.isinf(choice.penalties).all():
        return choice, None
    scaled_sides = []
    for side, some, coefficients in zip(sides, groups, choice.coefficients, strict=True):
        scales = relevance_scales(side.train, some, coefficients, side.train_target.weight)
        scaled_sides.append(side._replace(train=side.train.scaled(scales), held_out=side.held_out.scaled(scales)))
    scaled = choose_penalties(scaled_sides, PENALTIES, PATIENCE)
    return choice, scaled if scaled.loss.sum() < choice.loss.sum() else None


def _fit(
    columns: StandardColumns,
    features: FeatureTable,
    target: EstimatorTarget,
    choice: PenaltyChoice,
    scaled: PenaltyChoice | None,
) -> Coefficients:
    """Fit the columns, and the coefficients for the chosen penalties."""
    x = columns.fit(features, target.weight)
    coefficients = fit_with_penalties(x, target, choice.penalties)
    if scaled is None:
        return coefficients
    scales = relevance_scales(x, columns.groups(features), coefficients, target.weight)
    coefficients = fit_with_penalties(x.scaled(scales), target, scaled.penalties)
    return np.concatenate([scales[:, None] * coefficients[:-1], coefficients[-1:]])
