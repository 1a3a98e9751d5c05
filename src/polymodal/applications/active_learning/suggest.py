"""`suggest`: choose the rows of a table to label next, with a score and a reason for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from polymodal.applications.active_learning.diversity import badge_seeds, k_center_greedy, top_scores, weighted_k_means
from polymodal.applications.active_learning.duplicate_filter import DuplicateFilter
from polymodal.applications.active_learning.explanations import explain_prediction, explain_votes
from polymodal.applications.active_learning.pool import Pool, committee_outputs, make_pool, resolve_output
from polymodal.applications.active_learning.typiclust import typiclust
from polymodal.applications.active_learning.uncertainty import disagreement, entropy, least_confident, margin
from polymodal.core.argument_types import check_arguments, short
from polymodal.core.errors import DataError, RecipeError
from polymodal.core.formatting import count_noun
from polymodal.data.table.cell_errors import CellError, CellErrors, warn_cell_errors
from polymodal.model.ensemble import Ensemble
from polymodal.model.loading import load
from polymodal.model.model import Model

Strategy = Literal["mixed", "margin", "entropy", "least_confident", "committee", "badge", "coreset", "typical"]
#: Seeds of k-means are below this number.
MAX_SEED = 2**32
#: Uncertainty measures, which need probabilities.
MEASURES = {"margin": margin, "entropy": entropy, "least_confident": least_confident}
#: Strategies that use only feature vectors, so that they also work with a model without outputs.
FEATURE_STRATEGIES = ("coreset", "typical")


@dataclass(frozen=True)
class Suggestion:
    """A row of the table (counted from 0), its score by the strategy, and the reason as a text."""

    row: int
    score: float
    reason: str


@dataclass(frozen=True)
class Suggestions:
    """Rows to label, best first.

    suggestions: the rows; fewer than requested if all other rows are near-duplicates of these
    strategy: the strategy that chose them
    pool_size, num_labeled, num_empty: number of rows that could be chosen, that already have a label, that have no
        input
    num_duplicates: number of rows that were skipped as near-duplicates of a chosen row
    cell_errors: cells that cannot be used; their rows were skipped
    """

    suggestions: list[Suggestion]
    strategy: Strategy
    pool_size: int
    num_labeled: int
    num_empty: int
    num_duplicates: int
    cell_errors: list[CellError]

    @property
    def rows(self) -> list[int]:
        """The row numbers."""
        return [suggestion.row for suggestion in self.suggestions]

    def __iter__(self) -> Iterator[Suggestion]:
        return iter(self.suggestions)

    def __len__(self) -> int:
        return len(self.suggestions)


@check_arguments
def suggest(
    model: Model | Ensemble | Path | str,
    data: Any,
    count: int = 20,
    *,
    strategy: Strategy = "mixed",
    output: str | None = None,
    target: str | None = None,
    seed: int = 0,
    root: Path | str | None = None,
    strict: bool = False,
) -> Suggestions:
    """Choose the rows of a table to label next (active learning).

    Rows that already have a label are not suggested; coreset and typical choose rows far from them. Rows with a cell
    that cannot be used are skipped, listed in `cell_errors` and reported by a `BadCellsWarning`. Only one row of a
    group of near-duplicates is suggested.

    model: a model, an ensemble, or the directory of one
    data, root, strict: the rows, as in `Model.predict`
    count: number of rows to suggest
    strategy: `mixed`: informative and diverse rows, by uncertainty and k-means; for an ensemble, and for numbers that
        several members predict, by disagreement. `margin`, `entropy`, `least_confident`: the rows with the highest
        uncertainty. `committee`: the rows on which the members of an ensemble, or of a model that combines members,
        disagree most. `badge`: uncertain and diverse rows, by k-means++ on gradients.
        `coreset`: the rows that are farthest from all labeled rows. `typical`: the most typical row of each cluster,
        for the first labels. The modules of `applications.active_learning` give the formulas.
    output: the output that the strategy uses, if there are several
    target: rows with a value in this column are labeled; default: the target columns of the model
    seed: seed of `badge` and of k-means

    A regression by a single member has no uncertainty. `mixed` then chooses by diversity only, and strategies that need
    probabilities raise an error.

    Raises:
        RecipeError: the strategy is unknown or does not support this model, or the model has no such output.
        DataError: a column is missing, no row is left to choose from, or (strict) a cell cannot be used.
    """
    if strategy not in get_args(Strategy):
        raise RecipeError("strategy", f"unknown strategy {strategy!r}: {', '.join(get_args(Strategy))}")
    if count < 1:
        raise RecipeError("count", f"must be at least 1, not {count}")
    if not 0 <= seed < MAX_SEED:
        raise RecipeError("seed", f"must be from 0 to {MAX_SEED - 1}, not {short(seed)}")
    model = load(model) if isinstance(model, Path | str) else model
    used_output = _strategy_output(model, strategy, output)
    table = model.open(data, root)
    cell_errors = CellErrors(strict)
    pool = make_pool(model, table, cell_errors, output=used_output, target=target)
    warn_cell_errors(cell_errors.errors)
    bad = len({error.row for error in cell_errors.errors})
    if not len(pool.rows):
        raise DataError(
            f"no row is left to suggest: {count_noun(len(pool.labeled_features), 'row')} with a label, {bad} with a "
            f"cell that cannot be used, {pool.num_empty} without an input",
            file=table.name,
        )
    duplicate_filter = DuplicateFilter(pool.features)
    chosen = [
        Suggestion(int(pool.rows[index]), score, reason)
        for index, score, reason in _SELECTORS[strategy](pool, duplicate_filter, count, seed)
    ]
    return Suggestions(
        chosen,
        strategy,
        len(pool.rows),
        len(pool.labeled_features),
        pool.num_empty,
        duplicate_filter.num_duplicates,
        cell_errors.errors,
    )


def _strategy_output(model: Model | Ensemble, strategy: Strategy, output: str | None) -> str | None:
    """The output that a strategy uses, after a check that the strategy supports the model."""
    if strategy in FEATURE_STRATEGIES or (strategy == "mixed" and not model.tasks):
        return resolve_output(model, output) if output is not None else None
    several = isinstance(model, Ensemble) or bool(committee_outputs(model))
    if strategy == "committee" and not several:
        raise RecipeError(
            "strategy",
            "committee needs several members that predict together: combine separately trained models, or choose mixed",
        )
    if not model.tasks:
        raise RecipeError(
            "strategy", f"{strategy} needs predictions, and this model has no outputs: choose typical or coreset"
        )
    name = resolve_output(model, output)
    if strategy == "committee" and isinstance(model, Model) and name not in committee_outputs(model):
        raise RecipeError("output", f"a single member predicts {name!r}, and committee needs several: choose mixed")
    if strategy in (*MEASURES, "badge") and not model.tasks[name].has_probabilities:
        raise RecipeError(
            "strategy",
            f"{strategy} needs probabilities, and the output {name!r} is a number: choose mixed or coreset, or "
            "committee with an ensemble",
        )
    return name


#: An index into the pool, its score, and the reason.
Selected = tuple[int, float, str]


def _by_measure(name: str) -> Callable[[Pool, DuplicateFilter, int, int], list[Selected]]:
    def choose(pool: Pool, duplicate_filter: DuplicateFilter, count: int, seed: int) -> list[Selected]:
        assert pool.task is not None
        assert pool.predictions is not None
        scores = MEASURES[name](pool.predictions, pool.task.space)
        return [
            (index, float(scores[index]), explain_prediction(pool, index))
            for index in top_scores(duplicate_filter, scores, count)
        ]

    return choose


def _committee(pool: Pool, duplicate_filter: DuplicateFilter, count: int, seed: int) -> list[Selected]:
    assert pool.task is not None
    assert pool.member_predictions is not None
    scores = disagreement(pool.member_predictions, pool.task.space)
    return [
        (index, float(scores[index]), explain_votes(pool, index))
        for index in top_scores(duplicate_filter, scores, count)
    ]


def _badge(pool: Pool, duplicate_filter: DuplicateFilter, count: int, seed: int) -> list[Selected]:
    assert pool.task is not None
    assert pool.predictions is not None
    labels = pool.predictions >= 0.5
    if pool.task.space == "categorical":
        labels = pool.predictions == pool.predictions.max(1, keepdims=True)
    chosen = badge_seeds(duplicate_filter, pool.predictions - labels, count, np.random.default_rng(seed))
    return [
        (index, score, f"{explain_prediction(pool, index)}; differs from the rows before it") for index, score in chosen
    ]


def _coreset(pool: Pool, duplicate_filter: DuplicateFilter, count: int, seed: int) -> list[Selected]:
    selected = []
    for index, distance in k_center_greedy(duplicate_filter, pool.labeled_features, count):
        reason = f"{distance:.3g} from the nearest labeled or suggested row"
        selected.append((index, distance, reason if np.isfinite(distance) else "nearest to the mean of all rows"))
    return selected


def _typical(pool: Pool, duplicate_filter: DuplicateFilter, count: int, seed: int) -> list[Selected]:
    chosen = typiclust(duplicate_filter, pool.labeled_features, count, seed)
    return [(index, score, f"most typical of a cluster of {size} rows") for index, score, size in chosen]


def _mixed(pool: Pool, duplicate_filter: DuplicateFilter, count: int, seed: int) -> list[Selected]:
    is_committee = pool.task is not None and (pool.num_models > 1 or pool.task.space == "real")
    if is_committee and pool.member_predictions is not None and pool.task is not None:
        scores, reason = disagreement(pool.member_predictions, pool.task.space), explain_votes
    elif pool.predictions is not None and pool.task is not None and pool.task.has_probabilities:
        scores, reason = margin(pool.predictions, pool.task.space), explain_prediction
    else:
        scores, reason = np.ones(len(pool.rows)), _no_uncertainty
    indices = weighted_k_means(duplicate_filter, scores, count, seed)
    return [(index, float(scores[index]), reason(pool, index)) for index in indices]


def _no_uncertainty(pool: Pool, index: int) -> str:
    return "representative of a cluster; the model gives no uncertainty"


_SELECTORS: dict[str, Callable[[Pool, DuplicateFilter, int, int], list[Selected]]] = {
    **{name: _by_measure(name) for name in MEASURES},
    "committee": _committee,
    "badge": _badge,
    "coreset": _coreset,
    "typical": _typical,
    "mixed": _mixed,
}
