"""Regression: standardization, missing values, losses, and the log transform."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from polymodal.core.errors import DataError
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.recipe.data import LimitOptions
from polymodal.tasks.regression import RegressionTask

torch.set_num_threads(1)


def block(columns: dict[str, Any], faults: CellErrors | None = None) -> RowBlock:
    rows = np.arange(len(next(iter(columns.values()))))
    return RowBlock(columns, rows, None, "t", faults or CellErrors(), LimitOptions())


def fitted(columns: dict[str, Any], **options: Any) -> RegressionTask:
    task = RegressionTask(RegressionTask.Options(**options), columns=list(columns))
    task.fit(iter([block(columns)]))
    return task


@pytest.mark.parametrize("transform", ["none", "log"])
def test_numbers_come_back_in_the_users_unit(transform: str) -> None:
    columns = {"a": [1, 5, 2, 900], "b": pa.array([0.5, 0.25, 4.0, 1.0])}
    task = fitted(columns, transform=transform)
    again = RegressionTask(RegressionTask.Options(transform=transform), columns=["a", "b"])
    again.load(json.loads(json.dumps(task.save())))
    for one in (task, again):
        value, present = one.prepare(block(columns))
        assert present.all()
        np.testing.assert_allclose(value.mean(0), 0, atol=1e-6)
        np.testing.assert_allclose(value.std(0), 1, atol=1e-6)
        back = one.distribution(torch.from_numpy(value))
        np.testing.assert_allclose(back, [[1, 0.5], [5, 0.25], [2, 4], [900, 1]], rtol=1e-5)
        np.testing.assert_allclose(one.truth(value), back)
        assert one.predict(back) == back.tolist()
    np.testing.assert_allclose(task.baseline_prediction(), [227, 1.4375])
    assert again.baseline_loss() == task.baseline_loss()


def test_one_column_predicts_plain_numbers_and_large_offsets_keep_their_digits() -> None:
    task = fitted({"a": [1.7e9, 1.7e9 + 1, 1.7e9 + 2]})
    value, _ = task.prepare(block({"a": [1.7e9 + 1.5]}))
    assert task.predict(task.distribution(torch.from_numpy(value))) == pytest.approx([1.7e9 + 1.5], abs=1e-3)


def test_bad_numbers_are_cell_errors_and_null_is_missing() -> None:
    task, faults = fitted({"a": [1, 2, math.inf, Decimal(3), None, "x"]}), CellErrors()
    cells = [1.0, math.nan, None, -math.inf, "seven", True, 10**400, 2]
    value, present = task.prepare(block({"a": cells}, faults))
    assert present.tolist() == [True, False, False, False, False, False, False, True]
    assert [fault.row for fault in faults.errors] == [1, 3, 4, 5, 6]
    assert not value[~present].any()
    assert torch.isfinite(task.loss(torch.zeros(8, 1), torch.from_numpy(value))).all()
    np.testing.assert_allclose(task.baseline_prediction(), [2.0])


def test_a_row_needs_all_of_its_numbers() -> None:
    task = fitted({"a": [1, 2, 3, None, 5], "b": [1, 0, None, None, 7]})
    assert task.prepare(block({"a": [1, None], "b": [None, 2]}))[1].tolist() == [False, False]
    np.testing.assert_allclose(task.baseline_prediction(), [8 / 3, 8 / 3])
    assert task.notes == ["training rows with missing numbers, which are ignored: 1"]


@pytest.mark.parametrize("cells", [[], [None], [math.nan, math.inf], ["a", "b"], [4, 4, 4], [1]])
def test_nothing_to_learn_is_an_error(cells: list[Any]) -> None:
    with pytest.raises(DataError, match="column 'a'"):
        fitted({"a": cells})


def test_log_refuses_numbers_without_a_logarithm() -> None:
    with pytest.raises(DataError, match=r"row 1, column 'a'.*-1 has no log\(1 \+ y\)"):
        fitted({"a": [3, -1, 5]}, transform="log")
    task, faults = fitted({"a": [3, 0, 5]}, transform="log"), CellErrors()
    value, present = task.prepare(block({"a": [-0.5, -2, 4]}, faults))
    assert present.tolist() == [True, False, True]
    assert [fault.row for fault in faults.errors] == [1]
    assert np.isfinite(value).all()


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("transform", ["none", "log"])
@pytest.mark.parametrize(
    ("loss", "delta"), [("squared_error", None), ("absolute_error", None), ("huber", None), ("huber", 0.3)]
)
def test_loss_equals_torch_and_the_baseline_is_the_best_constant(
    loss: str, delta: float | None, transform: str, targets: int
) -> None:
    rng = np.random.default_rng(1)
    columns = {f"c{t}": rng.exponential(size=41).tolist() for t in range(targets)}
    task = fitted(columns, loss=loss, huber_delta=delta, transform=transform)
    target = torch.from_numpy(task.prepare(block(columns))[0])
    reference = {
        "squared_error": lambda v, z: (v - z) ** 2,
        "absolute_error": lambda v, z: (v - z).abs(),
        "huber": lambda v, z: functional.huber_loss(v, z, delta=delta or 1.0, reduction="none"),
    }[loss]
    values = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(task.loss(values, target), reference(values, target).mean(1))
    assert task.loss(values.bfloat16(), target).dtype == torch.float32
    grid = torch.linspace(-3, 3, 6001)[:, None]
    best = [float(reference(*torch.broadcast_tensors(grid, target[:, t])).mean(1).min()) for t in range(targets)]
    assert np.mean(best) - 1e-4 < task.baseline_loss() <= np.mean(best) + 1e-6


def test_delta_belongs_to_huber() -> None:
    with pytest.raises(ValidationError, match="huber_delta needs loss: huber"):
        RegressionTask.Options(loss="squared_error", huber_delta=2.0)
    for options in (RegressionTask.Options(), RegressionTask.Options(loss="huber", huber_delta=2.0)):
        assert RegressionTask.Options.model_validate(options.model_dump()) == options


def test_the_loss_chooses_the_leading_metric() -> None:
    assert fitted({"a": [1, 2]}).metrics[0].name == "rmse"
    assert fitted({"a": [1, 2]}, loss="absolute_error").metrics[0].name == "mae"
