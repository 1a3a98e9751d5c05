"""How unsure a model is of each row, from its probabilities.

Each measure lies between 0 (sure) and 1 (as unsure as can be). For exclusive classes (`categorical`) it looks at the
whole distribution of a row; for independent labels (`binary`) it is the mean over labels, each a distribution of two
outcomes. The three measures are those of Settles, "Active Learning Literature Survey" (2009), section 3.1, scaled.
"""

from __future__ import annotations

import numpy as np

from polymodal.core.types import Space


def margin(probabilities: np.ndarray, space: Space) -> np.ndarray:
    """1 - (p_1 - p_2), the likeliest two classes of `probabilities [rows, k]` (Scheffer et al., "Active Hidden Markov
    Models for Information Extraction", 2001); of a label 1 - |2 p - 1|. `[rows]`."""
    if space == "binary":
        return np.asarray((1 - np.abs(2 * probabilities - 1)).mean(1))
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    return np.asarray(1 - (first - second))


def entropy(probabilities: np.ndarray, space: Space) -> np.ndarray:
    """-sum_c p_c log p_c / log k of `probabilities [rows, k]`; of a label the same with k = 2. `[rows]`."""
    if space == "binary":
        return np.asarray((_plogp(probabilities) + _plogp(1 - probabilities)).mean(1) / np.log(2))
    return np.asarray(_plogp(probabilities).sum(1) / np.log(probabilities.shape[1]))


def least_confident(probabilities: np.ndarray, space: Space) -> np.ndarray:
    """(1 - max_c p_c) k / (k - 1) of `probabilities [rows, k]`; of a label the same with k = 2. `[rows]`."""
    if space == "binary":
        return np.asarray(2 * np.minimum(probabilities, 1 - probabilities).mean(1))
    count = probabilities.shape[1]
    return np.asarray((1 - probabilities.max(1)) * count / (count - 1))


def disagreement(members: np.ndarray, space: Space) -> np.ndarray:
    """How far the members of a committee disagree in each row of `members [members, rows, k]`, `[rows]`.

    For probabilities the mutual information of the answer and the member, H(mean_m p_m) - mean_m H(p_m), scaled as
    `entropy` (Houlsby et al., "Bayesian Active Learning for Classification and Preference Learning", 2011): members
    that are each unsure but of one mind count for nothing. For numbers (`real`) the standard deviation over members,
    mean over columns (Krogh & Vedelsby, "Neural Network Ensembles, Cross Validation, and Active Learning", 1995).
    """
    if space == "real":
        return np.asarray(members.std(0).mean(1))
    each = np.mean([entropy(one, space) for one in members], axis=0)
    return np.asarray(np.maximum(entropy(members.mean(0), space) - each, 0.0))


def _plogp(p: np.ndarray) -> np.ndarray:
    return np.asarray(-p * np.log(np.where(p > 0, p, 1.0)))
