"""The commands, run as a user runs them: each kind of them once in a process of its own, the others in this one."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import Done, run_command
from polymodal.datasets import planted

SETTINGS = ["training.epochs=2", "hidden_size=16", "training.num_threads=1", "training.precision=fp32"]
SETTINGS += ["evaluation.bootstrap_samples=20", "evaluation.unimodal_scores=mask"]
QUICK = [word for setting in SETTINGS for word in ("--set", setting)]


def run(*arguments: str, cwd: Path, status: int = 0) -> Done:
    done = run_command(*arguments, cwd=cwd)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def start(*arguments: str, cwd: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own: nothing but the entry point and the environment is there before it."""
    done = subprocess.run(
        [sys.executable, "-m", "polymodal", *arguments], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photos and a table about them, with one broken and one missing photo, and a model of it."""
    place = tmp_path_factory.mktemp("own")
    (place / "photos").mkdir()
    columns = planted.make_mixed(120, 0, missing_ratio=0.0)
    with (place / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["photo", "question", "score", "mode", "answer"])
        for i in range(120):
            columns["image"][i].save(place / "photos" / f"{i}.png")
            cells = [columns[name][i] for name in ("question", "score", "mode", "answer")]
            writer.writerow([f"photos/{i}.png", *cells])
    (place / "photos" / "3.png").write_bytes(b"not an image")
    (place / "photos" / "4.png").unlink()
    start("fit", "table.csv", "--target", "answer", "--out", "model", *QUICK, cwd=place)
    return place


def test_fit_leaves_a_model_directory(folder: Path) -> None:
    names = {path.name for path in (folder / "model").iterdir()}
    assert {"model.safetensors", "recipe.yaml", "metrics.json", "run.json", "README.md", "report.html"} <= names
    assert "checkpoint.safetensors" not in names
    faults = [json.loads(line) for line in (folder / "model" / "cell_errors.jsonl").read_text().splitlines()]
    assert [(fault["row"], fault["column"], fault["file"]) for fault in faults] == [
        (3, "photo", "photos/3.png"),
        (4, "photo", "photos/4.png"),
    ]
    score = json.loads((folder / "model" / "metrics.json").read_text())["test"]["answer"]["accuracy"]
    assert score["low"] <= score["value"] <= score["high"]
    assert set(score["unimodal"]) == {"photo", "question", "score", "mode"}


def test_json_is_the_only_thing_on_standard_output(folder: Path) -> None:
    calls = [
        ["fit", "table.csv", "-t", "answer", "-o", "again", "--json", *QUICK],
        ["predict", "model", "table.csv", "--json"],
        ["predict", "model", "table.csv", "--out", "p.csv", "--json"],
        ["evaluate", "model", "table.csv", "--json"],
        ["plan", "table.csv", "-t", "answer", "--json"],
        ["list", "--json"],
        ["schema"],
    ]
    for call in calls:
        assert isinstance(json.loads(run(*call, cwd=folder).stdout), dict), call
    in_a_process = start("predict", "model", "table.csv", "--json", cwd=folder).stdout
    assert json.loads(in_a_process) == json.loads(run("predict", "model", "table.csv", "--json", cwd=folder).stdout)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet", "arrow"])
def test_predictions_line_up_in_every_format(folder: Path, suffix: str) -> None:
    from polymodal.data.table.table import open_table

    run("predict", "model", "table.csv", "--out", f"out.{suffix}", "--probabilities", cwd=folder)
    table = open_table(folder / f"out.{suffix}", cache=folder / "cache")
    assert len(table) == 120
    answers = table.values("answer", np.arange(120)).to_pylist()
    shown = json.loads(run("predict", "model", "table.csv", "--json", cwd=folder).stdout)
    assert answers == [row["answer"] for row in shown["predictions"]]
    assert {"answer.probability", "answer.yes", "answer.no"} < set(table.columns)
    assert {fault["row"] for fault in shown["cell_errors"]} == {3, 4}


def test_a_single_row_is_answered(folder: Path) -> None:
    Image.new("RGB", (40, 30), (210, 40, 40)).save(folder / "new.png")
    row = {"photo": "new.png", "question": "is the figure red ?", "score": 0.4, "mode": None}
    answer = json.loads(run("predict", "model", json.dumps(row), "--json", cwd=folder).stdout)
    assert answer["rows"] == 1
    assert answer["predictions"][0]["answer"] in ("yes", "no")
    assert answer["cell_errors"] == []


def test_errors_are_short_and_typed(folder: Path) -> None:
    wrong = start("fit", "table.csv", "-t", "anwser", "-o", "x", cwd=folder, status=2)
    assert "did you mean 'answer'?" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert wrong.stdout == ""
    as_json = run("fit", "table.csv", "-t", "anwser", "-o", "x", "--json", cwd=folder, status=2)
    assert json.loads(as_json.stdout)["kind"] == "RecipeError"
    strict = run("fit", "table.csv", "-t", "answer", "-o", "x", "--strict", cwd=folder, status=2)
    assert "row 3" in strict.stderr
    assert "photos/3.png" in strict.stderr
    taken = run("fit", "table.csv", "-t", "answer", "-o", "model", cwd=folder, status=2)
    assert "not empty" in taken.stderr
    assert (folder / "model" / "model.safetensors").is_file()
    assert "not a model directory" in run("predict", "photos", "table.csv", cwd=folder, status=2).stderr


def test_a_foreign_folder_is_never_overwritten(folder: Path) -> None:
    assert (
        "not overwritten"
        in run("fit", "table.csv", "-t", "answer", "-o", "photos", "--overwrite", cwd=folder, status=2).stderr
    )
    assert (folder / "photos" / "0.png").is_file()


def test_the_written_recipe_repeats_the_run(folder: Path) -> None:
    call = ["fit", "table.csv", "--recipe", "model/recipe.yaml", "-o", "repeated"]
    run(*call, cwd=folder)
    first, second = ((folder / name / "model.safetensors").read_bytes() for name in ("model", "repeated"))
    assert first == second


def test_the_demonstration_runs(folder: Path) -> None:
    pytest.importorskip("easy_vqa", reason="the demonstration needs the package easy-vqa (extra demo)")
    settings = [
        "--set",
        "training.epochs=1",
        "--set",
        "evaluation.unimodal_scores=none",
        "--set",
        "evaluation.bootstrap_samples=10",
    ]
    run("demo", "--out", "demo", *settings, cwd=folder)
    score = json.loads((folder / "demo" / "metrics.json").read_text())["test"]["answer"]["accuracy"]
    assert score["value"] > score["baseline"] > 0.3
    answer = run(
        "predict", "demo", '{"image": "photos/0.png", "question": "is there a red shape?"}', "--json", cwd=folder
    )
    assert json.loads(answer.stdout)["predictions"][0]["answer"]


def test_a_model_is_compressed_and_bad_cells_are_one_note(folder: Path) -> None:
    """What Python prints of a warning names a line of code, which tells a user nothing."""
    done = start("compress", "model", "table.csv", "--out", "small", "--dtype", "int8_weight_only", cwd=folder)
    assert done.stderr.startswith("note  2 cells could not be used")
    assert done.stderr.count("\n") == 1
    assert "chosen" in done.stdout
    assert json.loads((folder / "small" / "compression.json").read_text())["chosen"] == "int8_weight_only"
    assert run("predict", "small", "table.csv", "--json", cwd=folder).stdout


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys; import polymodal.cli.commands; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
