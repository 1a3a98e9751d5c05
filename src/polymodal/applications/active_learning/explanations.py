"""Short texts that explain why a row was suggested."""

from __future__ import annotations

from collections import Counter

import numpy as np

from polymodal.applications.active_learning.pool import Pool


def explain_prediction(pool: Pool, index: int) -> str:
    """The two most probable classes, or the label whose probability is nearest to 0.5."""
    assert pool.task is not None
    assert pool.predictions is not None
    p, names = pool.predictions[index], pool.task.classes
    if pool.task.space == "binary":
        label = int(np.argmin(np.abs(p - 0.5)))
        return f"{names[label]} {p[label]:.2f}"
    first, second = np.argsort(-p, kind="stable")[:2]
    return f"{names[first]} {p[first]:.2f}, {names[second]} {p[second]:.2f}"


def explain_votes(pool: Pool, index: int) -> str:
    """The votes of the ensemble members by class, or the range of the label or number on which they differ most."""
    assert pool.task is not None
    assert pool.member_predictions is not None
    each, names = pool.member_predictions[:, index], pool.task.classes
    if pool.task.space == "categorical":
        votes = Counter(names[number] for number in each.argmax(1).tolist())
        return "members predict " + ", ".join(f"{name} {count}" for name, count in votes.most_common())
    column = int(np.argmax(np.ptp(each, axis=0)))
    low, high = each[:, column].min(), each[:, column].max()
    if pool.task.space == "binary":
        return f"members predict {names[column]} {low:.2f} to {high:.2f}"
    return f"members differ by {high - low:.2f} standard deviations in {names[column]}"
