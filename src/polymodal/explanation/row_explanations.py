"""Explanations of rows: the scores of the parts of one input, and how far to trust them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import PIL.Image

from polymodal.data.table.block import RowBlock
from polymodal.explanation.explained_value import ExplainedValue, Scale
from polymodal.explanation.faithfulness import (
    Faithfulness,
    GainOverRandom,
    gains_over_random,
    judging_subsets,
    measure_faithfulness,
)
from polymodal.explanation.methods.gradients import gradient_x_input, integrated_gradients
from polymodal.explanation.methods.part_scores import (
    PartScores,
    occlusion,
    occlusion_subsets,
    part_shapley_subsets,
    part_shapley_values,
)
from polymodal.explanation.part_value import PartValue, Wanted, predict_together
from polymodal.explanation.parts.base import Parts
from polymodal.explanation.parts.make_parts import make_parts

if TYPE_CHECKING:
    from polymodal.inference.ensemble_predictor import PredictsSplits

Method = Literal["occlusion", "shapley", "integrated_gradients", "gradient_x_input"]
METHODS: dict[str, Callable[[PartValue], PartScores]] = {
    "occlusion": occlusion,
    "shapley": part_shapley_values,
    "integrated_gradients": integrated_gradients,
    "gradient_x_input": gradient_x_input,
}
#: The subsets of parts that a method reads, `[n, parts]` bool, by the number of parts.
SUBSETS: dict[str, Callable[[int], np.ndarray]] = {"occlusion": occlusion_subsets, "shapley": part_shapley_subsets}


@dataclass(frozen=True)
class Explanation:
    """How much each part of one input contributes to the prediction of one row.

    row: the number of the row in the table
    target: the explained class, label or column
    labels: the name of each part: a word, a column, a span of seconds, a step, a region
    scores: one signed number for each part, on the scale of the explanations. Their shape by modality: image
        `[rows of regions, columns of regions]`; text `[words]`; audio `[spans]`; time series `[spans, channels]`;
        numbers, categories and dates `[columns]`. In C order, the parts are those of `labels`
    standard_errors: of the same shape, of sampled scores; None if they are exact
    predicted: the prediction with all parts
    empty: the prediction from which the scores start: that without any part, and for gradients that of a blank item
    faithfulness: under two imputations; under one if there is no other row with the input. Empty for a single part
    num_predictions: the number of predictions of edited rows, without those that measured the faithfulness
    seconds: the time of the scores, of rows that are computed together in equal parts
    modality: of the input
    preview: an image of the item on which scores can be drawn; None for words and columns
    """

    row: int
    target: Any
    labels: tuple[str, ...]
    scores: np.ndarray
    standard_errors: np.ndarray | None
    predicted: float
    empty: float
    faithfulness: tuple[Faithfulness, ...]
    num_predictions: int
    seconds: float
    modality: str
    preview: PIL.Image.Image | None = field(default=None, repr=False)

    @property
    def completeness_gap(self) -> float:
        """The difference between the sum of the scores and `predicted - empty`; 0 if the scores explain all of the
        prediction."""
        return float(abs(self.scores.sum() - self.predicted + self.empty))

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The parts with the largest scores in size, with their scores."""
        flat = self.scores.reshape(-1)
        order = np.argsort(-np.abs(flat), kind="stable")[:count]
        return [(self.labels[at], float(flat[at])) for at in order]


@dataclass(frozen=True)
class Explanations:
    """The explanations of the rows of a table that have the input.

    gains: how much better than random orders the scores order the parts, under each imputation
    notes: where the scores should be read with care, one sentence each
    """

    input: str
    method: Method
    output: str
    scale: Scale
    rows: tuple[Explanation, ...]
    gains: tuple[GainOverRandom, ...]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Explanation]:
        return iter(self.rows)

    def __getitem__(self, position: int) -> Explanation:
        return self.rows[position]


def explain_blocks(
    predictor: PredictsSplits, blocks: Iterable[RowBlock], input: str, method: Method, explained: ExplainedValue
) -> Explanations:
    """The explanations of the rows of several blocks; see `Explanation`."""
    rows: list[Explanation] = []
    for block in blocks:
        rows += _explain_block(predictor, block, input, method, explained)
    gains = tuple(gains_over_random([one.faithfulness for one in rows]))
    return Explanations(
        input, method, explained.output, explained.scale, tuple(rows), gains, tuple(_notes(method, gains))
    )


#: Rows that are explained together: their edited rows are predicted at once.
ROWS_TOGETHER = 16


class _Explained(NamedTuple):
    """A row that is explained: its predictions, its number in the table, and the parts of another row."""

    value: PartValue
    number: int
    donor: Parts | None


def _explain_block(
    predictor: PredictsSplits, block: RowBlock, input: str, method: Method, explained: ExplainedValue
) -> list[Explanation]:
    preparation = predictor.preparation
    prepared = preparation.prepare_block(block)
    parts = make_parts(input, preparation.modalities[input], block, prepared.inputs[input])
    known = [row for row, one in enumerate(parts) if one is not None]
    rows = []
    for position, row in enumerate(known):
        own, donor = parts[row], parts[known[(position + 1) % len(known)]]
        assert own is not None
        value = PartValue(predictor, explained, prepared.inputs, row, input, own)
        rows.append(_Explained(value, int(block.rows[row]), donor if len(known) > 1 else None))
    together = [rows[start : start + ROWS_TOGETHER] for start in range(0, len(rows), ROWS_TOGETHER)]
    return [one for some in together for one in _explain(some, method)]


def _explain(rows: Sequence[_Explained], method: Method) -> list[Explanation]:
    """The explanations of some rows, whose edited rows are predicted together: first those that the method reads, then
    those that judge it."""
    started = time.perf_counter()
    predict_together([Wanted(one.value, subsets) for one in rows for subsets in _subsets(method, len(one.value.parts))])
    scored = [METHODS[method](one.value) for one in rows]
    counts = [one.value.num_predictions for one in rows]
    seconds = (time.perf_counter() - started) / len(rows)
    judged = [(one, found) for one, found in zip(rows, scored, strict=True) if len(one.value.parts) > 1]
    wanted = []
    for one, found in judged:
        subsets = judging_subsets(found.values)
        wanted += [Wanted(one.value, subsets)] + ([] if one.donor is None else [Wanted(one.value, subsets, one.donor)])
    predict_together(wanted)
    return [_explanation(one, found, count, seconds) for one, found, count in zip(rows, scored, counts, strict=True)]


def _subsets(method: Method, count: int) -> list[np.ndarray]:
    """The subsets of `count` parts, `[n, parts]` bool each, that a method reads, with all parts and without any."""
    both = np.array([[True], [False]]).repeat(count, axis=1)
    if method not in SUBSETS:
        return [both]
    return [both, SUBSETS[method](count)]


def _explanation(row: _Explained, scored: PartScores, num_predictions: int, seconds: float) -> Explanation:
    """The explanation of one row, after its predictions were computed."""
    value = row.value
    predicted, without = value(np.array([[True], [False]]).repeat(len(value.parts), axis=1))
    faithfulness: list[Faithfulness] = []
    if len(value.parts) > 1:
        faithfulness.append(measure_faithfulness(value, scored.values, "blank"))
        if row.donor is not None:
            faithfulness.append(measure_faithfulness(partial(value, donor=row.donor), scored.values, "other_row"))
    shape, errors = value.parts.shape, scored.standard_errors
    return Explanation(
        row=row.number,
        target=value.explained.task.class_labels[value.position],
        labels=value.parts.labels,
        scores=scored.values.reshape(shape),
        standard_errors=None if errors is None else errors.reshape(shape),
        predicted=float(predicted),
        empty=float(without) if scored.blank is None else scored.blank,
        faithfulness=tuple(faithfulness),
        num_predictions=num_predictions,
        seconds=seconds,
        modality=value.predictor.preparation.modalities[value.input].options.name,
        preview=value.parts.preview,
    )


def _notes(method: Method, gains: Iterable[GainOverRandom]) -> list[str]:
    """A sentence for each imputation under which the method is no better than a random order."""
    ways = {"blank": "removed", "other_row": "replaced by those of another row"}
    return [
        f"{method} is no better than a random order of the parts on this model and these rows, where parts are "
        f"{ways[one.imputation]}: gain {one.mean:.3g} with a standard error of {one.standard_error:.2g}."
        for one in gains
        if one.better is False
    ]
