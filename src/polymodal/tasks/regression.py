"""Regression: one number per row, or several."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, FiniteFloat, model_validator
from torch import Tensor
from torch.nn import functional
from typing_extensions import TypedDict

from polymodal.core.errors import DataError
from polymodal.core.record import PositiveFinite
from polymodal.core.registry import register
from polymodal.core.types import Space
from polymodal.data.table.block import RowBlock
from polymodal.data.table.number_format import NumberFormat, column_format, infer_format
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.metrics import regression
from polymodal.metrics.base import POSITIVE, Metric
from polymodal.tasks.base import Task, TaskOptions
from polymodal.tasks.classification import MAX_INTEGER_CLASSES

# Largest number of a target, and its largest distance from the mean of the training rows in standard deviations. Their
# squares are finite in fp64 (scores) and fp32 (losses).
MAX_NUMBER, MAX_DEVIATIONS = 1e150, 1e18
# A bad cell: position in the block, column and reason.
Problem = tuple[int, str, str]


class RegressionState(TypedDict):
    """The saved state: the statistics of each column."""

    mean: list[FiniteFloat]
    std: list[PositiveFinite]
    target_mean: list[FiniteFloat]
    constant_loss: FiniteFloat
    notes: list[str]
    formats: list[NumberFormat]


@register
class RegressionTask(Task):
    """Regression of numbers, standardized with the mean and standard deviation of the training rows:

        z = (t(y) - mean) / std,   t(y) = y  or  log(1 + y)

    The loss of a row is the mean over its numbers of a function of e = value - z: `squared_error` e^2; `absolute_error`
    |e|; `huber` e^2 / 2 up to |e| = delta and delta (|e| - delta / 2) beyond (Huber, "Robust Estimation of a Location
    Parameter", 1964). NaN, infinite and non-numeric cells are cell errors and missing targets. With several columns, a
    row without one of its numbers is a missing target. Texts are read in the number format of the training rows
    (`$1,250.50`, `7 %`), and predictions are numbers.
    """

    class Options(TaskOptions):
        name: Literal["regression"] = "regression"
        loss: Literal["squared_error", "absolute_error", "huber"] = "squared_error"
        """`squared_error` estimates the mean, `absolute_error` the median; `huber` is between them and robust to
        outliers. With `absolute_error`, MAE is the main metric instead of RMSE."""
        huber_delta: float | None = Field(default=None, gt=0)
        """Only for `huber`: the error, in standard deviations, from which the loss is linear. Default: 1."""
        transform: Literal["none", "log"] = "none"
        """`log`: predict log(1 + y), for numbers above -1 with a long right tail (prices, counts, durations)."""

        @model_validator(mode="after")
        def _delta_needs_huber(self) -> Self:
            if self.huber_delta is not None and self.loss != "huber":
                raise ValueError(f"huber_delta needs loss: huber, but loss is {self.loss}; remove huber_delta")
            return self

    space: ClassVar[Space] = "real"
    many_columns: ClassVar[bool] = True
    options: Options

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        values = sample.values
        texts = bool(values) and all(isinstance(value, str) for value in values)
        if not values or not (infer_format(values) if texts else all(_is_number(value) for value in values)):
            return None
        distinct = sample.distinct
        confidence = 0.85 if distinct > MAX_INTEGER_CLASSES else 0.5
        return Match(confidence, f"numbers, {distinct:,} distinct in {len(values):,} sampled cells")

    def fit(self, blocks: Iterable[RowBlock]) -> None:
        parts, incomplete, problem = [], 0, ""
        held = list(blocks)
        self.formats = [column_format([block.columns[column] for block in held]) for column in self.columns]
        for block in held:
            value, problems, null = self._read(block)
            for position, column, reason in self._outside_log_domain(value):
                raise DataError(reason, row=int(block.rows[position]), column=column)
            if problems and not problem:
                problem = f" ({problems[0][2]})"
            incomplete += int((null.any(1) & ~null.all(1)).sum())
            parts.append(value[np.isfinite(value).all(1)])
        numbers = np.concatenate(parts) if parts else np.zeros((0, len(self.columns)))
        if not len(numbers):
            raise DataError(f"the training rows have no numbers{problem}", column=", ".join(self.columns))
        for column, values in zip(self.columns, self._transform(numbers).T, strict=True):
            if (values == values[0]).all():
                raise DataError("all training rows have the same number, so there is nothing to learn", column=column)
        transformed = self._transform(numbers)
        self.mean, self.std = transformed.mean(0), transformed.std(0)
        self.target_mean = numbers.mean(0)
        self.constant_loss = self._constant_loss((transformed - self.mean) / self.std)
        self._notes = [
            f"the texts of {column!r}, such as {format.example!r}, are read as numbers; predictions are numbers"
            for column, format in zip(self.columns, self.formats, strict=True)
            if not format.is_plain
        ]
        self._notes += [f"training rows with missing numbers, which are ignored: {incomplete}"] if incomplete else []

    def _transform(self, numbers: np.ndarray) -> np.ndarray:
        return np.log1p(numbers) if self.options.transform == "log" else numbers

    def _read(self, block: RowBlock) -> tuple[np.ndarray, list[Problem], np.ndarray]:
        """Numbers `[rows, k]` with NaN if missing, the bad cells, and which cells are null `[rows, k]`."""
        value = np.full((len(block), len(self.columns)), np.nan)
        null = np.zeros(value.shape, dtype=bool)
        problems = []
        for index, (column, format) in enumerate(zip(self.columns, self.formats, strict=True)):
            for position, cell in enumerate(block.cells(column)):
                try:
                    number = format.read(cell) if isinstance(cell, str) else cell
                    if number is None:
                        null[position, index] = True
                    else:
                        value[position, index] = _read_number(number)
                except ValueError as error:
                    problems.append((position, column, str(error)))
        return value, problems, null

    def _outside_log_domain(self, value: np.ndarray) -> list[Problem]:
        if self.options.transform == "none":
            return []
        return [
            (int(row), self.columns[index], f"{value[row, index]:g} has no log(1 + y); set transform: none")
            for row, index in np.argwhere(value <= -1)
        ]

    def prepare(self, block: RowBlock) -> tuple[np.ndarray, np.ndarray]:
        value, problems, _ = self._read(block)
        outside = self._outside_log_domain(value)
        for position, column, reason in problems + outside:
            block.add_error(position, column, reason)
        present = np.isfinite(value).all(1)
        present[[position for position, _, _ in outside]] = False
        prepared = np.zeros(value.shape, dtype=np.float32)
        standard = np.zeros(value.shape)
        standard[present] = (self._transform(value[present]) - self.mean) / self.std
        for row, index in np.argwhere(np.abs(standard) > MAX_DEVIATIONS):
            reason = f"{value[row, index]:g} is too far from the numbers of the training rows"
            block.add_error(int(row), self.columns[index], reason)
            present[row] = False
        prepared[present] = standard[present]
        return prepared, present

    @property
    def output_size(self) -> int:
        return len(self.columns)

    @property
    def delta(self) -> float:
        return 1.0 if self.options.huber_delta is None else self.options.huber_delta

    def loss(self, values: Tensor, target: Tensor) -> Tensor:
        value, target = values.float(), target.float()
        if self.options.loss == "squared_error":
            return functional.mse_loss(value, target, reduction="none").mean(-1)
        if self.options.loss == "absolute_error":
            return functional.l1_loss(value, target, reduction="none").mean(-1)
        return functional.huber_loss(value, target, reduction="none", delta=self.delta).mean(-1)

    def _constant_loss(self, standard: np.ndarray) -> float:
        """Loss of the best constant of standardized numbers `[rows, k]`: mean, median, or Huber's location."""
        if self.options.loss == "squared_error":
            return float((standard**2).mean())
        if self.options.loss == "absolute_error":
            return float(np.abs(standard - np.median(standard, axis=0)).mean())
        low, high = standard.min(0), standard.max(0)
        for _ in range(60):  # the slope of a convex function changes its sign once, so bisection finds the minimum
            middle = (low + high) / 2
            rising = np.clip(middle - standard, -self.delta, self.delta).sum(0) > 0
            low, high = np.where(rising, low, middle), np.where(rising, middle, high)
        error = np.abs(standard - (low + high) / 2)
        loss = np.where(error <= self.delta, error**2 / 2, self.delta * (error - self.delta / 2))
        return float(loss.mean())

    def baseline_loss(self) -> float:
        return self.constant_loss

    def baseline_prediction(self) -> np.ndarray:
        return self.target_mean

    def distribution(self, values: Tensor) -> np.ndarray:
        return self.truth(values.detach().double().cpu().numpy())

    def predict(self, distribution: np.ndarray) -> list[Any]:
        return distribution[:, 0].tolist() if len(self.columns) == 1 else distribution.tolist()

    def truth(self, value: np.ndarray) -> np.ndarray:
        numbers = value.astype(np.float64) * self.std + self.mean
        if self.options.transform == "none":
            return numbers
        with np.errstate(over="ignore"):  # overflows to infinity above 709
            return np.expm1(numbers)

    @property
    def metrics(self) -> list[Metric]:
        rmse = Metric("rmse", regression.rmse, greater_is_better=False, bounds=POSITIVE)
        mae = Metric("mae", regression.mae, greater_is_better=False, bounds=POSITIVE)
        return [
            *([mae, rmse] if self.options.loss == "absolute_error" else [rmse, mae]),
            Metric("r2", regression.r2, bounds=(-math.inf, 1.0)),
            Metric("spearman", regression.spearman, bounds=(-1.0, 1.0)),
        ]

    state_type = RegressionState

    def save(self) -> dict[str, Any]:
        return {
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            "target_mean": self.target_mean.tolist(),
            "constant_loss": self.constant_loss,
            "notes": self._notes,
            "formats": [format.to_dict() for format in self.formats],
        }

    def load(self, state: dict[str, Any]) -> None:
        self.mean, self.std, self.target_mean = (np.array(state[name]) for name in ("mean", "std", "target_mean"))
        if {len(self.mean), len(self.std), len(self.target_mean), len(state["formats"])} != {len(self.columns)}:
            raise ValueError(f"the statistics or formats are not those of {len(self.columns)} columns")
        self.constant_loss, self._notes = state["constant_loss"], state["notes"]
        self.formats = [NumberFormat(**format) for format in state["formats"]]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal | np.integer | np.floating) and not isinstance(value, bool)


def _read_number(cell: Any) -> float:
    if not _is_number(cell):
        raise ValueError(f"expected a number, not {type(cell).__name__} {str(cell)[:40]!r}")
    try:
        number = float(cell)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{number} is not a finite number")
    if abs(number) > MAX_NUMBER:
        raise ValueError(f"{number:g} is too large: give the target in larger units, up to {MAX_NUMBER:g}")
    return number
