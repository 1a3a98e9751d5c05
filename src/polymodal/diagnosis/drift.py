"""Drift: whether two tables have the same distribution, in each column, in each input, and jointly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, overload

import numpy as np

from polymodal.core.html_table import html_table
from polymodal.diagnosis.multiple_tests import holm, p_larger

#: Rows of each table that a classifier reads.
MAX_ROWS = 4000
#: Categories that are counted by themselves; the others are one.
MAX_VALUES = 50
#: Level of the tests.
LEVEL = 0.05

Kind = Literal["numbers", "categories", "missing", "classifier"]


@dataclass(frozen=True)
class DriftTest:
    """One test of two tables.

    name: the column or the input; `all inputs` for the joint test
    kind: `numbers`: two-sample Kolmogorov-Smirnov; `categories`: chi-squared; `missing`: chi-squared of missing cells;
        `classifier`: whether a classifier tells rows of the tables apart
    size: how different the tables are, from 0 to 1: the largest difference of the distribution functions; half the sum
        of the differences of the frequencies; the difference of the fractions of missing cells; 2 AUC - 1 of the
        classifier on other rows
    p_value: corrected for all tests of the two tables
    """

    name: str
    kind: Kind
    size: float
    p_value: float


@dataclass(frozen=True)
class Drift(Sequence[DriftTest]):
    """The tests of two tables, the smallest p-value first. A notebook shows a table."""

    tests: tuple[DriftTest, ...]

    def __len__(self) -> int:
        return len(self.tests)

    @overload
    def __getitem__(self, at: int) -> DriftTest: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[DriftTest, ...]: ...

    def __getitem__(self, at: int | slice) -> DriftTest | tuple[DriftTest, ...]:
        return self.tests[at]

    @property
    def found(self) -> tuple[DriftTest, ...]:
        """The tests whose tables differ, at a level of 5 % for all tests together."""
        return tuple(one for one in self.tests if one.p_value <= LEVEL)

    def _repr_html_(self) -> str:
        rows = [[one.name, one.kind, f"{one.size:.2f}", f"{one.p_value:.2g}"] for one in self]
        return html_table(rows, ["column or input", "test", "size", "corrected p-value"])


def drift_tests(
    cells: Mapping[str, tuple[Sequence[Any], Sequence[Any]]],
    features: Mapping[str, tuple[np.ndarray, np.ndarray]],
    seed: int = 0,
) -> Drift:
    """The tests of two tables, corrected together by Holm's procedure.

    cells: by column, the cells of both tables: numbers or categories; of media only missing cells count
    features: by input, or `all inputs`, the features of both tables, `[rows, columns]` with NaN if missing
    """
    found = []
    for name, (before, after) in cells.items():
        found += _column_tests(name, before, after)
    for name, (first, second) in features.items():
        found.append(_classifier_test(name, first, second, seed))
    corrected = holm(np.array([one.p_value for one in found]))
    tests = [replace(one, p_value=float(p_value)) for one, p_value in zip(found, corrected, strict=True)]
    return Drift(tuple(sorted(tests, key=lambda one: (one.p_value, -one.size))))


def _column_tests(name: str, before: Sequence[Any], after: Sequence[Any]) -> list[DriftTest]:
    from scipy.stats import ks_2samp  # slow to import

    gone = [np.array([cell is None or cell != cell for cell in side], dtype=bool) for side in (before, after)]
    tests = []
    if gone[0].any() or gone[1].any():
        counts = np.array([[one.sum(), (~one).sum()] for one in gone], dtype=np.float64)
        size = abs(float(gone[0].mean() - gone[1].mean()))
        tests.append(DriftTest(name, "missing", size, _chi_squared(counts)))
    known = [
        [cell for cell, missing in zip(side, one, strict=True) if not missing]
        for side, one in zip((before, after), gone, strict=True)
    ]
    if not known[0] or not known[1]:
        return tests
    every = [*known[0], *known[1]]
    if all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in every):
        result = ks_2samp(*(np.array(side, dtype=np.float64) for side in known))
        tests.append(DriftTest(name, "numbers", float(result.statistic), float(result.pvalue)))
    elif all(isinstance(cell, str | bool | int) for cell in every):
        common = [value for value, _ in Counter(map(str, every)).most_common(MAX_VALUES)]
        counts = np.array([_counts(side, common) for side in known], dtype=np.float64)
        shares = counts / counts.sum(axis=1, keepdims=True)
        tests.append(DriftTest(name, "categories", float(abs(shares[0] - shares[1]).sum() / 2), _chi_squared(counts)))
    return tests


def _counts(cells: list[Any], values: list[str]) -> list[int]:
    """How often each of the values occurs, and how often others do."""
    counts = Counter(map(str, cells))
    own = [counts[value] for value in values]
    return [*own, len(cells) - sum(own)]


def _chi_squared(counts: np.ndarray) -> float:
    """The p-value that the rows `[2, columns]` of counts have one distribution; columns with few counts are joined."""
    from scipy.stats import chi2_contingency  # slow to import

    expected = counts.sum(axis=0) * counts.sum(axis=1).min() / counts.sum()
    rare = expected < 5
    joined = np.concatenate([counts[:, ~rare], counts[:, rare].sum(axis=1, keepdims=True)], axis=1)
    joined = joined[:, joined.sum(axis=0) > 0]
    return float(chi2_contingency(joined).pvalue) if joined.shape[1] > 1 else 1.0


def _classifier_test(name: str, before: np.ndarray, after: np.ndarray, seed: int) -> DriftTest:
    """The classifier two-sample test (Lopez-Paz & Oquab, "Revisiting Classifier Two-Sample Tests", 2017): boosted trees
    learn on half of the rows to which table a row belongs, and a rank test judges their scores of the other half."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # slow to import

    draw = np.random.default_rng(seed)
    drawn = [side[draw.permutation(len(side))[:MAX_ROWS]] for side in (before, after)]
    halves = [len(side) // 2 for side in drawn]
    if min(halves) < 2:
        return DriftTest(name, "classifier", 0.0, 1.0)
    learned = np.concatenate([side[:half] for side, half in zip(drawn, halves, strict=True)])
    model = HistGradientBoostingClassifier(
        max_iter=60, max_leaf_nodes=15, min_samples_leaf=10, early_stopping=False, random_state=seed
    )
    model.fit(learned, np.repeat([0, 1], halves))
    first, second = (model.predict_proba(side[half:])[:, 1] for side, half in zip(drawn, halves, strict=True))
    greater = (second[:, None] > first).mean() + (second[:, None] == first).mean() / 2
    return DriftTest(name, "classifier", max(0.0, 2 * float(greater) - 1), p_larger(second, first))
