"""Scores of decided classes: accuracy, precision, recall, F1, the confusion matrix, and log loss.

Every function takes `distribution [rows, k]`, `truth` and `weight [rows]`. Where `truth [rows]` holds class
numbers, the decided class is the most probable one; where `truth [rows, k]` holds 0/1 labels, a label is
decided when its probability reaches `threshold`. A class that neither occurs nor is predicted is left out of
macro averages; one that occurs but is never predicted has precision 0, one that is predicted but never occurs
has recall 0. Rows of weight 0 do not exist. A score without any row is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ClassCounts:
    """Weighted row counts of each class `[k]`: predicted and true (`true_positives`), `predicted`, and true
    (`support`)."""

    true_positives: np.ndarray
    predicted: np.ndarray
    support: np.ndarray


def confusion_matrix(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The confusion matrix `[k, k]` float64: row = true class, column = decided class, cell = summed
    weight."""
    k = distribution.shape[1]
    cell = truth.astype(np.int64) * k + distribution.argmax(1)
    return np.bincount(cell, weights=weight, minlength=k * k).reshape(k, k)


def class_counts(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray, threshold: float = 0.5) -> ClassCounts:
    """Hits, decisions and occurrences of every class (or label, at `threshold`)."""
    if truth.ndim == 1:
        matrix = confusion_matrix(distribution, truth, weight)
        return ClassCounts(matrix.diagonal(), matrix.sum(0), matrix.sum(1))
    decided, real = distribution >= threshold, truth > 0
    return ClassCounts(weight @ (decided & real), weight @ decided, weight @ real)


def per_class(
    distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray, threshold: float = 0.5
) -> dict[str, np.ndarray]:
    """`precision`, `recall`, `f1` and `support` of every class, each `[k]`; NaN where the quotient is 0/0."""
    counts = class_counts(distribution, truth, weight, threshold)
    return {
        "precision": _ratio(counts.true_positives, counts.predicted),
        "recall": _ratio(counts.true_positives, counts.support),
        "f1": _ratio(2 * counts.true_positives, counts.predicted + counts.support),
        "support": counts.support,
    }


def accuracy(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """Share of rows whose most probable class is the true one."""
    return _quotient(weight @ (distribution.argmax(1) == truth), weight.sum())


def subset_accuracy(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray, threshold: float = 0.5) -> float:
    """Share of rows whose set of decided labels is exactly the true set."""
    exact = ((distribution >= threshold) == (truth > 0)).all(1)
    return _quotient(weight @ exact, weight.sum())


def balanced_accuracy(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """The mean recall of the classes that occur."""
    counts = class_counts(distribution, truth, weight)
    occurs = counts.support > 0
    return _mean(_ratio(counts.true_positives, counts.support)[occurs])


def precision_macro(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray, threshold: float = 0.5) -> float:
    """The mean over classes of: of the rows decided as the class, the share that truly are."""
    counts = class_counts(distribution, truth, weight, threshold)
    return _macro(_ratio(counts.true_positives, counts.predicted), counts)


def recall_macro(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray, threshold: float = 0.5) -> float:
    """The mean over classes of: of the rows that truly are the class, the share that was decided so."""
    counts = class_counts(distribution, truth, weight, threshold)
    return _macro(_ratio(counts.true_positives, counts.support), counts)


def f1_macro(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray, threshold: float = 0.5) -> float:
    """The mean over classes of F1, the harmonic mean of precision and recall: 2 true_positives / (predicted +
    support)."""
    counts = class_counts(distribution, truth, weight, threshold)
    return _macro(_ratio(2 * counts.true_positives, counts.predicted + counts.support), counts)


def precision_micro(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray, threshold: float = 0.5) -> float:
    """Precision over all decisions together; for exclusive classes it equals accuracy."""
    counts = class_counts(distribution, truth, weight, threshold)
    return _quotient(counts.true_positives.sum(), counts.predicted.sum())


def recall_micro(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray, threshold: float = 0.5) -> float:
    """Recall over all occurrences together; for exclusive classes it equals accuracy."""
    counts = class_counts(distribution, truth, weight, threshold)
    return _quotient(counts.true_positives.sum(), counts.support.sum())


def f1_micro(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray, threshold: float = 0.5) -> float:
    """F1 over all decisions together; for exclusive classes it equals accuracy."""
    counts = class_counts(distribution, truth, weight, threshold)
    return _quotient(2 * counts.true_positives.sum(), counts.predicted.sum() + counts.support.sum())


def log_loss(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """The mean of -log(probability of the true class), in nats; probabilities are kept off 0 and 1 by
    2e-16."""
    tiny = np.finfo(np.float64).eps
    given = np.clip(distribution[np.arange(len(truth)), truth.astype(np.int64)], tiny, 1 - tiny)
    return _quotient(weight @ -np.log(given), weight.sum())


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part / whole` elementwise, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _quotient(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _macro(values: np.ndarray, counts: ClassCounts) -> float:
    """The mean over the classes that occur or are predicted, where 0/0 counts as 0."""
    return _mean(np.nan_to_num(values[counts.predicted + counts.support > 0]))
