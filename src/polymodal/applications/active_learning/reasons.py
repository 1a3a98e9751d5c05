"""Why a row is suggested, in words."""

from __future__ import annotations

from collections import Counter

import numpy as np

from polymodal.applications.active_learning.pool import Pool


def answers(pool: Pool, place: int) -> str:
    """What the model wavers between: the two likeliest classes, or the label that is nearest to one half."""
    assert pool.task is not None
    assert pool.decided is not None
    p, names = pool.decided[place], pool.task.classes
    if pool.task.space == "binary":
        label = int(np.argmin(np.abs(p - 0.5)))
        return f"{names[label]} {p[label]:.2f}"
    first, second = np.argsort(-p, kind="stable")[:2]
    return f"{names[first]} {p[first]:.2f}, {names[second]} {p[second]:.2f}"


def votes(pool: Pool, place: int) -> str:
    """What the members of an ensemble say: votes by class, or how far apart the most disputed label or number is."""
    assert pool.task is not None
    assert pool.members is not None
    each, names = pool.members[:, place], pool.task.classes
    if pool.task.space == "categorical":
        counted = Counter(names[number] for number in each.argmax(1).tolist())
        return "members say " + ", ".join(f"{name} {count}" for name, count in counted.most_common())
    disputed = int(np.argmax(np.ptp(each, axis=0)))
    low, high = each[:, disputed].min(), each[:, disputed].max()
    if pool.task.space == "binary":
        return f"members say {names[disputed]} {low:.2f} to {high:.2f}"
    return f"members are {high - low:.2f} standard deviations apart in {names[disputed]}"
