"""Events in time: what happens from when to when in a sound, a clip or a series."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from polymodal.core.errors import DataError, RecipeError
from polymodal.core.registry import register
from polymodal.core.types import TimeGrid, Space
from polymodal.data.table.block import RowBlock
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.metrics import events as scores
from polymodal.metrics.base import Metric
from polymodal.metrics.events import EventCounts, Events, SegmentCounts
from polymodal.tasks.base import Task, TaskOptions
from polymodal.tasks.labels import LabelVocabulary, first_problem, label_key, label_text, parse_cells, summarize_labels
from polymodal.tasks.event_timeline import event_coverage, decode_events, events_from_coverage
from polymodal.tasks.event_cells import EventSpan, silences_between, read_event_spans

#: Most cells of a timeline whose resolution is not said, and of any timeline.
USUAL_CELLS, MOST_CELLS = 2_000, 20_000
#: Shortest cell that is chosen without being asked for, in seconds.
FINEST = 0.01
#: A timeline that is not said reaches this much beyond the latest event of the training rows.
MARGIN = 1.05


@register
class EventDetectionTask(Task):
    """Events with start, end and label, any number in a row, decided on a timeline of equal cells.

    A cell of the table is a list of events such as `{"start": 0.5, "end": 1.25, "label": "dog"}` (seconds), or the
    same as JSON text. An empty list means that nothing happens; null is a gap. Events of one label that overlap are
    one event. An event that cannot be read, ends beyond the timeline, or has a label that training never saw makes
    the whole list a fault and a gap.

    Prepared, an event is the share s of each cell that it covers, so that its ends are kept inside cells (see
    `tasks.segments.events_from_coverage`). The loss of a row is the mean over cells and labels of the binary cross-entropy

        -(1 / k) sum_c [s_c log p_c + (1 - s_c) log(1 - p_c)]

    whose minimum is p = s: a probability says how much of its cell is covered, and the answer reads the ends of
    events from it. Scores: Mesaros, Heittola and Virtanen, "Metrics for Polyphonic Sound Event Detection", 2016.
    """

    class Options(TaskOptions):
        name: Literal["spans"] = "spans"
        seconds: float | None = Field(default=None, gt=0)
        """Length of the timeline. Silent: 5 % more than the latest end of an event in the training rows."""
        resolution: float | None = Field(default=None, gt=0)
        """Seconds of a cell. Silent: a tenth of the median event of the training rows, at least 0.01, and so
        that there are at most 2,000 cells."""
        threshold: float = Field(default=0.5, gt=0, lt=1)
        """Probability from which a cell belongs to an event."""
        smooth: float = Field(default=0.0, ge=0)
        """Seconds of the median filter over probabilities, before events are read from them; 0 filters nothing."""
        shortest: float | None = Field(default=None, ge=0)
        """Found events of fewer seconds are dropped. Silent: half of what 95 % of the training events exceed."""
        gap: float | None = Field(default=None, ge=0)
        """Found events of one label with fewer seconds between them are merged. Silent: half of what 95 % of such
        gaps in the training rows exceed, at most `shortest`."""
        segment: float | None = Field(default=None, gt=0)
        """Seconds of the segments that the segment scores count. Silent: 1, but not more than the median event of
        the training rows, nor less than a cell."""
        collar: float | None = Field(default=None, gt=0)
        """Seconds by which the start of a found event may miss the true one in the event scores; its end may miss by
        as much or a fifth of the event. Silent: 0.2, but not less than a cell."""

    space: ClassVar[Space] = "binary"
    default_decoder: ClassVar[str] = "timeline"
    needs_timestamps: ClassVar[bool] = True
    options: Options

    def __init__(self, options: Options, *, columns: list[str]) -> None:
        super().__init__(options, columns=columns)
        if len(columns) != 1:
            raise RecipeError("columns", f"a spans output reads one column, not {len(columns)}: {columns}")

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        count = 0
        for cell in sample.values:
            try:
                count += len(read_event_spans(cell))
            except ValueError:
                return None
        return Match(0.95, f"lists of events, {count:,} in {len(sample.values):,} sampled cells") if count else None

    def fit(self, blocks: Iterable[RowBlock]) -> None:
        column = self.columns[0]
        problems: list[str] = []
        rows = list(parse_cells(blocks, column, read_event_spans, problems))
        limit = math.inf if self.options.seconds is None else self.options.seconds
        inside = [spans for spans in rows if all(end <= limit + 1e-6 for _, end, _ in spans)]
        found = [span for spans in inside for span in spans]
        if not found:
            late = f" that ends before {limit:g} s (the option `seconds`)" if any(rows) else ""
            raise DataError(f"the training rows hold no event{late}{first_problem(problems)}", column=column)
        self.labels = LabelVocabulary({label_key(label): label for _, _, label in found}.values())
        self._choose_times(inside, found)
        total = np.zeros((self.grid.frames, len(self.labels)))
        for spans in inside:
            total += self._cover(spans)
        self._take(total.ravel() / len(inside))
        counts = Counter(label_key(label) for _, _, label in found)
        single = [label for label in self.labels.values if counts[label_key(label)] == 1]
        self._notes += summarize_labels(single, "{!r} happens once in the training rows", "{} labels happen once, {!r} among them")

    def _choose_times(self, rows: list[list[EventSpan]], found: list[EventSpan]) -> None:
        """Set the timeline, and the times that the options leave open."""
        options = self.options
        durations = np.array([end - start for start, end, _ in found])
        typical = float(np.median(durations))
        seconds = options.seconds or MARGIN * max(end for _, end, _ in found)
        width = options.resolution or max(FINEST, typical / 10, seconds / USUAL_CELLS)
        frames = max(1, math.ceil(seconds / width - 1e-6))
        if frames > MOST_CELLS:
            raise RecipeError(
                "resolution", f"{seconds:g} s in steps of {width:g} s are {frames:,} cells; {MOST_CELLS:,} are possible"
            )
        self._grid = TimeGrid(frames, frames * width if options.resolution else seconds)
        brief, gaps = float(np.quantile(durations, 0.05)) / 2, silences_between(rows)
        self.shortest = brief if options.shortest is None else options.shortest
        apart = min(self.shortest, float(np.quantile(gaps, 0.05)) / 2) if gaps else self.shortest
        self.gap = apart if options.gap is None else options.gap
        self.segment = options.segment or max(min(1.0, typical), self.width)
        self.collar = options.collar or max(scores.COLLAR, self.width)

    def _take(self, shares: np.ndarray) -> None:
        self.shares = shares
        self._notes = [
            f"decided in {self.grid.frames:,} cells of {self.width:.3g} s over {self.grid.seconds:.4g} s; segment "
            f"scores count segments of {self.segment:.3g} s, event scores allow {self.collar:.3g} s"
        ]

    @property
    def grid(self) -> TimeGrid:
        return self._grid

    @property
    def width(self) -> float:
        """Seconds of a cell."""
        return self.grid.seconds / self.grid.frames

    def _cover(self, spans: list[EventSpan]) -> np.ndarray:
        """Shares `[frames, labels]`; ValueError if an event has no place on the timeline."""
        late = max((end for _, end, _ in spans), default=0.0)
        if late > self.grid.seconds + 1e-6:
            raise ValueError(
                f"an event ends at {late:g} s, beyond the timeline of {self.grid.seconds:g} s; the option `seconds` "
                "makes it longer"
            )
        start, end = (np.array([span[place] for span in spans], dtype=np.float64) for place in (0, 1))
        label = np.array([self.labels.index(label) for *_, label in spans], dtype=np.int64)
        return event_coverage(start, end, label, self.grid.frames, len(self.labels), self.width)

    def prepare(self, block: RowBlock) -> tuple[np.ndarray, np.ndarray]:
        value = np.zeros((len(block), self.output_size), dtype=np.float32)
        present = np.zeros(len(block), dtype=bool)
        for position, cell in enumerate(block.cells(self.columns[0])):
            if cell is None:
                continue
            try:
                value[position] = self._cover(read_event_spans(cell)).ravel()
            except ValueError as error:
                block.add_error(position, self.columns[0], str(error))
                continue
            present[position] = True
        return value, present

    @property
    def threshold(self) -> float:
        return self.options.threshold

    @property
    def output_size(self) -> int:
        return self.grid.frames * len(self.labels)

    def loss(self, values: Tensor, target: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(values.float(), target.float(), reduction="none").mean(-1)

    def baseline_loss(self) -> float:
        """The mean over cells and labels of the entropy of the mean share q: -q log q - (1 - q) log(1 - q)."""
        share = np.stack([self.shares, 1 - self.shares])
        return float(-(share * np.log(np.where(share > 0, share, 1.0))).sum(0).mean())

    def baseline_prediction(self) -> np.ndarray:
        return self.shares

    def distribution(self, values: Tensor) -> np.ndarray:
        return values.detach().double().sigmoid().cpu().numpy()

    def predict(self, distribution: np.ndarray) -> list[Any]:
        return self._answers(self._found(distribution), len(distribution), scored=True)

    def truth(self, value: np.ndarray) -> np.ndarray:
        return value

    def events(self, truth: np.ndarray) -> list[list[dict[str, Any]]]:
        """The true events behind prepared targets `[rows, k]`, as the user writes them."""
        return self._answers(self._true(truth), len(truth), scored=False)

    def _answers(self, found: Events, rows: int, *, scored: bool) -> list[list[dict[str, Any]]]:
        answers: list[list[dict[str, Any]]] = [[] for _ in range(rows)]
        order = np.lexsort((found.label, found.start, found.row))
        columns = (found.row, found.start, found.end, found.label, found.score)
        for row, start, end, label, score in zip(*(column[order].tolist() for column in columns), strict=True):
            event = {"start": round(start, 6), "end": round(end, 6), "label": self.labels.values[label]}
            answers[row].append(event | {"score": round(score, 6)} if scored else event)
        return answers

    def _found(self, distribution: np.ndarray) -> Events:
        return decode_events(
            self._by_cell(distribution),
            self.width,
            threshold=self.threshold,
            smooth=self.options.smooth,
            gap=self.gap,
            shortest=self.shortest,
        )

    def _true(self, truth: np.ndarray) -> Events:
        return events_from_coverage(self._by_cell(truth), self.width)

    def _by_cell(self, values: np.ndarray) -> np.ndarray:
        """`[rows, k]` -> `[rows, frames, labels]`."""
        return values.reshape(len(values), self.grid.frames, len(self.labels))

    def segments(self, distribution: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which labels were found, and are true, in each segment: two `[rows, segments, labels]` bool."""
        count = max(1, math.ceil(self.grid.seconds / self.segment - 1e-6))
        found, true = (
            scores.activity(one, len(truth), len(self.labels), count, self.segment)
            for one in (self._found(distribution), self._true(truth))
        )
        return found, true

    def per_class_arrays(
        self, distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found, true = self.segments(distribution, truth)
        k = len(self.labels)
        return found.reshape(-1, k).astype(np.float64), true.reshape(-1, k), np.repeat(weight, found.shape[1])

    def segment_counts(self, distribution: np.ndarray, truth: np.ndarray) -> SegmentCounts:
        found, true = self.segments(distribution, truth)
        return scores.segment_counts(true, found)

    def event_counts(self, distribution: np.ndarray, truth: np.ndarray) -> EventCounts:
        true, found = self._true(truth), self._found(distribution)
        return scores.event_counts(true, found, len(truth), len(self.labels), self.collar)

    @property
    def metrics(self) -> list[Metric]:
        return [
            _metric("segment_f1", self.segment_counts, scores.f1_micro),
            _metric("event_f1", self.event_counts, scores.f1_micro),
            _metric("segment_error_rate", self.segment_counts, scores.error_rate, greater_is_better=False),
            _metric("segment_f1_macro", self.segment_counts, scores.f1_macro),
        ]

    @property
    def classes(self) -> list[str]:
        """Names of the labels of a cell: value `cell * labels + label` is one of them in one cell."""
        return [label_text(label) for label in self.labels.values]

    def save(self) -> dict[str, Any]:
        return {
            "labels": self.labels.values,
            "grid": list(self.grid),
            "shortest": self.shortest,
            "gap": self.gap,
            "segment": self.segment,
            "collar": self.collar,
            "shares": self.shares.tolist(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.labels, self._grid = LabelVocabulary(state["labels"]), TimeGrid(*state["grid"])
        self.shortest, self.gap = state["shortest"], state["gap"]
        self.segment, self.collar = state["segment"], state["collar"]
        self._take(np.array(state["shares"]))


def _metric(
    name: str,
    count: Callable[[np.ndarray, np.ndarray], Any],
    score: Callable[[Any, np.ndarray], float],
    *,
    greater_is_better: bool = True,
) -> Metric:
    def prepared(distribution: np.ndarray, truth: np.ndarray) -> Callable[[np.ndarray], float]:
        return partial(score, count(distribution, truth))

    def whole(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
        return score(count(distribution, truth), weight)

    return Metric(name, whole, greater_is_better, prepared)
