"""The command `tune`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from polymodal.cli.commands import app
from polymodal.cli.inputs import as_seconds
from polymodal.core.errors import RecipeError
from polymodal.datasets.planted import make_exclusive_or


def test_times_are_read_as_people_write_them() -> None:
    assert [as_seconds(text) for text in ("90", "90s", "10m", "1.5h", " 2 H ", "none")] == [
        90,
        90,
        600,
        5400,
        7200,
        None,
    ]
    for wrong in ("", "ten", "10d", "-5", "0"):
        with pytest.raises(RecipeError, match="--time-limit"):
            as_seconds(wrong)


def test_a_search_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path / "cache"))
    columns = make_exclusive_or(60, seed=0)
    with (tmp_path / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    (tmp_path / "space.yaml").write_text(
        "hidden_size: [16, 8]\ntraining.learning_rate: {low: 1e-3, high: 3e-2, log: true}\n"
    )
    command = ["tune", str(tmp_path / "table.csv"), "-t", "target", "-o", str(tmp_path / "out"), "--folds", "2"]
    command += ["--trials", "2", "--time-limit", "none", "--space", str(tmp_path / "space.yaml")]
    command += ["--optimize", "score", "--optimize", "size", "-s", "training.epochs=2"]
    first = CliRunner().invoke(app, [*command, "--json"])
    assert first.exit_code == 0, first.output
    value = json.loads(first.output)
    assert value["objectives"] == ["score", "size"]
    assert value["pareto_front"]
    assert (tmp_path / "out" / "best" / "recipe.yaml").is_file()
    again = CliRunner().invoke(app, [*command, "--resume"])
    assert again.exit_code == 0, again.output
    assert "without the selection bias of 2 trials" in again.output
    assert "trial 0" in again.output
    assert "constant" in again.output
