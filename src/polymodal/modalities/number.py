"""The `number` modality: one or more numeric columns, standardized."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, FiniteFloat
from typing_extensions import TypedDict

from polymodal.core.needs import needs_value
from polymodal.core.record import PositiveFinite
from polymodal.core.registry import register
from polymodal.data.store.items import FixedItems, PreparedInput
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_kinds import MARKS, MAX_EXACT_INTEGER
from polymodal.data.table.date_format import are_dates
from polymodal.data.table.number_format import PLAIN, NumberFormat, column_format, infer_format
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.modalities.base import Modality, ModalityOptions
from polymodal.modalities.cell_parsing import read_numbers

# A column with at least this skewness counts as skewed (0 is symmetric, 2 is an exponential distribution).
SKEWNESS_THRESHOLD = 1.5
# A column counts as heavy-tailed if its standard deviation is at least this multiple of the one that its interquartile
# range implies for a normal distribution (1.0 if it is normal, 1.5 for Student's t with 3 degrees of freedom).
TAIL_THRESHOLD = 2.0
#: Interquartile range of the standard normal distribution.
NORMAL_IQR = 1.349
#: Smooth clipping: the limit of |f(z)|.
SMOOTH_LIMIT = 3.0
#: Number of saved quantiles per column: the edges of at most this many bins minus 1.
NUM_QUANTILES = 65
_KEY_NAME = re.compile(r"(^|[_\W])(id|ids|key|uuid|guid|index|idx|row|rownum)$|[a-z]I[dD]$", re.IGNORECASE)
_YEAR_NAME = re.compile(r"(^|[_\W])(year|yr|jahr|annee|año)s?($|[_\W])", re.IGNORECASE)


class ColumnStatistics(TypedDict):
    """The saved statistics of a column.

    center, scale: mean and standard deviation of the transformed numbers, or median and interquartile range (`robust`);
        `scale` is None if the column is constant
    logarithm: unit of the signed logarithm; None if it is not used
    robust: whether the scaled numbers are clipped smoothly
    quantiles: of the prepared numbers, in equal steps of probability; empty if the column is constant
    """

    center: FiniteFloat
    scale: PositiveFinite | None
    logarithm: PositiveFinite | None
    robust: bool
    quantiles: list[FiniteFloat]
    seen: bool


class NumberState(TypedDict):
    """The saved state: the statistics and the number format of each column."""

    statistics: list[ColumnStatistics]
    formats: list[NumberFormat]


@register
class Number(Modality):
    """Numeric columns.

    Texts are read in the number format of the training rows: `$1,250.50`, `12,5 kg`, `7 %` (the number 7).

    Each column is scaled with statistics of its training rows, `z = (t(x) - center) / scale`: their mean and standard
    deviation. `t` is the identity or, for skewed columns, the signed logarithm `t(x) = sign(x) log(1 + |x| / s)`, with
    `s` the median of |x| over the nonzero training rows.

    For columns with heavy tails (`robust`), `center` is the median, `scale` the interquartile range (half of the whole
    range if it is 0), and `z` is clipped smoothly, `f(z) = z / sqrt(1 + (z / 3)^2)`: Holzmüller, Grinsztajn and
    Steinwart, "Better by Default: Strong Pre-Tuned MLPs and Boosted Trees on Tabular Data" (2024), section 3. A few
    extreme numbers then do not press all others together.

    Prepared: `values [rows, columns]` float32, 0 if missing and for constant columns; `known [rows, columns]` bool,
    False if missing (also everywhere in a column without a value in the training rows). A row counts as missing if it
    has no number at all.
    """

    class Options(ModalityOptions):
        name: Literal["number"] = "number"
        transform: Literal["auto", "none", "log", "robust"] = "auto"
        """`none`: standardized. `log`: the signed logarithm first. `robust`: median, interquartile range and smooth
        clipping. `auto`: `log` for columns where it removes most of the skew, `robust` for other columns with heavy
        tails, `none` for the rest."""
        clip_std: Annotated[float, needs_value("transform", "auto", "none", "log")] = Field(default=8.0, gt=0)
        """Standardized values are clipped to this many standard deviations. Columns with smooth clipping stay within
        3."""

    default_encoder = "linear"
    many_columns = True
    corruptions = ("noise", "gaps")
    options: Options

    def __init__(self, options: Options, *, columns: list[str]) -> None:
        super().__init__(options, columns=columns)
        self.statistics: list[ColumnStatistics] = []
        self.formats: list[NumberFormat] = []

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        values = sample.values
        if not values or are_dates(values) or any(isinstance(value, bool | np.bool_) for value in values):
            return None
        is_text = all(isinstance(value, str) for value in values)
        if not is_text and not all(
            isinstance(value, int | float | Decimal | np.integer | np.floating) for value in values
        ):
            return None
        format = infer_format(values) if is_text else PLAIN
        if format is None or any(
            isinstance(value, int | np.integer) and abs(int(value)) > MAX_EXACT_INTEGER for value in values
        ):
            return None
        numbers, bad = read_numbers(values, format)
        known = numbers[~np.isnan(numbers)]
        marks = sum(isinstance(value, str) and value.strip() in MARKS for value in values)
        if len(bad) - marks > 0.05 * len(values) or not len(known):
            return None
        if looks_like_row_id(sample, known):
            return None
        if is_text:
            return Match(0.8, "texts that are plain numbers" if format.is_plain else f"numbers such as {values[0]!r}")
        whole = bool((known == np.round(known)).all())
        return Match(0.7, "whole numbers") if whole else Match(0.9, "numbers with decimals")

    def fit(self, blocks: Iterable[RowBlock]) -> None:
        """Fit transform, center, scale and quantiles of each column. Bad cells are reported by `prepare`."""
        cells: list[list[Any]] = [[] for _ in self.columns]
        for block in blocks:
            for column, name in zip(cells, self.columns, strict=True):
                column.append(block.columns[name])
        self.formats = [column_format(column) for column in cells]
        self.statistics = []
        for column, format in zip(cells, self.formats, strict=True):
            values = np.concatenate([np.empty(0), *(read_numbers(part, format)[0] for part in column)])
            self.statistics.append(self._learn(values[~np.isnan(values)]))

    def _learn(self, values: np.ndarray) -> ColumnStatistics:
        logarithm: float | None = None
        transform = self.options.transform
        if len(values) and transform in ("auto", "log"):
            unit = float(np.median(np.abs(values[values != 0]))) if values.any() else 1.0
            straight, bent = abs(skewness(values)), abs(skewness(signed_log(values, unit)))
            if transform == "log" or (straight > SKEWNESS_THRESHOLD and bent < straight / 2):
                logarithm = unit
        changed = values if logarithm is None else signed_log(values, logarithm)
        robust = transform == "robust" or (transform == "auto" and logarithm is None and _has_heavy_tails(values))
        center, scale = (_median_and_range if robust else _mean_and_std)(changed)
        constant = scale <= 1e-9 * abs(center) or scale < 1e-30
        learned: ColumnStatistics = {
            "center": center,
            "scale": None if constant else scale,
            "logarithm": logarithm,
            "robust": robust,
            "quantiles": [],
            "seen": len(values) > 0,
        }
        if not constant:
            steps = np.linspace(0, 1, NUM_QUANTILES)
            learned["quantiles"] = np.quantile(self._scale(values, learned, scale), steps).tolist()
        return learned

    def _scale(self, values: np.ndarray, learned: ColumnStatistics, scale: float) -> np.ndarray:
        """The prepared numbers of a column that is not constant; NaN stays NaN."""
        if learned["logarithm"] is not None:
            values = signed_log(values, learned["logarithm"])
        with np.errstate(over="ignore"):
            standard = (values - learned["center"]) / scale
        if learned["robust"]:
            return smooth_clip(standard)
        return np.clip(standard, -self.options.clip_std, self.options.clip_std)

    def unlearned_columns(self) -> dict[str, str]:
        learned = zip(self.columns, self.statistics, strict=True)
        return {name: "no cell is a number" for name, one in learned if not one["seen"]}

    def _read(self, block: RowBlock) -> tuple[np.ndarray, list[dict[int, str]]]:
        columns = [
            read_numbers(block.columns[name], format) for name, format in zip(self.columns, self.formats, strict=True)
        ]
        return np.stack([values for values, _ in columns], axis=1), [bad for _, bad in columns]

    def prepare(self, block: RowBlock) -> PreparedInput:
        table, bad = self._read(block)
        for name, reasons in zip(self.columns, bad, strict=True):
            for position, reason in reasons.items():
                block.add_error(position, name, reason)
        values = np.zeros(table.shape, np.float32)
        known = ~np.isnan(table)
        for at, learned in enumerate(self.statistics):
            known[:, at] &= learned["seen"]
            if (scale := learned["scale"]) is not None:
                values[:, at] = np.nan_to_num(self._scale(table[:, at], learned, scale))
        index = np.where(known.any(axis=1), np.arange(len(table)), -1).astype(np.int64)
        values[~known] = 0
        return PreparedInput(index, FixedItems({"values": values, "known": known}))

    def corrupt(
        self, items: dict[str, np.ndarray], kind: str, strength: float, draw: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """`noise`: Gaussian noise of up to two standard deviations of the column; `gaps`: single numbers go missing."""
        values, known = items["values"], items["known"]
        if kind == "gaps":
            known = known & (draw.random(known.shape) >= strength)
            return {"values": np.where(known, values, np.float32(0)), "known": known}
        noisy = values + 2 * strength * draw.normal(size=values.shape)
        bound = self.options.clip_std
        return {"values": np.where(known, noisy.clip(-bound, bound), 0).astype(np.float32), "known": known}

    def shape(self) -> dict[str, Any]:
        """`columns`: the number of columns; `quantiles`: of the prepared training numbers of each column, in equal
        steps of probability, empty for a constant column."""
        return {"columns": len(self.columns), "quantiles": [learned["quantiles"] for learned in self.statistics]}

    state_type = NumberState

    def save(self, folder: Path) -> dict[str, Any]:
        return {"statistics": self.statistics, "formats": [format.to_dict() for format in self.formats]}

    def load(self, folder: Path, state: dict[str, Any]) -> None:
        if not len(state["statistics"]) == len(state["formats"]) == len(self.columns):
            raise ValueError(f"the statistics or formats are not those of {len(self.columns)} columns")
        self.statistics = state["statistics"]
        self.formats = [NumberFormat(**format) for format in state["formats"]]

    def describe(self) -> str:
        notes = []
        for name, learned, format in zip(self.columns, self.statistics, self.formats, strict=True):
            if not learned["seen"]:
                note = " (no value)"
            elif learned["scale"] is None:
                note = " (constant)"
            else:
                note = " (logarithm)" if learned["logarithm"] is not None else ""
                note += " (robust scale)" if learned["robust"] else ""
            notes.append(name + note + ("" if format.is_plain else f" (like {format.example!r})"))
        return f"{len(notes)} number{'s' if len(notes) > 1 else ''}: " + ", ".join(notes)


def signed_log(values: np.ndarray, unit: float) -> np.ndarray:
    """sign(x) log(1 + |x| / unit): logarithmic for large |x|, linear near 0, defined everywhere."""
    return np.sign(values) * np.log1p(np.abs(values) / unit)


def smooth_clip(standard: np.ndarray) -> np.ndarray:
    """z / sqrt(1 + (z / 3)^2): the identity near 0, and within -3 and 3 for every z."""
    standard = np.clip(standard, -1e9, 1e9)  # infinity divided by infinity would be NaN
    return standard / np.hypot(1.0, standard / SMOOTH_LIMIT)


def _mean_and_std(values: np.ndarray) -> tuple[float, float]:
    return (float(values.mean()), float(values.std())) if len(values) else (0.0, 0.0)


def _median_and_range(values: np.ndarray) -> tuple[float, float]:
    """Median and interquartile range, or half of the whole range where the interquartile range is 0."""
    if not len(values):
        return 0.0, 0.0
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(median), float(high - low if high > low else (values.max() - values.min()) / 2)


def _has_heavy_tails(values: np.ndarray) -> bool:
    if not len(values):
        return False
    low, high = np.quantile(values, [0.25, 0.75])
    return bool(high > low and values.std() >= TAIL_THRESHOLD * (high - low) / NORMAL_IQR)


def skewness(values: np.ndarray) -> float:
    """E[((x - mean) / std)^3]; 0 for a constant."""
    std = values.std()
    if std <= 1e-9 * abs(values.mean()) or std < 1e-30:
        return 0.0
    return float((((values - values.mean()) / std) ** 3).mean())


def looks_like_row_id(sample: ColumnSample, values: np.ndarray) -> bool:
    """Whether the column numbers its rows: whole numbers, all distinct, and named, ordered or dense like
    identifiers. The years of a table with one row per year are no identifiers."""
    if len(values) < 20 or (values != np.round(values)).any() or len(np.unique(values)) < len(values):
        return False
    if _YEAR_NAME.search(sample.name) and values.min() >= 1000 and values.max() < 3000:
        return False
    steps = np.diff(values)
    dense = values.max() - values.min() + 1 <= 1.1 * max(sample.rows, len(values))
    return bool(dense or (steps > 0).all() or (steps < 0).all() or _KEY_NAME.search(sample.name))
