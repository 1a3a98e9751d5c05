"""Files of predictions: every column has a name of its own, and no value is lost or computed."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.checkpoint.output_file import OutputFile
from polymodal.core.errors import DataError
from polymodal.core.formatting import escape_formula
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table
from polymodal.model.prediction_columns import ANSWER, CONFIDENCE, prediction_columns
from polymodal.model.prediction_files import collect, write_predictions
from polymodal.tasks.base import Task
from polymodal.tasks.classification import ClassificationTask
from polymodal.tasks.regression import RegressionTask

TABLE = cast(Table, None)
NAMES = st.lists(st.sampled_from(["a", "b", "class", "answer", "probability", ""]), min_size=1, max_size=3).map(
    ".".join
)
OUTPUTS = st.dictionaries(NAMES.filter(bool), st.lists(NAMES, unique=True, max_size=4), min_size=1, max_size=4)


@dataclass
class Predicted:
    """What is written: the distribution of one row for each output."""

    tasks: dict[str, Task]
    distributions: dict[str, np.ndarray]

    def stream(self, table: Table, cell_errors: CellErrors) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        yield np.arange(1), self.distributions


def predicted(outputs: dict[str, list[str]]) -> Any:
    """Outputs with these classes, the last of them predicted, or of numbers where there are less than two classes."""
    tasks: dict[str, Task] = {}
    distributions = {}
    for number, (name, labels) in enumerate(outputs.items()):
        if len(labels) > 1:
            task: Task = ClassificationTask(ClassificationTask.Options(), columns=[name])
            task.load({"labels": labels, "rows": [1] * len(labels)})
        else:
            task = RegressionTask(RegressionTask.Options(), columns=[name])
        tasks[name] = task
        values = number + np.linspace(0.1, 0.9, max(1, len(labels)))
        order = [labels.index(str(label)) for label in task.classes] if len(labels) > 1 else [0]
        distributions[name] = values[order][None]
    return Predicted(tasks, distributions)


@given(OUTPUTS)
@settings(max_examples=500, deadline=None)
def test_every_value_has_a_column_of_its_own(outputs: dict[str, list[str]]) -> None:
    model = predicted(outputs)
    columns = prediction_columns(model.tasks, probabilities=True)
    assert len(set(columns.values())) == len(columns)
    without = prediction_columns(model.tasks, probabilities=False)
    assert without.items() <= columns.items()
    [row] = collect(model, TABLE, CellErrors(), probabilities=True)
    assert list(row) == list(columns.values())
    for column, title in columns.items():
        own = model.distributions[column.output][0]
        if column.label == ANSWER:
            assert title == column.output
            assert row[title] == model.tasks[column.output].predict(own[None])[0]
        else:
            assert row[title] == (own.max() if column.label == CONFIDENCE else own[column.label])


@given(OUTPUTS)
@settings(max_examples=200, deadline=None)
def test_names_without_a_collision_are_the_short_ones(outputs: dict[str, list[str]]) -> None:
    model = predicted(outputs)
    short = []
    for name, labels in outputs.items():
        short.append(name)
        if len(labels) > 1:
            short += [f"{name}.probability", *(f"{name}.{label}" for label in model.tasks[name].classes)]
    if len(set(short)) == len(short):
        assert list(prediction_columns(model.tasks, probabilities=True).values()) == short


def test_names_of_collisions() -> None:
    model = predicted({"y": ["probability", "neg"], "a": ["b", "c"], "a.b": [], "y.probability": []})
    assert list(prediction_columns(model.tasks, probabilities=True).values()) == [
        *("y", "y.answer.probability", "y.neg", "y.class.probability"),
        *("a", "a.probability", "a.class.b", "a.c"),
        *("a.b", "y.probability"),
    ]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_no_format_loses_a_column(tmp_path: Path, suffix: str) -> None:
    model = predicted({"y": ["probability", "neg"], "y.neg": []})
    path = tmp_path / f"p{suffix}"
    write_predictions(model, TABLE, CellErrors(), OutputFile(path), probabilities=True)
    if suffix == ".parquet":
        row: dict[str, Any] = pq.read_table(path).to_pylist()[0]
    elif suffix == ".jsonl":
        row = json.loads(path.read_text())
    else:
        [row] = csv.DictReader(path.open(), delimiter="\t" if suffix == ".tsv" else ",")
    assert {name: row[name] if name == "y" else float(row[name]) for name in row} == {
        "y": "neg",
        "y.probability": pytest.approx(0.9),
        "y.class.probability": pytest.approx(0.1),
        "y.class.neg": pytest.approx(0.9),
        "y.neg": pytest.approx(1.1),
    }


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", "\n=1", "=", "-"]
NO_FORMULAS = ["-1", "+1.5", "-1e5", "red", "", "a=b", " =1", "1-1", "'=1"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("label", [*FORMULAS, *NO_FORMULAS])
def test_formulas_are_written_as_texts_on_request(tmp_path: Path, suffix: str, label: str) -> None:
    model = predicted({"=y": ["other", label or "empty"]})
    for escape, title, cell in ((False, "=y", label), (True, "'=y", f"'{label}" if label in FORMULAS else label)):
        path = tmp_path / f"p{suffix}"
        out = OutputFile(path, overwrite=True)
        write_predictions(model, TABLE, CellErrors(), out, probabilities=False, escape_formulas=escape)
        with path.open(newline="") as file:
            [row] = csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ",")
        assert row[title] == (cell or "empty")
        assert float(row[escape_formula(f"{title}.probability") if escape else "=y.probability"]) == pytest.approx(0.9)


def test_escaped_formulas_need_a_file_that_has_formulas(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a \.jsonl file holds no formulas; write \.csv or \.tsv"):
        write_predictions(
            predicted({"y": []}),
            TABLE,
            CellErrors(),
            OutputFile(tmp_path / "p.jsonl"),
            probabilities=False,
            escape_formulas=True,
        )
    with pytest.raises(DataError, match="'=y' and \"'=y\" would have one name"):
        write_predictions(
            predicted({"=y": [], "'=y": []}),
            TABLE,
            CellErrors(),
            OutputFile(tmp_path / "p.csv"),
            probabilities=False,
            escape_formulas=True,
        )


@given(st.text() | st.sampled_from(FORMULAS + NO_FORMULAS) | st.floats() | st.none())
@settings(max_examples=300, deadline=None)
def test_an_escaped_cell_is_no_formula_and_can_be_read_back(cell: Any) -> None:
    escaped = escape_formula(cell)
    assert escaped == cell or escaped == f"'{cell}" or cell != cell
    if isinstance(escaped, str) and escaped[:1] in ("=", "+", "-", "@", "\t", "\r", "\n"):
        float(escaped)
    assert repr(escape_formula(escaped)) == repr(escaped)
