"""Classification metrics: accuracy, precision, recall, F1, confusion matrix, log loss. The names are those of
scikit-learn.

Every function takes `distribution [rows, k]`, `truth` and `weight [rows]`. If `truth [rows]` holds class indices, the
predicted class is the most probable one. If `truth [rows, k]` holds 0/1 labels, labels with a probability of at least
`threshold` are predicted. Classes that neither occur nor are predicted are excluded from macro averages. A class that
occurs but is never predicted has precision 0; a class that is predicted but never occurs has recall 0. Rows of weight 0
are ignored. A metric without rows is NaN. Class indices of k and above are classes that the model does not know: their
probability is 0 in every row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ClassCounts:
    """Weighted row counts of each class `[k]`: `true_positives`, `predicted`, and true (`support`)."""

    true_positives: np.ndarray
    predicted: np.ndarray
    support: np.ndarray


def confusion_matrix(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Confusion matrix `[k, k]` float64: row = true class, column = predicted class, cell = sum of weights."""
    k = distribution.shape[1]
    cell = truth.astype(np.int64) * k + distribution.argmax(1)
    return np.bincount(cell, weights=weight, minlength=k * k).reshape(k, k)


def class_counts(
    distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray, threshold: float = 0.5
) -> ClassCounts:
    """True positives, predictions and occurrences of every class (unknown classes come last), or of every label at
    `threshold`."""
    if truth.ndim == 1:
        decided, true = distribution.argmax(1), truth.astype(np.int64)
        classes = max(distribution.shape[1], int(true.max(initial=-1)) + 1)
        counted = (np.bincount(true, weight * (decided == true), classes), np.bincount(decided, weight, classes))
        return ClassCounts(*counted, np.bincount(true, weight, classes))
    predicted, real = distribution >= threshold, truth > 0
    return ClassCounts(weight @ (predicted & real), weight @ predicted, weight @ real)


def per_class(
    distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray, threshold: float = 0.5
) -> dict[str, np.ndarray]:
    """`precision`, `recall`, `f1` and `support` of every class, each `[k]`; NaN for 0/0."""
    counts = class_counts(distribution, truth, weight, threshold)
    return {
        "precision": _ratio(counts.true_positives, counts.predicted),
        "recall": _ratio(counts.true_positives, counts.support),
        "f1": _ratio(2 * counts.true_positives, counts.predicted + counts.support),
        "support": counts.support,
    }


def accuracy(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """Fraction of rows whose most probable class is the true one.

    Example:
        >>> import numpy as np
        >>> accuracy(np.array([[0.9, 0.1], [0.3, 0.7]]), np.array([0, 0]), np.ones(2))
        0.5
    """
    return _quotient(weight @ (distribution.argmax(1) == truth), weight.sum())


def subset_accuracy(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray, threshold: float = 0.5) -> float:
    """Fraction of rows whose set of predicted labels equals the true set (exact match)."""
    exact = ((distribution >= threshold) == (truth > 0)).all(1)
    return _quotient(weight @ exact, weight.sum())


def balanced_accuracy(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """Mean recall of the classes that occur."""
    counts = class_counts(distribution, truth, weight)
    occurs = counts.support > 0
    return _mean(_ratio(counts.true_positives, counts.support)[occurs])


def precision_macro(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray, threshold: float = 0.5) -> float:
    """Mean precision over classes: fraction of the rows predicted as a class that are of this class."""
    counts = class_counts(distribution, truth, weight, threshold)
    return _macro(_ratio(counts.true_positives, counts.predicted), counts)


def recall_macro(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray, threshold: float = 0.5) -> float:
    """Mean recall over classes: fraction of the rows of a class that are predicted as this class."""
    counts = class_counts(distribution, truth, weight, threshold)
    return _macro(_ratio(counts.true_positives, counts.support), counts)


def f1_macro(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray, threshold: float = 0.5) -> float:
    """Mean over classes of F1, the harmonic mean of precision and recall: 2 true positives / (predicted + support).

    Example:
        >>> import numpy as np
        >>> f1_macro(np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4]]), np.array([0, 1, 0]), np.ones(3))
        1.0
    """
    counts = class_counts(distribution, truth, weight, threshold)
    return _macro(_ratio(2 * counts.true_positives, counts.predicted + counts.support), counts)


def precision_micro(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray, threshold: float = 0.5) -> float:
    """Precision over all predictions of all classes; equals accuracy for exclusive classes."""
    counts = class_counts(distribution, truth, weight, threshold)
    return _quotient(counts.true_positives.sum(), counts.predicted.sum())


def recall_micro(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray, threshold: float = 0.5) -> float:
    """Recall over all occurrences of all classes; equals accuracy for exclusive classes."""
    counts = class_counts(distribution, truth, weight, threshold)
    return _quotient(counts.true_positives.sum(), counts.support.sum())


def f1_micro(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray, threshold: float = 0.5) -> float:
    """F1 over all predictions of all classes; equals accuracy for exclusive classes."""
    counts = class_counts(distribution, truth, weight, threshold)
    return _quotient(2 * counts.true_positives.sum(), counts.predicted.sum() + counts.support.sum())


def log_loss(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """Mean of -log(probability of the true class), in nats; probabilities are clipped to [2e-16, 1 - 2e-16]."""
    tiny = np.finfo(np.float64).eps
    known = truth < distribution.shape[1]
    probability = distribution[np.arange(len(truth)), np.where(known, truth, 0).astype(np.int64)]
    probability = np.clip(np.where(known, probability, 0.0), tiny, 1 - tiny)
    return _quotient(weight @ -np.log(probability), weight.sum())


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part / whole` elementwise; NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _quotient(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _macro(values: np.ndarray, counts: ClassCounts) -> float:
    """Mean over the classes that occur or are predicted; 0/0 counts as 0."""
    return _mean(np.nan_to_num(values[counts.predicted + counts.support > 0]))
