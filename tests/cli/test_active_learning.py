"""`polymodal active-learning`, run as a user runs it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import polymodal
from polymodal.cli.commands import app

RECIPE = {
    "inputs": {"x": {"modality": "number", "columns": ["a"]}},
    "outputs": {"side": "classification"},
    "hidden_size": 16,
    "training": {"epochs": 2, "precision": "fp32", "num_threads": 1},
    "evaluation": {"bootstrap_samples": 0, "unimodal_scores": "none"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("active-learning")
    rows = [{"a": number / 10 - 2, "side": "up" if number > 20 else "down"} for number in range(40)]
    polymodal.fit(rows, recipe=RECIPE, out=place / "model")
    lines = ["a,side", *(f"{number / 7 - 3},{'up' if number < 5 else ''}" for number in range(40)), "broken,"]
    (place / "pool.csv").write_text("\n".join(lines) + "\n")
    return place


def test_rows_are_shown_written_and_given_as_json(folder: Path) -> None:
    arguments = [
        "active-learning",
        str(folder / "model"),
        str(folder / "pool.csv"),
        "--count",
        "6",
        "--strategy",
        "margin",
    ]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    value = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert (value["strategy"], value["pool_size"], value["num_labeled"]) == ("margin", 35, 5)
    assert [fault["row"] for fault in value["cell_errors"]] == [40]
    assert len(value["suggestions"]) == 6
    for suffix in (".csv", ".jsonl"):
        out = folder / f"rows{suffix}"
        assert CliRunner().invoke(app, [*arguments, "--out", str(out)]).exit_code == 0
        text = out.read_text()
        found = (
            list(csv.DictReader(text.splitlines())) if suffix == ".csv" else list(map(json.loads, text.splitlines()))
        )
        assert [int(one["row"]) for one in found] == [one["row"] for one in value["suggestions"]]
        assert set(found[0]) == {"row", "score", "reason"}


def test_other_files_are_refused(folder: Path) -> None:
    arguments = ["active-learning", str(folder / "model"), str(folder / "pool.csv"), "--out", str(folder / "rows.xlsx")]
    assert CliRunner().invoke(app, arguments).exit_code == 2
