"""The Pareto front of the candidates of a search."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.tuning.candidate import Candidate

#: Objectives of a search. Greater is better, so costs are negated.
OBJECTIVES: dict[str, Callable[[Candidate], float]] = {
    "score": lambda candidate: candidate.score,
    "latency": lambda candidate: -np.inf if candidate.latency_ms is None else -candidate.latency_ms,
    "memory": lambda candidate: -np.inf if candidate.memory_mib is None else -candidate.memory_mib,
    "size": lambda candidate: -candidate.size_mib,
    "seconds": lambda candidate: -candidate.seconds,
}


def check_objectives(objectives: Sequence[str]) -> None:
    """Raise RecipeError if an objective is unknown, or none is given."""
    for name in objectives:
        if name not in OBJECTIVES:
            raise RecipeError("optimize", f"unknown objective {name!r}; {did_you_mean(name, OBJECTIVES)}")
    if not objectives:
        raise RecipeError("optimize", f"give at least one of {', '.join(OBJECTIVES)}")


def pareto_front(candidates: Sequence[Candidate], objectives: Sequence[str]) -> list[Candidate]:
    """The candidates that are not dominated by another candidate, sorted by the first objective, best first.

    Raises:
        RecipeError: an objective is unknown.
    """
    check_objectives(objectives)
    scored = [candidate for candidate in candidates if np.isfinite(candidate.score)]
    values = np.array([[OBJECTIVES[name](candidate) for name in objectives] for candidate in scored]).reshape(
        len(scored), -1
    )
    front = []
    for index, candidate in enumerate(scored):
        dominates = (values >= values[index]).all(1) & (values > values[index]).any(1)
        if not dominates.any():
            front.append(candidate)
    return sorted(front, key=lambda candidate: -OBJECTIVES[objectives[0]](candidate))
