"""Uncertainty measures: how uncertain a model is about each row, from its predicted probabilities.

Each measure lies between 0 (certain) and 1 (maximally uncertain). For exclusive classes (`categorical`) it is computed
from the class distribution of a row. For independent labels (`binary`) it is the mean over labels, each with a
distribution over two outcomes. The three measures are those of Settles, "Active Learning Literature Survey" (2009),
section 3.1, scaled to [0, 1].

Example:
    >>> import numpy as np
    >>> probabilities = np.array([[0.5, 0.5], [0.9, 0.1]])
    >>> margin(probabilities, "categorical").round(2).tolist()
    [1.0, 0.2]
    >>> entropy(probabilities, "categorical").round(2).tolist()
    [1.0, 0.47]
"""

from __future__ import annotations

import numpy as np

from polymodal.core.types import Space


def margin(probabilities: np.ndarray, space: Space) -> np.ndarray:
    """1 - (p_1 - p_2) `[rows]`, with the two most probable classes of `probabilities [rows, k]` (Scheffer et al.,
    "Active Hidden Markov Models for Information Extraction", 2001); 1 - |2 p - 1| for a label."""
    if space == "binary":
        return np.asarray((1 - np.abs(2 * probabilities - 1)).mean(1))
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    return np.asarray(1 - (first - second))


def entropy(probabilities: np.ndarray, space: Space) -> np.ndarray:
    """-sum_c p_c log p_c / log k `[rows]` of `probabilities [rows, k]`; the same with k = 2 for a label."""
    if space == "binary":
        return np.asarray((_plogp(probabilities) + _plogp(1 - probabilities)).mean(1) / np.log(2))
    return np.asarray(_plogp(probabilities).sum(1) / np.log(probabilities.shape[1]))


def least_confident(probabilities: np.ndarray, space: Space) -> np.ndarray:
    """(1 - max_c p_c) k / (k - 1) `[rows]` of `probabilities [rows, k]`; the same with k = 2 for a label."""
    if space == "binary":
        return np.asarray(2 * np.minimum(probabilities, 1 - probabilities).mean(1))
    count = probabilities.shape[1]
    return np.asarray((1 - probabilities.max(1)) * count / (count - 1))


def disagreement(members: np.ndarray, space: Space) -> np.ndarray:
    """The disagreement `[rows]` of the members of a committee, from their predictions `members [members, rows, k]`.

    For probabilities, the mutual information between the label and the member (BALD), H(mean_m p_m) - mean_m H(p_m),
    scaled like `entropy` (Houlsby et al., "Bayesian Active Learning for Classification and Preference Learning", 2011).
    It is 0 if all members predict the same distribution, however uncertain. For numbers (`real`), the standard
    deviation over members, averaged over columns (Krogh & Vedelsby, "Neural Network Ensembles, Cross Validation, and
    Active Learning", 1995).
    """
    if space == "real":
        return np.asarray(members.std(0).mean(1))
    mean_entropy = np.mean([entropy(member, space) for member in members], axis=0)
    return np.asarray(np.maximum(entropy(members.mean(0), space) - mean_entropy, 0.0))


def _plogp(p: np.ndarray) -> np.ndarray:
    return np.asarray(-p * np.log(np.where(p > 0, p, 1.0)))
