"""Base class of estimators: a model of one target on features, fitted without a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import numpy as np

from polymodal.core.options import Names, Options
from polymodal.core.types import Space
from polymodal.features.feature_table import FeatureTable


class EstimatorOptions(Options):
    """Base of every estimator's options."""

    inputs: Names = []
    """Inputs that this member reads. Default: all inputs."""


class Fold(NamedTuple):
    """Positions of the rows that are fitted, and of the rows that are held out: `[n]` int64 each."""

    train: np.ndarray
    held_out: np.ndarray


@dataclass(frozen=True)
class EstimatorTarget:
    """The target of rows. All rows have one.

    space: `categorical`, `binary` or `real`
    size: the number of values of a prediction: classes, labels, or numbers
    values: `[rows]` int64 class indices, or `[rows, size]` float64: labels from 0 to 1, or standardized numbers
    weight: `[rows]` float64, the weight of each row, positive
    groups: `[rows]` int64; rows of one group are fitted and held out together. None: every row is a group
    """

    space: Space
    size: int
    values: np.ndarray
    weight: np.ndarray
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.weight)

    def take(self, rows: np.ndarray) -> EstimatorTarget:
        """The target of some rows."""
        groups = None if self.groups is None else self.groups[rows]
        return replace(self, values=self.values[rows], weight=self.weight[rows], groups=groups)

    def constant(self) -> np.ndarray:
        """The raw values `[size]` of the best constant prediction: smoothed log-frequencies, logits, or means."""
        total = self.weight.sum()
        if self.space == "categorical":
            counts = np.bincount(self.values, self.weight, minlength=self.size)
            return np.asarray(np.log((counts + 1 / self.size) / (total + 1)))
        mean = self.weight @ self.values / total
        if self.space == "real":
            return np.asarray(mean)
        smoothed = (mean * total + 0.5) / (total + 1)
        return np.asarray(np.log(smoothed) - np.log1p(-smoothed))


@dataclass(frozen=True)
class EstimatorState:
    """A fitted estimator as arrays and texts, for files without pickle."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


class Estimator(ABC):
    """Base of every estimator. One instance predicts one output.

    A raw prediction has `size` values: log-probabilities of classes (up to a constant), logits of labels, or
    standardized numbers, as the raw predictions of a network.

    Subclasses define `Options`, `spaces` and the abstract methods, and are registered with `register`. A prediction
    depends on nothing but the row and the fitted state. Any feature, and all features of a row, may be missing. The
    same seed and data give the same result to the bit.
    """

    kind: ClassVar[str] = "estimator"
    Options: ClassVar[type[EstimatorOptions]]
    #: The kinds of targets that it supports.
    spaces: ClassVar[frozenset[Space]] = frozenset({"categorical", "binary", "real"})

    def __init__(self, options: EstimatorOptions, *, seed: int = 0) -> None:
        self.options, self.seed = options, seed

    @classmethod
    def max_rows(cls, options: EstimatorOptions) -> int | None:
        """The largest number of training rows for which it is sensible; None: any number."""
        return None

    @abstractmethod
    def cross_fit(self, features: FeatureTable, target: EstimatorTarget, folds: Sequence[Fold]) -> np.ndarray:
        """Fit the estimator; return the raw predictions `[rows, size]` float32 of the held-out rows, each by a model
        that was not fitted on this row. Rows that no fold holds out are NaN.

        Options that are chosen by the data (penalties, numbers of trees) are chosen on the held-out rows. The fitted
        estimator uses all rows, or is the mean of the models of the folds.
        """

    @abstractmethod
    def predict(self, features: FeatureTable) -> np.ndarray:
        """The raw predictions `[rows, size]` float32."""

    @abstractmethod
    def save(self) -> EstimatorState:
        """The fitted state."""

    @abstractmethod
    def load(self, state: EstimatorState) -> None:
        """Restore the state that `save` returned, instead of `cross_fit`.

        Raises:
            KeyError, ValueError: the state is not complete, or does not fit the options.
        """
