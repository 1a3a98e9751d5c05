"""Regression: one number for each row, or several."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from polymodal.core.errors import DataError
from polymodal.core.registry import register
from polymodal.core.types import Space
from polymodal.data.table.block import RowBlock
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.metrics import regression
from polymodal.metrics.base import Metric
from polymodal.tasks.base import Task, TaskOptions
from polymodal.tasks.classification import FEW_INTEGERS

# An unusable cell: its position in the block, its column and the reason.
Problem = tuple[int, str, str]


@register
class RegressionTask(Task):
    """Numbers, standardize with the mean and standard deviation of the training rows:

        z = (t(y) - mean) / deviation,   t(y) = y  or  log(1 + y)

    The loss of a row is the mean over its numbers of a function of e = value - z: `squared` e^2; `absolute`
    |e|; `huber` e^2 / 2 up to |e| = delta and delta (|e| - delta / 2) beyond (Huber, "Robust Estimation of a
    Location Parameter", 1964). NaN, infinite and non-numeric cells are faults and gaps. With several columns
    a row needs all of its numbers; a row that lacks one is a gap.
    """

    class Options(TaskOptions):
        name: Literal["regress"] = "regress"
        loss: Literal["squared", "absolute", "huber"] = "squared"
        """`squared` aims at the mean, `absolute` at the median; `huber` lies between and bears outliers. With
        `absolute`, MAE leads the metrics instead of RMSE."""
        delta: float | None = Field(default=None, gt=0)
        """Only for `huber`: the error, in standard deviations, from which the loss grows linearly; 1 if not
        given."""
        transform: Literal["none", "log"] = "none"
        """`log`: learn log(1 + y), for numbers above -1 with a long right tail (prices, counts,
        durations)."""

        @model_validator(mode="after")
        def _delta_needs_huber(self) -> Self:
            if self.delta is not None and self.loss != "huber":
                raise ValueError(f"delta is an option of loss: huber, and loss is {self.loss}; leave delta out")
            return self

    space: ClassVar[Space] = "real"
    options: Options

    def __init__(self, options: Options, *, columns: list[str]) -> None:
        super().__init__(options, columns=columns)

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        values = sample.values
        if not values or not all(_is_number(value) for value in values):
            return None
        distinct = sample.distinct
        confidence = 0.85 if distinct > FEW_INTEGERS else 0.5
        return Match(confidence, f"numbers, {distinct:,} distinct in {len(values):,} sampled cells")

    def fit(self, blocks: Iterable[RowBlock]) -> None:
        parts, gaps, problem = [], 0, ""
        for block in blocks:
            value, problems, null = self._read(block)
            for position, column, reason in self._without_logarithm(value):
                raise DataError(reason, row=int(block.rows[position]), column=column)
            if problems and not problem:
                problem = f" ({problems[0][2]})"
            gaps += int((null.any(1) & ~null.all(1)).sum())
            parts.append(value[np.isfinite(value).all(1)])
        numbers = np.concatenate(parts) if parts else np.zeros((0, len(self.columns)))
        if not len(numbers):
            raise DataError(f"the training rows hold no number{problem}", column=", ".join(self.columns))
        for column, values in zip(self.columns, self._transform(numbers).T, strict=True):
            if (values == values[0]).all():
                raise DataError("the number is the same in all training rows, there is nothing to learn", column=column)
        transformed = self._transform(numbers)
        self.mean, self.deviation = transformed.mean(0), transformed.std(0)
        self.average = numbers.mean(0)
        self.best_loss = self._best_constant_loss((transformed - self.mean) / self.deviation)
        self._notes = [f"training rows that lack some of their numbers and are left out: {gaps}"] if gaps else []

    def _transform(self, numbers: np.ndarray) -> np.ndarray:
        return np.log1p(numbers) if self.options.transform == "log" else numbers

    def _read(self, block: RowBlock) -> tuple[np.ndarray, list[Problem], np.ndarray]:
        """Numbers `[rows, k]` with NaN where there is none, the unusable cells, and where cells are null
        `[rows, k]`."""
        value = np.full((len(block), len(self.columns)), np.nan)
        null = np.zeros(value.shape, dtype=bool)
        problems = []
        for place, column in enumerate(self.columns):
            for position, cell in enumerate(block.cells(column)):
                if cell is None:
                    null[position, place] = True
                    continue
                try:
                    value[position, place] = _read_number(cell)
                except ValueError as error:
                    problems.append((position, column, str(error)))
        return value, problems, null

    def _without_logarithm(self, value: np.ndarray) -> list[Problem]:
        if self.options.transform == "none":
            return []
        return [
            (int(row), self.columns[place], f"{value[row, place]:g} has no log(1 + y); use transform: none")
            for row, place in np.argwhere(value <= -1)
        ]

    def prepare(self, block: RowBlock) -> tuple[np.ndarray, np.ndarray]:
        value, problems, _ = self._read(block)
        outside = self._without_logarithm(value)
        for position, column, reason in problems + outside:
            block.add_error(position, column, reason)
        present = np.isfinite(value).all(1)
        present[[position for position, _, _ in outside]] = False
        prepared = np.zeros(value.shape, dtype=np.float32)
        prepared[present] = (self._transform(value[present]) - self.mean) / self.deviation
        return prepared, present

    @property
    def output_size(self) -> int:
        return len(self.columns)

    @property
    def delta(self) -> float:
        return 1.0 if self.options.delta is None else self.options.delta

    def loss(self, values: Tensor, target: Tensor) -> Tensor:
        value, target = values.float(), target.float()
        if self.options.loss == "squared":
            return functional.mse_loss(value, target, reduction="none").mean(-1)
        if self.options.loss == "absolute":
            return functional.l1_loss(value, target, reduction="none").mean(-1)
        return functional.huber_loss(value, target, reduction="none", delta=self.delta).mean(-1)

    def _best_constant_loss(self, standard: np.ndarray) -> float:
        """The loss of the best constants on standardize numbers `[rows, k]`: mean, median, or Huber's
        location."""
        if self.options.loss == "squared":
            return float((standard**2).mean())
        if self.options.loss == "absolute":
            return float(np.abs(standard - np.median(standard, axis=0)).mean())
        low, high = standard.min(0), standard.max(0)
        for _ in range(60):  # the slope of a convex function changes its sign once: bisect
            middle = (low + high) / 2
            rising = np.clip(middle - standard, -self.delta, self.delta).sum(0) > 0
            low, high = np.where(rising, low, middle), np.where(rising, middle, high)
        error = np.abs(standard - (low + high) / 2)
        loss = np.where(error <= self.delta, error**2 / 2, self.delta * (error - self.delta / 2))
        return float(loss.mean())

    def baseline_loss(self) -> float:
        return self.best_loss

    def baseline_prediction(self) -> np.ndarray:
        return self.average

    def distribution(self, values: Tensor) -> np.ndarray:
        return self.truth(values.detach().double().cpu().numpy())

    def predict(self, distribution: np.ndarray) -> list[Any]:
        return distribution[:, 0].tolist() if len(self.columns) == 1 else distribution.tolist()

    def truth(self, value: np.ndarray) -> np.ndarray:
        numbers = value.astype(np.float64) * self.deviation + self.mean
        if self.options.transform == "none":
            return numbers
        with np.errstate(over="ignore"):  # a logarithm above 709 stands for infinity
            return np.expm1(numbers)

    @property
    def metrics(self) -> list[Metric]:
        rmse = Metric("rmse", regression.rmse, greater_is_better=False)
        mae = Metric("mae", regression.mae, greater_is_better=False)
        return [
            *([mae, rmse] if self.options.loss == "absolute" else [rmse, mae]),
            Metric("r2", regression.r2),
            Metric("spearman", regression.spearman),
        ]

    def save(self) -> dict[str, Any]:
        return {
            "mean": self.mean.tolist(),
            "deviation": self.deviation.tolist(),
            "average": self.average.tolist(),
            "best_loss": self.best_loss,
            "notes": self._notes,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.mean, self.deviation, self.average = (np.array(state[name]) for name in ("mean", "deviation", "average"))
        self.best_loss, self._notes = state["best_loss"], state["notes"]


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
        raise ValueError(f"{number} is not a number to learn from")
    return number
