"""The rows on which members are compared: training and validation rows together, with targets and folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from polymodal.data.partition import Split
from polymodal.data.split import folds as make_folds
from polymodal.estimators.base import EstimatorTarget, Fold
from polymodal.experiments.experiment import Experiment
from polymodal.features.feature_set import FeatureSet
from polymodal.features.feature_table import FeatureTable
from polymodal.preparation.preparation import PreparedTable
from polymodal.tasks.base import Task


class KnownTarget(NamedTuple):
    """The target of rows: values `[rows, ...]`, whether they are known `[rows]`, and sample weights `[rows]`."""

    values: np.ndarray
    known: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class MemberRows:
    """Training and validation rows, pooled: positions count the rows of `parts` one after the other.

    parts: the rows by table
    folds: positions that are fitted and held out
    """

    parts: tuple[Split[PreparedTable], ...]
    folds: tuple[Fold, ...]

    @classmethod
    def of(cls, experiment: Experiment, count: int) -> MemberRows:
        """The rows of an experiment in `count` folds; the validation rows are held out if `count` is 1, or if they are
        of another table."""
        train, validation = experiment.splits["train"], experiment.splits["validation"]
        if train.table is not validation.table:
            rows = np.arange(len(train) + len(validation))
            return cls((train, validation), (Fold(rows[: len(train)], rows[len(train) :]),))
        pooled = Split(train.table, np.union1d(train.rows, validation.rows))
        if count == 1:
            held_out = np.isin(pooled.rows, validation.rows)
            fitted = np.isin(pooled.rows, train.rows)
            return cls((pooled,), (Fold(np.flatnonzero(fitted), np.flatnonzero(held_out)),))
        return cls((pooled,), _folds(experiment, pooled, count))

    def positions_of(self, split: Split[PreparedTable]) -> np.ndarray:
        """The positions of the rows of a split, in its order."""
        if len(self.parts) == 1:
            return np.searchsorted(self.parts[0].rows, split.rows)
        return np.arange(len(split)) + (0 if split.table is self.parts[0].table else len(self.parts[0]))

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def fit_features(self, features: FeatureSet, training: np.ndarray) -> FeatureTable:
        """Fit `features` on the rows `training [n]` of the training table, and return the features of all rows."""
        first, *others = self.parts
        fitted = features.fit_transform(first.table, training, first.rows)
        return FeatureTable.concatenate([fitted, *(features.transform(one.table, one.rows) for one in others)])

    def known_target(self, name: str, task: Task) -> KnownTarget:
        """The target of every row, and whether it is known."""
        values = np.concatenate([part.table.targets[name][0][part.rows] for part in self.parts])
        known = np.concatenate([part.table.targets[name][1][part.rows] for part in self.parts])
        weight = np.ones(len(self))
        if self.parts[0].table.weight is not None:
            weight = np.concatenate(
                [
                    np.ones(len(part)) if part.table.weight is None else part.table.weight[part.rows]
                    for part in self.parts
                ]
            ).astype(np.float64)
        if task.space == "categorical":
            known = known & (values >= 0)  # a class that training did not see
        return KnownTarget(values, known, weight)

    def target(self, name: str, task: Task) -> tuple[np.ndarray, EstimatorTarget]:
        """The positions of the rows with a known target and a positive weight, and their target."""
        own = self.known_target(name, task)
        weight = own.weight
        if task.space == "categorical":
            weight = weight * np.asarray(task.weights)[np.maximum(own.values, 0)]  # type: ignore[attr-defined]
        positions = np.flatnonzero(own.known & (weight > 0))
        dtype = np.int64 if task.space == "categorical" else np.float64
        values, groups = own.values[positions].astype(dtype), self.groups()
        groups = None if groups is None else groups[positions]
        return positions, EstimatorTarget(task.space, task.output_size, values, weight[positions], groups)

    def groups(self) -> np.ndarray | None:
        """The group of each row `[rows]`; no group has rows of two tables. None without groups."""
        found: list[np.ndarray] = []
        for part in self.parts:
            if part.table.groups is None:
                return None
            after = max((int(one.max(initial=-1)) + 1 for one in found), default=0)
            found.append(part.table.groups[part.rows] + after)
        return np.concatenate(found)

    def folds_of(self, positions: np.ndarray) -> list[Fold]:
        """The folds as places in `positions`, where a position may occur several times; folds without rows are left
        out."""
        found = [
            Fold(*(np.flatnonzero(np.isin(positions, some)) for some in (one.train, one.held_out)))
            for one in self.folds
        ]
        return [one for one in found if len(one.train) and len(one.held_out)]


def _folds(experiment: Experiment, pooled: Split[PreparedTable], count: int) -> tuple[Fold, ...]:
    """Folds that keep groups together and the frequencies of classes equal, as far as possible."""
    groups = pooled.table.groups
    groups = None if groups is None else groups[pooled.rows]
    labels, size = None, len(pooled) if groups is None else len(np.unique(groups))
    tasks = list(experiment.preparation.tasks.items())
    if len(tasks) == 1 and tasks[0][1].space == "categorical":
        value, present = pooled.table.targets[tasks[0][0]]
        labels = np.where(present, value, -1)[pooled.rows]
        size = min(size, int(np.unique(labels, return_counts=True)[1].max()))
    made = make_folds(
        len(pooled), max(2, min(count, size)), experiment.recipe.seed, groups=_listed(groups), labels=labels
    )
    return tuple(Fold(train, held_out) for train, held_out in made)


def _listed(groups: np.ndarray | None) -> list[int] | None:
    return None if groups is None else groups.tolist()
