"""Scores on training rows say so; notes about groups, rows and classes of given splits."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import polymodal
from polymodal.core.errors import DataError
from polymodal.data.partition import Split
from polymodal.data.table.table import open_table
from polymodal.evaluation.training_rows import (
    BLOCK_ROWS,
    MAX_KEPT,
    TrainingRows,
    TrainingRowsWarning,
    row_hashes,
)
from polymodal.experiments.row_facts import RowsWarning

SETTINGS = ["training.epochs=1", "evaluation.bootstrap_samples=0", "seed=0"]


def table(rows: int, seed: int = 0) -> dict[str, list[Any]]:
    x = np.random.default_rng(seed).normal(size=rows)
    return {"x": x.tolist(), "y": np.where(x > 0, "up", "down").tolist()}


@pytest.fixture(scope="module")
def model() -> polymodal.Model:
    return polymodal.fit(table(100), "y", settings=SETTINGS)


def test_the_training_table_is_recognized(model: polymodal.Model) -> None:
    trained = model.run.splits["train"].rows
    with pytest.warns(TrainingRowsWarning, match=f"trained on {trained} of 100 rows"):
        scores = model.evaluate(table(100))
    assert scores["y"]["accuracy"]["training_rows"] == trained


def test_some_training_rows_in_another_table_are_counted(model: polymodal.Model) -> None:
    old, new = table(100), table(30, seed=1)
    mixed = {name: old[name] + new[name] for name in ("y", "x")}  # other columns' order, other length
    with pytest.warns(TrainingRowsWarning):
        scores = model.evaluate(mixed)
    assert scores["y"]["accuracy"]["training_rows"] == model.run.splits["train"].rows


def test_new_rows_are_not_taken_for_training_rows(model: polymodal.Model) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.evaluate(table(50, seed=2))["y"]["accuracy"]["training_rows"] == 0
    few_values = {"x": [0, 1] * 50, "y": ["a", "b"] * 50}
    other = polymodal.fit(few_values, "y", settings=SETTINGS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.evaluate({name: cells[:10] for name, cells in few_values.items()})


def test_the_record_is_small_and_is_saved(model: polymodal.Model, tmp_path: Any) -> None:
    large = open_table(table(20_000), cache=tmp_path / "cache")
    record = TrainingRows.of(Split.all_rows(large), ["x", "y"], "")
    assert len(record.hashes) <= 8 * MAX_KEPT * 4 / 3 + 4
    assert record.count_in(large, large, ["x", "y"]) == MAX_KEPT
    loaded = polymodal.load(model.save(tmp_path / "m"))
    with pytest.warns(TrainingRowsWarning):
        loaded.evaluate(table(100))
    with pytest.warns(TrainingRowsWarning):
        found = polymodal.compare(model, loaded, table(100))
    assert found["y"]["accuracy"]["training_rows"] == model.run.splits["train"].rows


def test_a_test_table_of_training_rows_is_noted() -> None:
    data = table(100)
    with pytest.warns(RowsWarning, match="10 of 10 test rows are training rows too"):
        trained = polymodal.fit(
            data, "y", test={k: v[:10] for k, v in data.items()}, validation=table(40, 3), settings=SETTINGS
        )
    assert "training rows too" in trained.run.data_notes[0]


def test_groups_of_two_given_splits_are_noted() -> None:
    data = table(60)
    data["part"] = ["train"] * 40 + ["valid"] * 10 + ["test"] * 10
    data["patient"] = [f"p{row // 4}" for row in range(58)] + ["p0", "p1"]
    settings = [*SETTINGS, "data.split.column=part", "data.split.group_column=patient"]
    with pytest.warns(RowsWarning, match="groups of column 'patient' .* training and the test rows"):
        trained = polymodal.fit(data, "y", settings=settings)
    assert any("p0" in note for note in trained.run.data_notes)


def test_classes_that_differ_by_case_are_noted() -> None:
    data = table(60)
    data["y"] = [("UP" if row % 3 else one) if one == "up" else one for row, one in enumerate(data["y"])]
    with pytest.warns(RowsWarning, match="'UP' and 'up' of column 'y' differ by case"):
        trained = polymodal.fit(data, "y", settings=SETTINGS)
    assert sorted(trained.classes) == ["UP", "down", "up"]


def test_numbers_beyond_the_range_of_scores_are_refused() -> None:
    data = table(60)
    data["y"] = [1e300 * one for one in data["x"]]
    with pytest.raises(DataError, match="too large"):
        polymodal.fit(data, "y", settings=SETTINGS, recipe={"outputs": {"y": "regression"}})
    data["y"] = [1e120 * one for one in data["x"]]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        trained = polymodal.fit(data, "y", settings=SETTINGS, recipe={"outputs": {"y": "regression"}})
        score = trained.metrics["test"]["y"]["rmse"]["value"]
        assert 1e119 < score < 1e122
        far = trained.evaluate(table(8, 5) | {"y": [1e149, *[1e120] * 7]})["y"]["rmse"]
    assert far["left_out"] == {"unusable_target": 1}


def test_the_cells_of_few_rows_are_in_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells may be media. The hashes do not depend on the blocks."""
    data = open_table({"a": list(range(1000)), "b": [bytes([one % 7]) * 5 for one in range(1000)]}, cache=None)
    rows, asked = np.arange(1000)[::-1][:700], []
    ordinary = type(data).values

    def values(self: Any, column: str, rows: np.ndarray) -> Any:
        asked.append(len(rows))
        return ordinary(self, column, rows)

    monkeypatch.setattr(type(data), "values", values)
    found = row_hashes(data, rows, ["a", "b"])
    assert max(asked) <= BLOCK_ROWS
    one_by_one = [row_hashes(data, rows[at : at + 1], ["a", "b"])[0] for at in (0, 1, 255, 256, 699)]
    assert found[[0, 1, 255, 256, 699]].tolist() == one_by_one
    assert len(np.unique(found)) == len(found) == 700
