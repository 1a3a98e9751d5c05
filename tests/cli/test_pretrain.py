"""Two phases and searching from the command line: what the commands leave, and what they refuse in words."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from polymodal.cli.commands import app
from polymodal.core.errors import DataError, PolymodalError, RecipeError, TrainingError
from setting_lists import replaced

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 40), "blue": (30, 60, 220), "yellow": (230, 220, 30)}
SETTINGS = ["hidden_size=16", "training.num_threads=1", "training.precision=fp32", "evaluation.bootstrap_samples=20"]
SETTINGS += ["evaluation.unimodal_scores=none", "training.learning_rate=0.01"]


def quick(*settings: str) -> list[str]:
    """The arguments of the shared settings and of others, which replace them."""
    return [word for setting in replaced(SETTINGS, *settings) for word in ("--set", setting)]


QUICK = quick()
ROWS = 96


def told(*arguments: str) -> dict[str, Any]:
    """The one JSON object that a command prints."""
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def refused(kind: type[PolymodalError], *arguments: str) -> str:
    """The message with which a command refuses; `main` prints it without a traceback."""
    with pytest.raises(kind) as error:
        CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    return str(error.value)


def write(name: str, rows: list[dict[str, str]], columns: list[str]) -> None:
    with Path(name).open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder, the working one, with tables of coloured photos and captions and a model that aligned them."""
    folder, before = tmp_path_factory.mktemp("pairs"), Path.cwd()
    os.chdir(folder)
    generator, rows = np.random.default_rng(0), []
    for row in range(ROWS):
        colour = list(COLOURS)[row % len(COLOURS)]
        noise = generator.integers(-20, 21, (8, 8, 3))
        Image.fromarray(np.clip(noise + COLOURS[colour], 0, 255).astype(np.uint8)).save(f"{row}.png")
        words = f"a {colour} thing number {generator.integers(100)}"
        rows.append({"photo": f"{row}.png", "caption": words, "colour": colour})
    write("pairs.csv", rows, ["photo", "caption"])
    write("few.csv", rows[:40], ["photo", "colour"])
    halves = [row | {"caption" if place % 2 else "photo": ""} for place, row in enumerate(rows)]
    write("halves.csv", halves, ["photo", "caption"])
    told("pretrain", "pairs.csv", "--out", "aligned", *quick("training.epochs=10"))
    yield folder
    os.chdir(before)


def test_a_pretrained_model_scores_its_objective_and_retrieval() -> None:
    saved = json.loads(Path("aligned/metrics.json").read_text())["test"]
    loss = saved["contrastive.photo-caption"]["loss"]
    assert loss["value"] < loss["baseline"]
    assert told("evaluate", "aligned", "pairs.csv")["scores"].keys() == saved.keys()
    assert {"report.html", "README.md", "recipe.yaml"} <= {path.name for path in Path("aligned").iterdir()}
    assert not Path("aligned/checkpoint.safetensors").exists()


def test_an_index_answers_words_files_and_rows() -> None:
    told("index", "pairs.csv", "--model", "aligned", "--input", "photo", "--out", "index")
    for query in ("a blue thing number 5", "2.png", '{"caption": "a blue thing number 5"}'):
        found = [row["row"] for row in told("search", "index", query, "--top-k", "5")["rows"]]
        assert sum(row % len(COLOURS) == 2 for row in found) >= 4, (query, found)
    assert [row["row"] for row in told("search", "index", "2.png", "--top-k", "1")["rows"]] == [2]
    told("index-delete", "index", "--row", "2")
    assert 2 not in [row["row"] for row in told("search", "index", "2.png", "--top-k", str(ROWS))["rows"]]
    assert "did you mean 'caption'?" in refused(DataError, "search", "index", "blue", "--filter", "captoin == 'a'")
    assert "there is no such file" in refused(DataError, "search", "index", "absent.png")


def test_fit_goes_on_from_it() -> None:
    call = ["few.csv", "--target", "colour", "--init-from", "aligned", *quick("training.epochs=4")]
    told("fit", *call, "--out", "fitted", "--set", "training.param_groups.inputs.photo.encoder.freeze=true")
    assert json.loads(Path("fitted/run.json").read_text())["source_model"]["loaded"]
    assert told("predict", "fitted", "few.csv")["rows"] == 40
    assert "hidden_size" in refused(RecipeError, "fit", *call, "--out", "wide", "--set", "hidden_size=24")
    assert "absent" in refused(RecipeError, "fit", *call[:3], "--init-from", "absent", "--out", "none")


def test_settings_reach_named_objectives() -> None:
    call = ["pretrain", "pairs.csv", "--objective", "contrastive", *quick("training.epochs=1")]
    told(*call, "--out", "warm", "--set", "objectives.0.temperature=0.2")
    assert "temperature: 0.2" in Path("warm/recipe.yaml").read_text()
    other = refused(RecipeError, *call, "--out", "x", "--set", "objectives.0.temprature=0.2")
    assert "did you mean 'temperature'?" in other
    unnamed = refused(RecipeError, "pretrain", "pairs.csv", "--out", "x", "--set", "objectives.0.temperature=0.2")
    assert "add the objective before setting its options" in unnamed


def test_what_cannot_be_learned_is_refused_in_words() -> None:
    call = ["pretrain", "--out", "x", *QUICK]
    assert "did you mean 'contrastive'?" in refused(RecipeError, *call, "pairs.csv", "--objective", "contrasive")
    alone = refused(RecipeError, *call, "few.csv", "--objective", "next_token", "--set", "data.ignore_columns=[colour]")
    assert "text" in alone
    assert "objective 'contrastive' has no loss" in refused(
        TrainingError, "pretrain", "--out", "halves", *QUICK, "halves.csv", "--objective", "contrastive"
    )
    assert "not empty" in refused(PolymodalError, "pretrain", "pairs.csv", "--out", "aligned", *QUICK)


@pytest.mark.parametrize(
    "call",
    [
        ["predict", "aligned", "pairs.csv"],
        ["compress", "aligned", "pairs.csv", "--out", "smaller"],
        ["ensemble", "aligned", "aligned", "--out", "both"],
    ],
)
def test_a_model_without_outputs_is_refused_where_predictions_are_needed(call: list[str]) -> None:
    assert "has no output" in refused(PolymodalError, *call)
