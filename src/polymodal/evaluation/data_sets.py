"""Scores of each data set in a table of several data sets."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from polymodal.core.record import RECORD_CONFIG
from polymodal.data.partition import Split
from polymodal.evaluation.scores import Score, score_output
from polymodal.inference.predictions import Predictions
from polymodal.preparation.preparation import PreparedTable
from polymodal.recipe.evaluation import EvaluationOptions
from polymodal.tasks.base import Task


@dataclass(frozen=True, config=RECORD_CONFIG)
class DataSetScores:
    """The number of rows of a data set with the target, and their scores by metric."""

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
        value, present = prepared.targets[output]
        known = present[rows]
        having = [number for number in range(len(names)) if (known & (of == number)).any()]
        if len(having) < 2:
            continue
        distribution, found[output] = task.distribution(predictions[output].values), {}
        for number in having:
            own = known & (of == number)
            scores = score_output(
                task,
                distribution[own],
                value[rows[own]],
                present[rows[own]],
                None if prepared.weight is None else prepared.weight[rows[own]],
                options,
                seed=seed,
                groups=None if prepared.groups is None else prepared.groups[rows[own]],
            )
            found[output][names[number]] = DataSetScores(int(own.sum()), scores)
    return found
