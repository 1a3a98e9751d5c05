"""Event detection: start, end and label of events in audio, video or time series."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, FiniteFloat, PositiveInt
from torch import Tensor
from torch.nn import functional
from typing_extensions import TypedDict

from polymodal.core.errors import DataError, RecipeError
from polymodal.core.record import PositiveFinite
from polymodal.core.registry import register
from polymodal.core.types import Space, TimeGrid
from polymodal.data.table.block import RowBlock
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.metrics import events as scores
from polymodal.metrics.base import POSITIVE, UNIT, Metric
from polymodal.metrics.events import EventCounts, Events, SegmentCounts
from polymodal.tasks.base import Task, TaskOptions
from polymodal.tasks.event_cells import EventSpan, read_event_spans, silences_between
from polymodal.tasks.event_timeline import decode_events, event_coverage, events_from_coverage
from polymodal.tasks.labels import (
    Label,
    LabelVocabulary,
    first_problem,
    label_key,
    label_text,
    parse_cells,
    summarize_labels,
)

#: Maximum number of cells of a timeline with default resolution, and of any timeline.
DEFAULT_MAX_CELLS, MAX_CELLS = 2_000, 20_000
#: Minimum default resolution, in seconds.
MIN_RESOLUTION = 0.01
#: Default duration, as a multiple of the latest event end in the training rows.
DURATION_MARGIN = 1.05


class EventState(TypedDict):
    """The saved state: the labels, the timeline (frames and seconds), times in seconds, and the mean of each cell."""

    labels: list[Label]
    grid: tuple[PositiveInt, PositiveFinite]
    min_event_seconds: FiniteFloat
    min_gap_seconds: FiniteFloat
    segment_seconds: PositiveFinite
    collar: FiniteFloat
    mean_coverage: list[FiniteFloat]


@register
class EventDetectionTask(Task):
    """Event detection: any number of events with start, end and label in a row, predicted on a timeline of equal cells.

    A table cell is a list of events such as `{"start": 0.5, "end": 1.25, "label": "dog"}` (seconds), or such a list as
    JSON text. An empty list means no events; null is a missing target. Overlapping events of one label become one
    event. An event that cannot be read, ends after the timeline, or has a label that does not occur in training makes
    the whole list a cell error and a missing target.

    The prepared target is the fraction s of each cell that events cover, which keeps their ends with sub-cell precision
    (see `tasks.event_timeline.events_from_coverage`). The loss of a row is the mean over cells and labels of the binary
    cross-entropy

        -(1 / k) sum_c [s_c log p_c + (1 - s_c) log(1 - p_c)]

    whose minimum is p = s: a probability is the covered fraction of its cell, from which the ends of events are
    decoded. Metrics: Mesaros, Heittola and Virtanen, "Metrics for Polyphonic Sound Event Detection", 2016.
    """

    class Options(TaskOptions):
        name: Literal["event_detection"] = "event_detection"
        duration: float | None = Field(default=None, gt=0)
        """Duration of the timeline in seconds. Default: 5 % more than the latest event end in the training rows."""
        resolution: float | None = Field(default=None, gt=0)
        """Seconds per cell. Default: a tenth of the median event duration in the training rows, at least 0.01, with at
        most 2,000 cells."""
        threshold: float = Field(default=0.5, gt=0, lt=1)
        """Decision threshold: cells with at least this probability belong to an event."""
        median_filter_seconds: float = Field(default=0.0, ge=0)
        """Width in seconds of a median filter on the probabilities before events are decoded; 0: no filter."""
        min_event_seconds: float | None = Field(default=None, ge=0)
        """Predicted events shorter than this are dropped. Default: half of the 5th percentile of the training event
        durations."""
        min_gap_seconds: float | None = Field(default=None, ge=0)
        """Predicted events of one label with shorter gaps are merged. Default: half of the 5th percentile of such gaps
        in the training rows, at most `min_event_seconds`."""
        segment_seconds: float | None = Field(default=None, gt=0)
        """Segment length of the segment-based metrics in seconds. Default: 1, at most the median event duration of the
        training rows, at least one cell."""
        collar: float | None = Field(default=None, gt=0)
        """Tolerance of the event-based metrics in seconds: maximum error of the start. The end may differ by the same
        or by a fifth of the event duration. Default: 0.2, at least one cell."""

    space: ClassVar[Space] = "binary"
    default_decoder: ClassVar[str] = "timeline"
    needs_timestamps: ClassVar[bool] = True
    options: Options

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
        limit = math.inf if self.options.duration is None else self.options.duration
        inside = [events for events in rows if all(end <= limit + 1e-6 for _, end, _ in events)]
        found = [span for events in inside for span in events]
        if not found:
            limit_note = f" that ends before {limit:g} s (option `duration`)" if any(rows) else ""
            raise DataError(f"the training rows have no event{limit_note}{first_problem(problems)}", column=column)
        self.labels = LabelVocabulary({label_key(label): label for _, _, label in found}.values())
        self._choose_times(inside, found)
        total = np.zeros((self.grid.frames, len(self.labels)))
        for events in inside:
            total += self._cover(events)
        self._set_coverage(total.ravel() / len(inside))
        counts = Counter(label_key(label) for _, _, label in found)
        single = [label for label in self.labels.values if counts[label_key(label)] == 1]
        self._notes += summarize_labels(
            single,
            "label {!r} occurs once in the training rows",
            "{} labels occur once in the training rows, such as {!r}",
        )

    def _choose_times(self, rows: list[list[EventSpan]], found: list[EventSpan]) -> None:
        """Set the timeline, and the options that are not given."""
        options = self.options
        durations = np.array([end - start for start, end, _ in found])
        typical = float(np.median(durations))
        seconds = options.duration or DURATION_MARGIN * max(end for _, end, _ in found)
        width = options.resolution or max(MIN_RESOLUTION, typical / 10, seconds / DEFAULT_MAX_CELLS)
        frames = max(1, math.ceil(seconds / width - 1e-6))
        if frames > MAX_CELLS:
            raise RecipeError(
                "resolution",
                f"{seconds:g} s with {width:g} s per cell are {frames:,} cells; the maximum is {MAX_CELLS:,}",
            )
        self._grid = TimeGrid(frames, frames * width if options.resolution else seconds)
        short, gaps = float(np.quantile(durations, 0.05)) / 2, silences_between(rows)
        self.min_event_seconds = short if options.min_event_seconds is None else options.min_event_seconds
        gap = min(self.min_event_seconds, float(np.quantile(gaps, 0.05)) / 2) if gaps else self.min_event_seconds
        self.min_gap_seconds = gap if options.min_gap_seconds is None else options.min_gap_seconds
        self.segment_seconds = options.segment_seconds or max(min(1.0, typical), self.width)
        self.collar = options.collar or max(scores.COLLAR, self.width)

    def _set_coverage(self, mean_coverage: np.ndarray) -> None:
        self.mean_coverage = mean_coverage
        self._notes = [
            f"predicted in {self.grid.frames:,} cells of {self.width:.3g} s over {self.grid.seconds:.4g} s; "
            f"segments of the metrics: {self.segment_seconds:.3g} s, collar: {self.collar:.3g} s"
        ]

    @property
    def grid(self) -> TimeGrid:
        return self._grid

    @property
    def width(self) -> float:
        """Seconds per cell."""
        return self.grid.seconds / self.grid.frames

    def _cover(self, events: list[EventSpan]) -> np.ndarray:
        """Coverage `[frames, labels]`. Raises ValueError if an event ends after the timeline."""
        late = max((end for _, end, _ in events), default=0.0)
        if late > self.grid.seconds + 1e-6:
            raise ValueError(
                f"an event ends at {late:g} s, after the timeline of {self.grid.seconds:g} s; increase the option "
                "`duration`"
            )
        start, end = (np.array([event[index] for event in events], dtype=np.float64) for index in (0, 1))
        label = np.array([self.labels.index(label) for *_, label in events], dtype=np.int64)
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
        """Mean over cells and labels of the entropy of the mean coverage q: -q log q - (1 - q) log(1 - q)."""
        coverage = np.stack([self.mean_coverage, 1 - self.mean_coverage])
        return float(-(coverage * np.log(np.where(coverage > 0, coverage, 1.0))).sum(0).mean())

    def baseline_prediction(self) -> np.ndarray:
        return self.mean_coverage

    def distribution(self, values: Tensor) -> np.ndarray:
        return values.detach().double().sigmoid().cpu().numpy()

    def predict(self, distribution: np.ndarray) -> list[Any]:
        return self._event_lists(self._predicted_events(distribution), len(distribution), scored=True)

    def truth(self, value: np.ndarray) -> np.ndarray:
        return value

    def events(self, truth: np.ndarray) -> list[list[dict[str, Any]]]:
        """True events of prepared targets `[rows, k]`, in the format of the table."""
        return self._event_lists(self._true_events(truth), len(truth), scored=False)

    def _event_lists(self, found: Events, rows: int, *, scored: bool) -> list[list[dict[str, Any]]]:
        lists: list[list[dict[str, Any]]] = [[] for _ in range(rows)]
        order = np.lexsort((found.label, found.start, found.row))
        columns = (found.row, found.start, found.end, found.label, found.score)
        for row, start, end, label, score in zip(*(column[order].tolist() for column in columns), strict=True):
            event = {"start": round(start, 6), "end": round(end, 6), "label": self.labels.values[label]}
            lists[row].append(event | {"score": round(score, 6)} if scored else event)
        return lists

    def _predicted_events(self, distribution: np.ndarray) -> Events:
        return decode_events(
            self._as_cells(distribution),
            self.width,
            threshold=self.threshold,
            median_filter_seconds=self.options.median_filter_seconds,
            min_gap_seconds=self.min_gap_seconds,
            min_event_seconds=self.min_event_seconds,
        )

    def _true_events(self, truth: np.ndarray) -> Events:
        return events_from_coverage(self._as_cells(truth), self.width)

    def _as_cells(self, values: np.ndarray) -> np.ndarray:
        """`[rows, k]` -> `[rows, frames, labels]`."""
        return values.reshape(len(values), self.grid.frames, len(self.labels))

    def segments(self, distribution: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predicted and true activity of each label in each segment: two `[rows, segments, labels]` bool."""
        count = max(1, math.ceil(self.grid.seconds / self.segment_seconds - 1e-6))
        found, true = (
            scores.activity(one, len(truth), len(self.labels), count, self.segment_seconds)
            for one in (self._predicted_events(distribution), self._true_events(truth))
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
        true, found = self._true_events(truth), self._predicted_events(distribution)
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
        """Labels of a cell; value `cell * labels + label` of a prediction is one of them in one cell."""
        return [label_text(label) for label in self.labels.values]

    state_type = EventState

    def save(self) -> dict[str, Any]:
        return {
            "labels": self.labels.values,
            "grid": list(self.grid),
            "min_event_seconds": self.min_event_seconds,
            "min_gap_seconds": self.min_gap_seconds,
            "segment_seconds": self.segment_seconds,
            "collar": self.collar,
            "mean_coverage": self.mean_coverage.tolist(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.labels, self._grid = LabelVocabulary(state["labels"]), TimeGrid(*state["grid"])
        self.min_event_seconds, self.min_gap_seconds = state["min_event_seconds"], state["min_gap_seconds"]
        self.segment_seconds, self.collar = state["segment_seconds"], state["collar"]
        self._set_coverage(np.array(state["mean_coverage"]))


def _metric(
    name: str,
    count: Callable[[np.ndarray, np.ndarray], Any],
    score: Callable[[Any, np.ndarray], float],
    *,
    greater_is_better: bool = True,
) -> Metric:
    def prepared(distribution: np.ndarray, truth: np.ndarray) -> Callable[[np.ndarray], float]:
        return partial(score, count(distribution, truth))

    def score_rows(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
        return score(count(distribution, truth), weight)

    return Metric(name, score_rows, greater_is_better, prepared, UNIT if greater_is_better else POSITIVE)
