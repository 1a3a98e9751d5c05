"""Numbers that describe dates, times of day and durations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import FiniteFloat

from polymodal.core.record import PositiveFinite
from polymodal.data.table.date_format import DateKind
from polymodal.modalities.number import SKEWNESS_THRESHOLD, signed_log, skewness

DAY = 86_400.0
#: The length of each cycle of a date.
_CYCLES = {"hour": 24.0, "weekday": 7.0, "day": 31.0, "day_of_year": 365.2425}
#: Features that are differences, which can be heavy-tailed.
_LENGTHS = ("seconds", "elapsed_days")
# A feature with a smaller standard deviation is constant up to rounding.
_MIN_STD = 1e-6


def raw_features(kind: DateKind, wall: np.ndarray, instant: np.ndarray) -> dict[str, np.ndarray]:
    """The features of a column by name, each `[rows]` float64; NaN where the cell has no value.

    A date has `days` (from 1970, UTC), the ordinals `year`, `month` (1-12), `day` (1-31), `weekday` (0 is Monday) and
    `hour` (0-24, with fraction), sine and cosine of the hour, weekday, day of the month and day of the year, and
    `weekend` (1 on Saturday and Sunday). A time of day has `hour` with its sine and cosine, a duration `seconds`.

    wall, instant: `[rows]`, seconds from 1970; see `data.table.date_texts.Moment`
    """
    if kind == "duration":
        return {"seconds": wall}
    hour = np.mod(wall, DAY) / 3600.0
    if kind == "time":
        return {"hour": hour, **_cycle("hour", hour)}
    known = np.isfinite(wall)
    date = np.where(known, np.floor(wall / DAY), 0).astype(np.int64).astype("datetime64[D]")
    month_start, year_start = date.astype("datetime64[M]"), date.astype("datetime64[Y]")
    ordinals = {
        "year": year_start.astype(np.int64) + 1970,
        "month": month_start.astype(np.int64) % 12 + 1,
        "day": (date - month_start).astype(np.int64) + 1,
        "weekday": (date.astype(np.int64) + 3) % 7,
    }
    found = {"days": instant / DAY, **{name: np.where(known, value, np.nan) for name, value in ordinals.items()}}
    day_of_year = (date - year_start).astype(np.int64) + hour / 24.0
    found |= {"hour": hour, **_cycle("hour", hour), **_cycle("weekday", found["weekday"])}
    found |= {**_cycle("day", found["day"]), **_cycle("day_of_year", day_of_year)}
    return {**found, "weekend": np.where(known, ordinals["weekday"] >= 5, np.nan)}


def _cycle(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    angle = 2 * np.pi * values / _CYCLES[name]
    return {f"{name}_sin": np.sin(angle), f"{name}_cos": np.cos(angle)}


@dataclass(frozen=True)
class Feature:
    """A feature, standardized on the training rows: z = (t(x) - mean) / std.

    std: None for a constant, which is prepared as 0
    logarithm: `t` is the signed logarithm with this unit; None: the identity
    """

    name: str
    mean: FiniteFloat
    std: PositiveFinite | None
    logarithm: PositiveFinite | None = None

    @classmethod
    def fit(cls, name: str, values: np.ndarray) -> Feature:
        """Fit to the training rows `values [rows]`. A difference with heavy tails is transformed by the logarithm."""
        values = values[np.isfinite(values)]
        unit: float | None = None
        if name in _LENGTHS and values.any():
            unit = float(np.median(np.abs(values[values != 0])))
            straight, bent = abs(skewness(values)), abs(skewness(signed_log(values, unit)))
            unit = unit if straight > SKEWNESS_THRESHOLD and bent < straight / 2 else None
        if unit is not None:
            values = signed_log(values, unit)
        std = float(values.std()) if len(values) else 0.0
        mean = float(values.mean()) if len(values) else 0.0
        return cls(name, mean, std if std > max(_MIN_STD, 1e-9 * abs(mean)) else None, unit)

    def apply(self, values: np.ndarray, clip_std: float) -> np.ndarray:
        """`values [rows]` standardized and clipped, float32; 0 where they are NaN."""
        if self.std is None:
            return np.zeros(len(values), np.float32)
        if self.logarithm is not None:
            values = signed_log(values, self.logarithm)
        standard = np.clip((values - self.mean) / self.std, -clip_std, clip_std)
        return np.nan_to_num(standard).astype(np.float32)


def fit_features(raw: dict[str, np.ndarray]) -> list[Feature]:
    """The features that vary in the training rows; the first one if none does, for the presence of the cell."""
    fitted = [Feature.fit(name, values) for name, values in raw.items()]
    return [one for one in fitted if one.std is not None] or fitted[:1]


def elapsed_days(first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
    """The days from one column of instants `[rows]` to another; NaN where one is missing."""
    found: dict[str, Any] = {"elapsed_days": (second - first) / DAY}
    return found
