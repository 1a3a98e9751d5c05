"""Law 11: a cell means the same in every file format, alone and beside any other cells.

The kind of a column is decided on the training table. Every later table is read with it.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

from polymodal.data.table.cell_kinds import read_as, read_cell
from polymodal.data.table.table import Table, open_table
from polymodal.model.model import Model
from polymodal.workflows.fit import fit

KINDS = ("text", "integer", "number", "boolean")
#: Cells that look like another type than that of their column.
_WORDS = """
1 1.0 1.10 01 007 0 -0 +5 -7 1e5 1E5 2E3 .5 5. 1_000 0x10 1e400 inf -Infinity NaN nan NA N/A null None <NA> true True
TRUE false False yes no on off ? - -- . * #N/A #DIV/0! 1,234 1.234,5 $25.10 12% 2026-03-02 12:30 3/4 A1 E5 X9 ٣ １２ ½
9007199254740993 9223372036854775808 123456789012345678901234567890 a,b "x" [1,2] {} 🙂
"""
LOOKALIKES = _WORDS.split()
LOOKALIKES += ["", " ", " 7 ", "\ttrue", 'say "x"', "two\nlines", "1\n", "\u200b1", "\x1c1", "1\u00a0000"]


def random_cells(draw: random.Random, count: int) -> list[str | None]:
    """Look-alikes, numbers, and mutations of both."""
    cells: list[str | None] = []
    for _ in range(count):
        kind = draw.random()
        if kind < 0.4:
            cell: str | None = draw.choice(LOOKALIKES)
        elif kind < 0.6:
            cell = str(draw.randint(-(10 ** draw.randint(1, 25)), 10 ** draw.randint(1, 25)))
        elif kind < 0.8:
            cell = f"{draw.uniform(-1, 1) * 10 ** draw.randint(-20, 20):.{draw.randint(0, 9)}{draw.choice('efg')}}"
        elif kind < 0.95:
            cell = draw.choice(LOOKALIKES) + draw.choice(["", "0", ".", "e", " ", "x", "-"])
        else:
            cell = None
        cells.append(cell)
    return cells


def write_csv(columns: dict[str, list[str | None]], path: Path, separator: str = ",") -> Path:
    """Every text in quotes, null as nothing, so that the empty text and null differ."""

    def quoted(cell: str | None) -> str:
        return "" if cell is None else '"' + cell.replace('"', '""') + '"'

    rows = zip(*columns.values(), strict=True)
    lines = [separator.join(columns), *(separator.join(map(quoted, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    return path


def write_json_lines(columns: dict[str, list[Any]], path: Path) -> Path:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def every_format(columns: dict[str, list[Any]], folder: Path) -> dict[str, Any]:
    """The same table in every form that `open_table` reads."""
    table = pa.table({name: pa.array(cells, pa.string()) for name, cells in columns.items()})
    pyarrow.parquet.write_table(table, folder / "t.parquet")
    with pa.ipc.new_file(str(folder / "t.arrow"), table.schema) as writer:
        writer.write_table(table)
    return {
        "csv": write_csv(columns, folder / "t.csv"),
        "tsv": write_csv(columns, folder / "t.tsv", "\t"),
        "json lines": write_json_lines(columns, folder / "t.jsonl"),
        "parquet": folder / "t.parquet",
        "arrow": folder / "t.arrow",
        "pandas": pd.DataFrame(columns, dtype=object),
        "polars": pl.DataFrame(table),
        "dict": columns,
        "rows": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
    }


def cells_of(table: Table, column: str) -> list[Any]:
    values = table.values(column, np.arange(len(table)))
    return values if isinstance(values, list) else values.to_pylist()


def shown(cells: list[Any]) -> list[str]:
    """Cells with their types; 1 and 1.0 of an integer column are one value."""
    return [repr(float(cell) if isinstance(cell, int) and not isinstance(cell, bool) else cell) for cell in cells]


def test_a_cell_is_read_alike_in_every_format_and_beside_every_other_cell(tmp_path: Path) -> None:
    """12 tables of 8 columns and 1,100 rows: 105,600 cells, each read in nine formats and alone."""
    cells = 0
    for seed in range(12):
        draw = random.Random(seed)
        columns = {f"{kind}{at}": random_cells(draw, 1100) for kind in KINDS for at in range(2)}
        kinds = {name: name[:-1] for name in columns}
        alone = {name: [read_cell(cell, kinds[name]) for cell in texts] for name, texts in columns.items()}
        for form, source in every_format(columns, tmp_path).items():
            table = open_table(source, cache=tmp_path / "cache").read_with(kinds)
            for name in columns:
                assert shown(cells_of(table, name)) == shown(alone[name]), (seed, form, name)
        cells += sum(map(len, columns.values()))
        for name, texts in columns.items():  # and in files of a few rows, whose own types differ
            start = draw.randrange(len(texts) - 3)
            few = {name: texts[start : start + draw.randint(1, 3)]}
            small = open_table(write_csv(few, tmp_path / f"{seed}{name}.csv"), cache=tmp_path / "cache")
            assert shown(cells_of(small.read_with(kinds), name)) == shown(alone[name][start : start + len(few[name])])
    assert cells >= 100_000


@pytest.mark.parametrize(
    ("kind", "same"),
    [
        ("integer", [7, 7.0, "7", " 7 ", "7.0", np.int64(7), np.float32(7)]),
        ("integer", [1, True, "true", "1", "TRUE", 1.0]),
        ("number", [2.5, "2.5", "25e-1", np.float64(2.5)]),
        ("boolean", [True, 1, "1", "true", "True", "TRUE", 1.0, np.bool_(True)]),
        ("text", ["7", 7, 7.0, np.int32(7)]),
        ("text", ["true", True, np.bool_(True)]),
        ("list", [[1, 2], "[1, 2]"]),
    ],
)
def test_cells_of_several_types_that_mean_the_same_are_one(kind: Any, same: list[Any]) -> None:
    wanted = read_cell(same[0], kind)
    for cell in same:
        assert repr(read_cell(cell, kind)) == repr(wanted)
        together = read_as([cell, same[0]], kind)
        assert (together if isinstance(together, list) else together.to_pylist()) == [wanted, wanted]


CODES = ["1E5", "2E3", "X9", "007", "1.10"]
FLAGS, VERSIONS = ["true", "false", "maybe"], ["1.10", "1.1", "2.x"]
SETTINGS = {
    "training.epochs": 2,
    "training.precision": "fp32",
    "training.num_threads": 1,
    "evaluation.unimodal_scores": "none",
    "evaluation.bootstrap_samples": 0,
    "hidden_size": 8,
}


def training_columns(rows: int) -> dict[str, list[str | None]]:
    return {
        "code": [CODES[row % 5] for row in range(rows)],
        "flag": [FLAGS[row % 3] for row in range(rows)],
        "version": [
            f"release {VERSIONS[row % 3]} of the month" if row % 4 else VERSIONS[row % 3] for row in range(rows)
        ],
        "truth": [("true", "false")[row // 2 % 2] for row in range(rows)],
        "count": [str(row * 7 % 31) for row in range(rows)],
        "sent": [f"{1 + row * 5 % 28:02}.{1 + row * 7 % 12:02}.2026 {row % 24}:30" for row in range(rows)],
        "took": [f"{row % 50}:{row % 60:02}:15" for row in range(rows)],
        "price": [f"${row * 13 % 1700 + 0.25:,.2f}" for row in range(rows)],
        "y": [str(row % 3) for row in range(rows)],
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("cells")
    return fit(write_csv(training_columns(160), folder / "train.csv"), target="y", settings=SETTINGS)


def test_kinds_are_those_of_the_training_table(model: Model) -> None:
    assert {role.column: role.kind for role in model.run.roles if role.role == "input"} == {
        "code": "category",
        "flag": "category",
        "version": "text",
        "truth": "category",
        "count": "number",
        "price": "number",
        "sent": "datetime",
        "took": "datetime",
    }
    assert model.classes == [0, 1, 2]


def test_a_row_gets_one_prediction_in_every_format_and_alone(model: Model, tmp_path: Path) -> None:
    columns = training_columns(40)
    del columns["y"]
    wanted = model.predict_proba(write_csv(columns, tmp_path / "all.csv"))
    assert len(np.unique(wanted.round(6), axis=0)) > 30
    for form, source in every_format(columns, tmp_path).items():
        np.testing.assert_allclose(model.predict_proba(source), wanted, atol=1e-6, err_msg=form)
    for row in range(0, 40, 3):
        one = {name: [cells[row]] for name, cells in columns.items()}
        alone = model.predict_proba(write_csv(one, tmp_path / f"{row}.csv"))
        np.testing.assert_allclose(alone[0], wanted[row], atol=1e-6)
        single = {name: cells[0] for name, cells in one.items()}
        np.testing.assert_allclose(model.predict_proba(single)[0], wanted[row], atol=1e-6)
        np.testing.assert_allclose(model.predict_proba(json.dumps(single))[0], wanted[row], atol=1e-6)
    typed = {
        **columns,
        "truth": [cell == "true" for cell in columns["truth"]],
        "count": [int(c) for c in columns["count"]],
    }  # type: ignore[arg-type]
    np.testing.assert_allclose(model.predict_proba(typed), wanted, atol=1e-6)
    np.testing.assert_allclose(
        model.predict_proba(write_json_lines(typed, tmp_path / "typed.jsonl")), wanted, atol=1e-6
    )


def test_a_bad_label_costs_one_row_and_labels_of_other_types_are_the_same(model: Model, tmp_path: Path) -> None:
    columns = training_columns(40)
    score = model.evaluate(write_csv(columns, tmp_path / "a.csv"))["y"]["accuracy"]["value"]
    labels = columns["y"]
    for form in ([int(y) for y in labels], [float(y) for y in labels], [f" {y}" for y in labels]):  # type: ignore[arg-type]
        assert model.evaluate({**columns, "y": form})["y"]["accuracy"]["value"] == score
    bad = {**columns, "y": ["?", *labels[1:]]}
    rest = {name: cells[1:] for name, cells in columns.items()}
    with pytest.warns(UserWarning, match="'\\?' is not a number"):
        found = model.evaluate(write_csv(bad, tmp_path / "b.csv"))["y"]["accuracy"]["value"]
    assert found == model.evaluate(rest)["y"]["accuracy"]["value"]


def test_a_few_words_among_numbers_are_bad_cells_in_every_format(tmp_path: Path) -> None:
    """Three of 80 cells are words: the column is one of numbers, and predictions are those of a table without them."""
    draw = np.random.default_rng(0)
    size = [f"{one:.2f}" for one in draw.normal(size=80)]
    spoiled: list[str | None] = ["abc" if row in (7, 30, 51) else one for row, one in enumerate(size)]
    columns: dict[str, list[Any]] = {"size": spoiled, "kind": ["ab"[float(one) > 0] for one in size]}
    blank = [None if one == "abc" else one for one in spoiled]
    wanted: set[str] = set()
    for form, source in {**every_format(columns, tmp_path), "without": columns | {"size": blank}}.items():
        model = fit(source, "kind", quality="fast", settings={"evaluation.bootstrap_samples": 0})
        assert model.recipe.inputs["size"].modality.name == "number", form  # type: ignore[union-attr]
        assert model.run.cell_errors.by_column.get("size", 0) == (0 if form == "without" else 3), form
        wanted.add(repr(model.predict_proba({"size": [-1.0, 0.01, 2.0]}).tolist()))
    assert len(wanted) == 1
