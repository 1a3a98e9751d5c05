"""Permutation importance: how much worse a model predicts if the cells of a column are exchanged between rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from polymodal.core.html_table import html_table
from polymodal.data.partition import Split
from polymodal.data.store.items import PreparedInput
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.evaluation.scores import score_metric
from polymodal.evaluation.targets import OutputTargets
from polymodal.inference.ensemble_predictor import PredictsSplits
from polymodal.modalities.base import Modality
from polymodal.preparation.preparation import PreparedTable


@dataclass(frozen=True)
class ColumnImportance:
    """The importance of one column.

    column, input: the column, and the input that reads it
    importance: how much worse the score is, in the mean over the permutations; about 0 if the model does not use it
    standard_deviation: of the permutations
    """

    column: str
    input: str
    importance: float
    standard_deviation: float


class FeatureImportance(list[ColumnImportance]):
    """The columns, the most important first. A notebook shows a table; `pandas.DataFrame(importance)` is a frame.

    metric: the name of the metric
    score: the score of the unchanged rows
    """

    def __init__(self, columns: list[ColumnImportance], metric: str, score: float) -> None:
        super().__init__(sorted(columns, key=lambda one: -one.importance))
        self.metric, self.score = metric, score

    def _repr_html_(self) -> str:
        rows = [[one.column, one.input, f"{one.importance:.3g} ± {one.standard_deviation:.1g}"] for one in self]
        return html_table(rows, ["column", "input", f"loss of {self.metric}"])


def feature_importance(
    predictor: PredictsSplits,
    split: Split[PreparedTable],
    cells: Callable[[list[str]], RowBlock],
    output: str,
    *,
    num_repeats: int,
    seed: int,
) -> FeatureImportance:
    """The permutation importance of every column for the first metric of an output (Breiman, "Random Forests", 2001,
    section 10; Fisher, Rudin and Dominici, "All Models are Wrong, but Many are Useful", 2019).

    A column that tells the same as another one seems less important than it is: the model reads the other one.

    split: all rows of a table
    cells: the cells of some columns in these rows
    """
    task, targets = predictor.preparation.tasks[output], OutputTargets.of(split, output)
    metric = task.metrics[0]

    def score(inputs: dict[str, PreparedInput]) -> float:
        table = replace(split.table, inputs=split.table.inputs | inputs)
        values = predictor.predict(Split(table, split.rows))[output].values
        return float(score_metric(metric, task, task.distribution(values), targets))

    unchanged, sign = score({}), 1.0 if metric.greater_is_better else -1.0
    found: list[ColumnImportance] = []
    for name, modality in predictor.preparation.modalities.items():
        block = cells(modality.columns) if len(modality.columns) > 1 else None
        for column in modality.columns:
            draw = np.random.default_rng([seed, len(found)])
            orders = [draw.permutation(len(split.rows)) for _ in range(num_repeats)]
            changed = (_permuted(modality, split.table.inputs[name], block, column, order) for order in orders)
            losses = [sign * (unchanged - score({name: one})) for one in changed]
            found.append(ColumnImportance(column, name, float(np.mean(losses)), float(np.std(losses, ddof=1))))
    return FeatureImportance(found, metric.name, unchanged)


def _permuted(
    modality: Modality, prepared: PreparedInput, block: RowBlock | None, column: str, order: np.ndarray
) -> PreparedInput:
    """The input with the cells of one column in another order; its items are not prepared again if it has only one."""
    if block is None:
        return replace(prepared, index=prepared.index[order])
    cells = block.cells(column)
    columns = {**block.columns, column: [cells[row] for row in order]}
    return modality.prepare(replace(block, columns=columns, errors=CellErrors()))
