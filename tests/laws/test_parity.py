"""Law 10: every face of a model gives the same answers."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from laws.samples import Columns, sample_table, trained
from polymodal.model.model import Model

ROWS = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parity")


@pytest.fixture(scope="module")
def columns(folder: Path) -> Columns:
    """Inputs of every kind, images as paths; the targets are there too."""
    found, _ = sample_table(
        ["text", "image", "number", "category"],
        ["classification", "multilabel_classification", "regression", "text_generation"],
        ROWS,
    )
    found["outlier"] = [None if cell is None else float(f"{cell:.3f}") for cell in found["outlier"]]
    for row, image in enumerate(found["image"]):
        image.save(folder / f"{row}.png")
    return found | {"image": [f"{row}.png" for row in range(ROWS)]}


@pytest.fixture(scope="module")
def model(folder: Path, columns: Columns) -> Model:
    from polymodal.data.table.table import open_table

    _, recipe = sample_table(
        ["text", "image", "number", "category"],
        ["classification", "multilabel_classification", "regression", "text_generation"],
        ROWS,
    )
    table: Any = open_table(columns, root=folder, cache=folder / "tables")
    parts = {"train": table, "validation": table}
    return trained(parts, folder / "prepared", **recipe, fusion="attention", training={"epochs": 2, "batch_size": 8})


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert list(found) == list(wanted)
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])


def inputs_of(model: Model, columns: Columns) -> Columns:
    return {name: columns[name] for name in model.preparation.input_columns}


@pytest.mark.parametrize("source", ["rows", "pandas", "polars", "arrow", "csv", "jsonl", "parquet"])
def test_every_source_of_rows(source: str, model: Model, columns: Columns, folder: Path) -> None:
    read = inputs_of(model, columns)
    rows = [dict(zip(read, cells, strict=True)) for cells in zip(*read.values(), strict=True)]
    path = folder / f"rows.{source}"
    data: Any = path
    if source == "rows":
        data = rows
    elif source == "pandas":
        data = pytest.importorskip("pandas").DataFrame(read)
    elif source == "polars":
        data = pytest.importorskip("polars").DataFrame(read)
    elif source == "arrow":
        data = pa.table(read)
    elif source == "parquet":
        parquet.write_table(pa.table(read), path)
    elif source == "jsonl":
        import json

        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(read))
            writer.writeheader()
            writer.writerows(rows)
    found, wanted = model.predict_proba(data, root=folder), model.predict_proba(read, root=folder)
    assert_same({name: as_array(one) for name, one in found.items()}, wanted)
    answers = model.predict(data, root=folder)
    frames = {"pandas": lambda: answers.to_dict("list"), "polars": lambda: answers.to_dict(as_series=False)}
    frames["arrow"] = lambda: answers.to_pydict()
    assert frames.get(source, lambda: answers)() == model.predict(read, root=folder)


def as_array(values: Any) -> np.ndarray:
    """The numbers of a frame or table `[rows, columns]`."""
    if isinstance(values, pa.Table):
        return np.stack([column.to_numpy() for column in values.columns], 1)
    return np.asarray(values)


def test_saved_and_loaded(model: Model, columns: Columns, folder: Path) -> None:
    loaded = Model.load(model.save(folder / "model"))
    assert_same(loaded.predict_proba(columns, root=folder), model.predict_proba(columns, root=folder))
    assert loaded.predict(columns, root=folder) == model.predict(columns, root=folder)
    assert loaded.recipe.to_dict() == model.recipe.to_dict()
    assert loaded.classes == model.classes
    again = Model.load(loaded.save(folder / "again"))
    for name in ("model.safetensors", "recipe.yaml", "preparation.json"):
        assert (folder / "model" / name).read_bytes() == (folder / "again" / name).read_bytes()
    assert_same(again.predict_proba(columns, root=folder), model.predict_proba(columns, root=folder))


def test_one_row_equals_many(model: Model, columns: Columns, folder: Path) -> None:
    read = inputs_of(model, columns)
    many, answers = model.predict_proba(read, root=folder), model.predict(read, root=folder)
    for row in range(ROWS):
        one = {name: cells[row] for name, cells in read.items()}
        found = model.predict_proba(one, root=folder)
        for name in many:
            if name == "y_text_generation":
                assert found[name][0] == many[name][row]
            else:
                np.testing.assert_allclose(found[name][0], many[name][row], rtol=1e-4, atol=1e-5)
        again = model.predict(one, root=folder)
        assert again["y_classification"] == [answers["y_classification"][row]]
        assert again["y_text_generation"] == [answers["y_text_generation"][row]]


def test_evaluation_scores_what_prediction_says(model: Model, columns: Columns, folder: Path) -> None:
    answers = model.predict(columns, root=folder)["y_classification"]
    right = np.mean([one == other for one, other in zip(answers, columns["y_classification"], strict=True)])
    scores = model.evaluate(columns, root=folder)
    assert scores["y_classification"]["accuracy"]["value"] == pytest.approx(right)
