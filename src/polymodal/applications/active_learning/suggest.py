"""`suggest`: the rows of a table that are most worth a label, with a score and a reason for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from polymodal.applications.active_learning.distinct import Distinct
from polymodal.applications.active_learning.diversity import gradient_seeds, informative_clusters, k_center, top
from polymodal.applications.active_learning.pool import Pool, asked_output, make_pool
from polymodal.applications.active_learning.reasons import answers, votes
from polymodal.applications.active_learning.typical import typical
from polymodal.applications.active_learning.uncertainty import disagreement, entropy, least_confident, margin
from polymodal.core.errors import DataError, RecipeError
from polymodal.data.table.cell_errors import Fault, Faults, warn_of_faults
from polymodal.model.ensemble import Ensemble
from polymodal.model.loading import load
from polymodal.model.model import Model

By = Literal["mixed", "margin", "entropy", "least_confident", "committee", "badge", "coreset", "typical"]
#: Measures of how unsure a model is, which need probabilities.
MEASURES = {"margin": margin, "entropy": entropy, "least_confident": least_confident}
#: Strategies that look at vectors alone, so that any model serves, one without outputs too.
BY_VECTORS = ("coreset", "typical")


@dataclass(frozen=True)
class Suggestion:
    """A row of the table (counted from 0), the score of its strategy, and what it means in words."""

    row: int
    score: float
    reason: str


@dataclass(frozen=True)
class Suggestions:
    """Rows to label, the most wanted first.

    chosen: the rows; fewer than asked for where all others are near-duplicates of these
    by: the strategy
    pool, labelled, blank: rows that could be chosen, rows that have a label already, rows without any input
    alike: rows that were passed over for being almost the same as a chosen one
    faults: cells that cannot be used; their rows were passed over
    """

    chosen: list[Suggestion]
    by: By
    pool: int
    labelled: int
    blank: int
    alike: int
    faults: list[Fault]

    @property
    def rows(self) -> list[int]:
        """The row numbers alone."""
        return [one.row for one in self.chosen]

    def __iter__(self) -> Iterator[Suggestion]:
        return iter(self.chosen)

    def __len__(self) -> int:
        return len(self.chosen)


def suggest(
    model: Model | Ensemble | Path | str,
    data: Any,
    count: int = 20,
    *,
    by: By = "mixed",
    output: str | None = None,
    target: str | None = None,
    seed: int = 0,
    root: Path | str | None = None,
    strict: bool = False,
) -> Suggestions:
    """Name the rows of a table that are most worth a label.

    Rows that have their target already are passed over (coreset and typical stay away from them), and so are rows with
    a cell that cannot be used: those are in `faults`, and a `BadCellsWarning` lists them. Of near-duplicates one is
    named.

    model: a model, an ensemble, or the directory of one
    data, root, strict: the rows, as `Model.predict` takes them
    count: how many rows
    by: `mixed`: the most informative rows, one of each kind: uncertainty (of an ensemble: disagreement) with k-means.
        `margin`, `entropy`, `least_confident`: where the model is least sure. `committee`: where the members of an
        ensemble disagree. `badge`: k-means++ on gradients, both unsure and diverse. `coreset`: what is farthest from
        all labelled rows. `typical`: the middle of each cluster, for the first labels of all.
        Formulas stand in the modules of `applications.active_learning`.
    output: the output that is asked about, where there are several
    target: the column that tells which rows have a label; silent: the model's own target columns
    seed: of the draws of `badge` and of k-means

    A single model's numbers (`regress`) do not say how sure it is: `mixed` then goes by diversity alone, and strategies
    that need probabilities refuse.

    Raises:
        RecipeError: the strategy is not known or cannot serve this model, or the output is not there.
        DataError: a column is not there, no row is left to choose from, or (strict) a cell cannot be used.
    """
    if by not in get_args(By):
        raise RecipeError("by", f"there is no strategy called {by!r}: {', '.join(get_args(By))}")
    if count < 1:
        raise RecipeError("count", f"one row or more can be suggested, not {count}")
    model = load(model) if isinstance(model, Path | str) else model
    asked = _asked(model, by, output)
    table = model.open(data, root)
    faults = Faults(strict)
    pool = make_pool(model, table, faults, output=asked, target=target)
    warn_of_faults(faults.found)
    bad = len({fault.row for fault in faults.found})
    if not len(pool.rows):
        raise DataError(
            f"no row is left to suggest: {len(pool.labelled)} have a label, {bad} a cell that cannot be used, "
            f"{pool.blank} no input",
            file=table.name,
        )
    distinct = Distinct(pool.vectors)
    chosen = [
        Suggestion(int(pool.rows[place]), score, why) for place, score, why in _CHOOSE[by](pool, distinct, count, seed)
    ]
    return Suggestions(chosen, by, len(pool.rows), len(pool.labelled), pool.blank, distinct.alike, faults.found)


def _asked(model: Model | Ensemble, by: By, output: str | None) -> str | None:
    """The output that a strategy asks about, after a check that the model can serve it."""
    if by in BY_VECTORS or (by == "mixed" and not model.tasks):
        return asked_output(model, output) if output is not None else None
    if by == "committee" and not isinstance(model, Ensemble):
        raise RecipeError("by", "a committee is an ensemble: combine models that were trained apart, or choose mixed")
    if not model.tasks:
        raise RecipeError(
            "by", f"{by} asks what a model decides, and this one decides nothing: choose typical or coreset"
        )
    name = asked_output(model, output)
    if by in (*MEASURES, "badge") and not model.tasks[name].has_probabilities:
        raise RecipeError(
            "by",
            f"{by} reads probabilities, and {name!r} is a number: choose mixed or coreset, or committee of an ensemble",
        )
    return name


#: A place in the pool, its score, and the reason in words.
Choice = tuple[int, float, str]


def _by_measure(name: str) -> Callable[[Pool, Distinct, int, int], list[Choice]]:
    def choose(pool: Pool, distinct: Distinct, count: int, seed: int) -> list[Choice]:
        assert pool.task is not None
        assert pool.decided is not None
        scores = MEASURES[name](pool.decided, pool.task.space)
        return [(place, float(scores[place]), answers(pool, place)) for place in top(distinct, scores, count)]

    return choose


def _committee(pool: Pool, distinct: Distinct, count: int, seed: int) -> list[Choice]:
    assert pool.task is not None
    assert pool.members is not None
    scores = disagreement(pool.members, pool.task.space)
    return [(place, float(scores[place]), votes(pool, place)) for place in top(distinct, scores, count)]


def _badge(pool: Pool, distinct: Distinct, count: int, seed: int) -> list[Choice]:
    assert pool.task is not None
    assert pool.decided is not None
    answer = pool.decided >= 0.5
    if pool.task.space == "categorical":
        answer = pool.decided == pool.decided.max(1, keepdims=True)
    chosen = gradient_seeds(distinct, pool.decided - answer, count, np.random.default_rng(seed))
    return [(place, score, f"{answers(pool, place)}; unlike the rows before it") for place, score in chosen]


def _coreset(pool: Pool, distinct: Distinct, count: int, seed: int) -> list[Choice]:
    found = []
    for place, distance in k_center(distinct, pool.labelled, count):
        why = f"{distance:.3g} from the nearest row that is labelled or named before it"
        found.append((place, distance, why if np.isfinite(distance) else "the middle of all rows"))
    return found


def _typical(pool: Pool, distinct: Distinct, count: int, seed: int) -> list[Choice]:
    chosen = typical(distinct, pool.labelled, count, seed)
    return [(place, score, f"the most typical of a cluster of {size} rows") for place, score, size in chosen]


def _mixed(pool: Pool, distinct: Distinct, count: int, seed: int) -> list[Choice]:
    if pool.members is not None and pool.task is not None:
        scores, why = disagreement(pool.members, pool.task.space), votes
    elif pool.decided is not None and pool.task is not None and pool.task.has_probabilities:
        scores, why = margin(pool.decided, pool.task.space), answers
    else:
        scores, why = np.ones(len(pool.rows)), _one_of_a_kind
    places = informative_clusters(distinct, scores, count, seed)
    return [(place, float(scores[place]), why(pool, place)) for place in places]


def _one_of_a_kind(pool: Pool, place: int) -> str:
    return "one of its kind; nothing says how sure the model is"


_CHOOSE: dict[str, Callable[[Pool, Distinct, int, int], list[Choice]]] = {
    **{name: _by_measure(name) for name in MEASURES},
    "committee": _committee,
    "badge": _badge,
    "coreset": _coreset,
    "typical": _typical,
    "mixed": _mixed,
}
