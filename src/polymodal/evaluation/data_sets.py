"""Scores of each data set in a table of several data sets."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from polymodal.core.record import RECORD_CONFIG
from polymodal.data.partition import Split
from polymodal.evaluation.scores import Score, score_output
from polymodal.evaluation.targets import OutputTargets
from polymodal.inference.predictions import Predictions
from polymodal.preparation.preparation import PreparedTable
from polymodal.recipe.evaluation import EvaluationOptions
from polymodal.tasks.base import Task


@dataclass(frozen=True, config=RECORD_CONFIG)
class DataSetScores:
    """The number of scored rows of a data set, and their scores by metric."""

    rows: int
    scores: dict[str, Score]


#: The scores by output and data set.
ByDataSet = dict[str, dict[str, DataSetScores]]


def score_data_sets(
    tasks: dict[str, Task],
    predictions: dict[str, Predictions],
    split: Split[PreparedTable],
    names: tuple[str, ...],
    options: EvaluationOptions,
    *,
    seed: int,
) -> ByDataSet:
    """Every metric of every output in each data set that has its target.

    Outputs whose target is in only one data set are left out, because their scores equal those of all rows.

    names: names of the data sets; for the other arguments, see `score_predictions`
    """
    found: ByDataSet = {}
    prepared, rows = split.table, split.rows
    if prepared.data_set is None:
        return found
    of = prepared.data_set[rows]
    for output, task in tasks.items():
        targets = OutputTargets.of(split, output)
        having = [number for number in range(len(names)) if (targets.present & (of == number)).any()]
        if len(having) < 2:
            continue
        distribution, found[output] = task.distribution(predictions[output].values), {}
        for number in having:
            own = of == number
            scores = score_output(task, distribution[own], targets.select(own), options, seed=seed)
            found[output][names[number]] = DataSetScores(targets.select(own).counts(task).rows, scores)
    return found
