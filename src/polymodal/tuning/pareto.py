"""Candidates that no other one beats in everything."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.tuning.candidate import Candidate

#: What a candidate can be judged by; greater is better, so costs have their sign turned.
OBJECTIVES: dict[str, Callable[[Candidate], float]] = {
    "score": lambda one: one.score,
    "latency": lambda one: -np.inf if one.latency_ms is None else -one.latency_ms,
    "memory": lambda one: -np.inf if one.memory_mib is None else -one.memory_mib,
    "size": lambda one: -one.size_mib,
    "seconds": lambda one: -one.seconds,
}


def check_objectives(objectives: Sequence[str]) -> None:
    """Raises RecipeError where an objective is not known, or none is given."""
    for name in objectives:
        if name not in OBJECTIVES:
            raise RecipeError("objectives", f"there is no objective {name!r}; {did_you_mean(name, OBJECTIVES)}")
    if not objectives:
        raise RecipeError("objectives", f"name one or more of {', '.join(OBJECTIVES)}")


def pareto_front(candidates: Sequence[Candidate], objectives: Sequence[str]) -> list[Candidate]:
    """The candidates that no other is as good as in every objective and better in one; the best of the first objective
    first.

    Raises:
        RecipeError: an objective is not known.
    """
    check_objectives(objectives)
    known = [one for one in candidates if np.isfinite(one.score)]
    values = np.array([[OBJECTIVES[name](one) for name in objectives] for one in known]).reshape(len(known), -1)
    front = []
    for place, one in enumerate(known):
        beaten = (values >= values[place]).all(1) & (values > values[place]).any(1)
        if not beaten.any():
            front.append(one)
    return sorted(front, key=lambda one: -OBJECTIVES[objectives[0]](one))
