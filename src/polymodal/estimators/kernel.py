"""Kernel models: kernel ridge regression with the Gaussian kernel, and probabilities by a calibrated softmax."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Literal, NamedTuple

import numpy as np

from polymodal.core.registry import register
from polymodal.estimators.base import Estimator, EstimatorOptions, EstimatorState, EstimatorTarget, Fold
from polymodal.estimators.dense_columns import DenseColumns
from polymodal.estimators.dependence import dependence_scales
from polymodal.estimators.kernel_machine import KernelMachine, fit_kernel_machine, score_path
from polymodal.estimators.penalized_models import row_losses
from polymodal.features.feature_table import FeatureTable

MAX_ROWS = 4000
#: Widths of the kernel, where the mean squared distance of two rows is about 2.
WIDTHS = (0.01, 0.03, 0.1, 0.3, 1.0)
PENALTIES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.001)
#: Factors of the scores of classes and labels; 0 gives the constant prediction.
FACTORS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)
#: Rows of a fold on which width and penalty are chosen, and the largest number of such folds if there are more rows.
SEARCH_ROWS, SEARCH_FOLDS = 600, 2


class _Setting(NamedTuple):
    is_scaled: bool
    width: float
    penalty: float
    factor: float


class _Side(NamedTuple):
    """The columns of the training rows and of the held-out rows of a fold, and the factors of the columns."""

    train: np.ndarray
    held_out: np.ndarray
    factors: np.ndarray

    @property
    def is_scaled(self) -> bool:
        return bool((self.factors != 1).any())

    def scaled(self) -> tuple[np.ndarray, np.ndarray]:
        return self.train * self.factors, self.held_out * self.factors


@register
class Kernel(Estimator):
    """Kernel ridge regression with the Gaussian kernel on all features, for up to 4,000 rows; for classes and labels
    on their indicators (Suykens and Vandewalle, "Least Squares Support Vector Machine Classifiers", 1999).

    It suits few rows with smooth relations, such as embeddings and measurements. The columns are those of
    `DenseColumns`. With the constant prediction c (log-frequencies, logits or means) and the scores s of the centered
    target, the raw prediction is c + f s, so that the probabilities are a softmax with a temperature (Guo et al., "On
    Calibration of Modern Neural Networks", 2017). Width, penalty and f are those with the smallest loss on the held-out
    rows, and so is the scale of the columns: as they are, or each number, category, text and embedding by its
    dependence on the target (`dependence_scales`), which removes most of the cost of noise columns. The model is then
    fitted on all rows.

    Example:
        >>> from polymodal.features.feature_table import FeatureBlock
        >>> values = np.linspace(-1, 1, 60, dtype=np.float32)[:, None]
        >>> table = FeatureTable({"x": (FeatureBlock("number", values),)}, {"x": np.ones(60, bool)})
        >>> target = EstimatorTarget("real", 1, np.abs(values).astype(float), np.ones(60))
        >>> rows = np.arange(60)
        >>> folds = [Fold(rows[rows % 2 == part], rows[rows % 2 != part]) for part in range(2)]
        >>> model = Kernel(Kernel.Options())
        >>> bool(np.abs(model.cross_fit(table, target, folds) - np.abs(values)).max() < 0.2)
        True
    """

    class Options(EstimatorOptions):
        name: Literal["kernel"] = "kernel"

    @classmethod
    def max_rows(cls, options: EstimatorOptions) -> int | None:
        return MAX_ROWS

    def cross_fit(self, features: FeatureTable, target: EstimatorTarget, folds: Sequence[Fold]) -> np.ndarray:
        features = features.select(self.options.inputs)
        sides: list[_Side] = []
        for fold in folds:
            columns = DenseColumns(self.seed)
            train = columns.fit(features.take(fold.train), target.weight[fold.train])
            factors = self._factors(train, columns.groups(features), target.take(fold.train))
            sides.append(_Side(train, columns.transform(features.take(fold.held_out)), factors))
        chosen = self._choose(target, folds, sides)
        held_out = np.full((len(target), target.size), np.nan, np.float32)
        for fold, side in zip(folds, sides, strict=True):
            train_target = target.take(fold.train)
            rows, new = side.scaled() if chosen.is_scaled else side[:2]
            machine = _fit(rows, train_target, chosen)
            held_out[fold.held_out] = train_target.constant() + chosen.factor * machine(new)
        self._columns = DenseColumns(self.seed)
        rows = self._columns.fit(features, target.weight)
        self._scales = np.ones(rows.shape[1], np.float32)
        if chosen.is_scaled:
            self._scales = self._factors(rows, self._columns.groups(features), target)
        self._machine = _fit(rows * self._scales, target, chosen)
        self._constant, self._factor = target.constant(), chosen.factor
        return held_out

    def predict(self, features: FeatureTable) -> np.ndarray:
        columns = self._columns.transform(features.select(self.options.inputs)) * self._scales
        return np.asarray(self._constant + self._factor * self._machine(columns), np.float32)

    def save(self) -> EstimatorState:
        arrays = {f"columns.{name}": value for name, value in self._columns.save().items()}
        machine = {"rows": self._machine.rows, "factors": self._machine.factors, "width": np.array(self._machine.width)}
        return EstimatorState(
            {**arrays, **machine, "constant": self._constant, "factor": np.array(self._factor), "scales": self._scales}
        )

    def load(self, state: EstimatorState) -> None:
        arrays, prefix = state.arrays, "columns."
        self._columns = DenseColumns(self.seed)
        self._columns.load(
            {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
        )
        self._machine = KernelMachine(arrays["rows"], arrays["factors"], float(arrays["width"]))
        self._constant, self._factor, self._scales = arrays["constant"], float(arrays["factor"]), arrays["scales"]

    def _factors(self, rows: np.ndarray, groups: np.ndarray, target: EstimatorTarget) -> np.ndarray:
        return dependence_scales(rows, groups, _outcomes(target), target.weight, self.seed)

    def _choose(self, target: EstimatorTarget, folds: Sequence[Fold], sides: Sequence[_Side]) -> _Setting:
        """The setting with the smallest weighted loss over held-out rows; of many rows, over a part of them."""
        factors = (0.0, 1.0) if target.space == "real" else FACTORS
        variants = (False, True) if any(side.is_scaled for side in sides) else (False,)
        settings = [_Setting(*one) for one in product(variants, WIDTHS, PENALTIES, factors)]
        losses = np.zeros(len(settings))
        random = np.random.default_rng(self.seed)
        few = all(len(fold.train) <= SEARCH_ROWS for fold in folds)
        for fold, side in list(zip(folds, sides, strict=True))[: None if few else SEARCH_FOLDS]:
            part = random.permutation(len(fold.train))[:SEARCH_ROWS]
            known, held = target.take(fold.train[part]), target.take(fold.held_out)
            outcomes, constant = _outcomes(known), known.constant()
            found = []
            for is_scaled, width in product(variants, WIDTHS):
                rows, new = side.scaled() if is_scaled else side[:2]
                for scores in score_path((rows[part], new), outcomes, known.weight, width, PENALTIES):
                    found += [held.weight @ row_losses(constant + factor * scores, held).sum(1) for factor in factors]
            losses += found
        return settings[int(losses.argmin())]


def _outcomes(target: EstimatorTarget) -> np.ndarray:
    """The centered numbers, labels or indicators of classes `[rows, size]`."""
    values = np.eye(target.size)[target.values] if target.space == "categorical" else target.values
    return np.asarray(values - target.weight @ values / target.weight.sum())


def _fit(rows: np.ndarray, target: EstimatorTarget, setting: _Setting) -> KernelMachine:
    return fit_kernel_machine(rows, _outcomes(target), target.weight, setting.width, setting.penalty)
