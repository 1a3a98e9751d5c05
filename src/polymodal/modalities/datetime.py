"""The `datetime` modality: one or more columns of dates, times of day or durations."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, FiniteFloat
from typing_extensions import TypedDict

from polymodal.core.errors import RecipeError
from polymodal.core.registry import register
from polymodal.data.store.items import FixedItems, PreparedInput
from polymodal.data.table.block import RowBlock
from polymodal.data.table.date_format import (
    DateFormat,
    Integers,
    OrderUnknownError,
    column_date_format,
    day_is_first,
    infer_kind,
    read_dates,
)
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.modalities.base import Modality, ModalityOptions
from polymodal.modalities.calendar_features import DAY, Feature, elapsed_days, fit_features, raw_features


class DatetimeColumn(TypedDict):
    """The saved state of a column: its format, its features, and its range in the training rows in seconds (None if no
    cell was usable)."""

    format: DateFormat
    features: list[Feature]
    range: tuple[FiniteFloat, FiniteFloat] | None


class ElapsedPair(TypedDict):
    """The saved state of the elapsed time between two columns, by their positions."""

    columns: tuple[int, int]
    feature: Feature


class DatetimeState(TypedDict):
    """The saved state: each column, and the pairs of columns with elapsed time."""

    columns: list[DatetimeColumn]
    pairs: list[ElapsedPair]


@register
class Datetime(Modality):
    """Dates, times of day and durations.

    Texts are read in the common forms: ISO 8601 (`2026-03-02`, `2026-03-02T14:30:00+01:00`, `2026-03`), `2026/03/02`,
    `02.03.2026`, `3/2/2026`, `Mar 2, 2026`, RFC 2822, times of day (`14:30`, `2:30 PM`), durations (`1 day 02:00:00`,
    `P1DT2H`, `26:15:30`, `2h 30m`). Dates, times and durations of pandas, numpy, Arrow and Python are read as well.
    Whether a column has dates, times or durations, and whether 3/2/2026 has the day first, is decided on its training
    rows.

    A date becomes the trend (days), its year, month, day, weekday and hour, sine and cosine of hour, weekday, day of
    the month and day of the year, and a weekend flag. Calendar features are those of the local time as it is written;
    the trend and elapsed times are computed in UTC. A time of day becomes its hour, with sine and cosine. A duration
    becomes its seconds. Each pair of columns of dates adds the elapsed days. Only features that vary in the training
    rows are kept. They are standardized; durations and elapsed days with heavy tails by their logarithm.

    Prepared: `values [rows, features]` float32, 0 if missing; `known [rows, features]` bool. A row counts as missing if
    it has no value in any column.

    Raises:
        RecipeError: the training rows do not tell the order of day and month, and `day_first` is unset.
    """

    class Options(ModalityOptions):
        name: Literal["datetime"] = "datetime"
        day_first: bool | None = None
        """Whether 3/2/2026 is the third of February. Default: decided on the training rows of each column."""
        integers: Integers | None = None
        """How whole numbers are read: as `seconds` or `milliseconds` since 1970 (UTC), or as dates such as 20260302
        (`yyyymmdd`). Default: a whole number is a bad cell."""
        max_elapsed_pairs: int = Field(default=10, ge=0)
        """Largest number of pairs of columns whose elapsed time is a feature. The first pairs are used."""
        clip_std: float = Field(default=8.0, gt=0)
        """Standardized values are clipped to this many standard deviations."""

    default_encoder = "column_mlp"
    many_columns = True
    corruptions = ("noise", "gaps")
    options: Options

    def __init__(self, options: Options, *, columns: list[str]) -> None:
        super().__init__(options, columns=columns)
        self.formats: list[DateFormat] = []
        self.features: list[list[Feature]] = []
        self.ranges: list[tuple[float, float] | None] = []
        self.pairs: list[tuple[int, int, Feature]] = []

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        kind = infer_kind(sample.values, sample.name)
        if kind is None:
            return None
        noun = {"date": "dates", "time": "times of day", "duration": "durations"}[kind]
        return Match(0.95, f"{noun} such as '{sample.values[0]}'")

    @classmethod
    def resolve(cls, options: Options, samples: list[ColumnSample]) -> Options:
        """Set `day_first` if the samples of all columns agree on it."""
        if options.day_first is not None:
            return options
        try:
            found = {day_is_first(sample.values) for sample in samples} - {None}
        except OrderUnknownError:
            return options
        return options.model_copy(update={"day_first": found.pop()}) if len(found) == 1 else options

    def fit(self, blocks: Iterable[RowBlock]) -> None:
        """Fit the format and the features of each column. Bad cells are reported by `prepare`."""
        cells: list[list[Any]] = [[] for _ in self.columns]
        for block in blocks:
            for column, name in zip(cells, self.columns, strict=True):
                column.append(block.columns[name])
        options = self.options
        self.formats, self.features, self.ranges = [], [], []
        instants = []
        for parts, name in zip(cells, self.columns, strict=True):
            try:
                format = column_date_format(parts, name, day_first=options.day_first, integers=options.integers)
            except OrderUnknownError as error:
                hint = f"column {name!r}: {error}; set it to true (3/2/2026 is February 3) or false (March 2)"
                raise RecipeError("day_first", hint) from None
            read = [read_dates(part, format) for part in parts]
            wall, instant = (np.concatenate([np.empty(0), *(one[at] for one in read)]) for at in (0, 1))
            self.formats.append(format)
            self.features.append(fit_features(raw_features(format.kind, wall, instant)))
            known = wall[np.isfinite(wall)]
            self.ranges.append((float(known.min()), float(known.max())) if len(known) else None)
            instants.append(instant)
        self.pairs = []
        for first, second in self._possible_pairs():
            ((name, days),) = elapsed_days(instants[first], instants[second]).items()
            feature = Feature.fit(name, days)
            if feature.std is not None:
                self.pairs.append((first, second, feature))

    def _possible_pairs(self) -> list[tuple[int, int]]:
        kinds = [one.kind for one in self.formats]
        pairs = combinations(range(len(kinds)), 2)
        found = [pair for pair in pairs if kinds[pair[0]] == kinds[pair[1]] != "duration"]
        return found[: self.options.max_elapsed_pairs]

    def unlearned_columns(self) -> dict[str, str]:
        columns = zip(self.columns, self.ranges, self.formats, strict=True)
        return {name: f"no cell is {format.noun}" for name, found, format in columns if found is None}

    def prepare(self, block: RowBlock) -> PreparedInput:
        instants, present, values, known = [], [], [], []
        columns = zip(self.columns, self.formats, self.features, self.ranges, strict=True)
        for name, format, features, found in columns:
            wall, instant, bad = read_dates(block.columns[name], format)
            for position, reason in bad.items():
                block.add_error(position, name, reason)
            has_value = np.isfinite(wall) & (found is not None)
            raw = raw_features(format.kind, wall, instant)
            for feature in features:
                values.append(np.where(has_value, feature.apply(raw[feature.name], self.options.clip_std), 0))
                known.append(has_value)
            instants.append(instant)
            present.append(has_value)
        for first, second, feature in self.pairs:
            days = elapsed_days(instants[first], instants[second])[feature.name]
            values.append(feature.apply(days, self.options.clip_std))
            known.append(np.isfinite(days))
        rows = np.asarray(np.stack(present, axis=1).any(axis=1))
        index = np.where(rows, np.arange(len(rows)), -1).astype(np.int64)
        items = {"values": np.stack(values, axis=1).astype(np.float32), "known": np.stack(known, axis=1)}
        return PreparedInput(index, FixedItems(items))

    def _groups(self) -> list[int]:
        """The number of features of each column and of each pair."""
        return [*map(len, self.features), *[1] * len(self.pairs)]

    def corrupt(
        self, items: dict[str, np.ndarray], kind: str, strength: float, draw: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """`noise`: Gaussian noise of up to two standard deviations of each feature; `gaps`: single columns go
        missing."""
        values, known = items["values"], items["known"]
        if kind == "gaps":
            sizes = self._groups()
            kept = draw.random((len(values), len(sizes))) >= strength
            known = known & np.repeat(kept, sizes, axis=1)
            return {"values": np.where(known, values, np.float32(0)), "known": known}
        noise = 2 * strength * draw.standard_normal(values.shape).astype(np.float32)
        return {"values": np.where(known, values + noise, np.float32(0)), "known": known}

    def shape(self) -> dict[str, Any]:
        """`columns`: the number of features; `groups`: that of each column and of each pair of columns."""
        return {"columns": sum(self._groups()), "groups": self._groups()}

    state_type = DatetimeState

    def save(self, folder: Path) -> dict[str, Any]:
        columns = zip(self.formats, self.features, self.ranges, strict=True)
        return {
            "columns": [
                {"format": format.to_dict(), "features": [asdict(one) for one in features], "range": found}
                for format, features, found in columns
            ],
            "pairs": [{"columns": [first, second], "feature": asdict(one)} for first, second, one in self.pairs],
        }

    def load(self, folder: Path, state: dict[str, Any]) -> None:
        columns, pairs = state["columns"], state["pairs"]
        if len(columns) != len(self.columns):
            raise ValueError(f"the state of {len(columns)} columns, not of {len(self.columns)}")
        self.formats = [DateFormat(**one["format"]) for one in columns]
        self.features = [[Feature(**feature) for feature in one["features"]] for one in columns]
        self.ranges = [None if one["range"] is None else (one["range"][0], one["range"][1]) for one in columns]
        names = [set(raw_features(one.kind, np.empty(0), np.empty(0))) for one in self.formats]
        if any(not own or not {one.name for one in own} <= all for own, all in zip(self.features, names, strict=True)):
            raise ValueError("a column has features of another kind")
        self.pairs = [(one["columns"][0], one["columns"][1], Feature(**one["feature"])) for one in pairs]
        if any(not 0 <= first < second < len(columns) for first, second, _ in self.pairs):
            raise ValueError("a pair has other columns")
        if any(feature.name != "elapsed_days" for _, _, feature in self.pairs):
            raise ValueError("a pair has another feature")

    def describe(self) -> str:
        notes = []
        for name, format, features, found in zip(self.columns, self.formats, self.features, self.ranges, strict=True):
            if found is None:
                notes.append(f"{name} (no value)")
            elif format.kind == "date":
                notes.append(f"{name} ({_day(found[0])} to {_day(found[1])})")
            else:
                logarithm = ", logarithm" if features[0].logarithm is not None else ""
                notes.append(f"{name} ({format.noun.removeprefix('a ')}{logarithm})")
        pairs = [f"{self.columns[first]} to {self.columns[second]}" for first, second, _ in self.pairs]
        return ", ".join(notes) + (f"; elapsed: {', '.join(pairs)}" if pairs else "")


def _day(seconds: float) -> str:
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=int(seconds // DAY))).isoformat()
