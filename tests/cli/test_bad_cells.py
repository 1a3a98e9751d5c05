"""The command line tells of unusable cells once, before the training if there are many."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from command_line import run_command

QUICK = [
    word
    for setting in (
        "training.epochs=1",
        "training.precision=fp32",
        "training.num_threads=1",
        "hidden_size=8",
        "evaluation.bootstrap_samples=0",
        "evaluation.unimodal_scores=none",
        "inputs.photo.encoder=resnet",
        "inputs.photo.modality={name: image, image_size: 32}",
    )
    for word in ("--set", setting)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("bad")
    for row in range(40):
        Image.new("RGB", (32, 32), (250, 0, 0) if row % 2 else (0, 0, 250)).save(folder / f"{row}.png")
    return folder


def write(folder: Path, bad: int) -> str:
    rows: list[dict[str, Any]] = [{"photo": f"{row}.png", "kind": "ab"[row % 2]} for row in range(40)]
    for row in rows[:bad]:
        row["photo"] = f"https://example.org/{row['photo']}"
    with (folder / f"bad{bad}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return f"bad{bad}.csv"


def test_many_bad_cells_are_told_before_the_training_and_once(folder: Path) -> None:
    done = run_command("fit", write(folder, 12), "--target", "kind", "--out", "many", *QUICK, cwd=folder)
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stderr.split())
    assert "note column 'photo' of bad12.csv: 12 of 40 cells (30%) cannot be used" in words
    assert "12 cells: web addresses are not" in words
    assert "many/cell_errors.jsonl" in words
    assert words.count("cannot be used") + words.count("could not be used") == 1
    assert len((folder / "many" / "cell_errors.jsonl").read_text().splitlines()) == 12


def test_few_bad_cells_are_one_note_after_the_scores(folder: Path) -> None:
    done = run_command("fit", write(folder, 1), "--target", "kind", "--out", "few", *QUICK, cwd=folder)
    words = " ".join(done.stderr.split())
    assert "1 cell could not be used (photo: 1); see few/cell_errors.jsonl" in words
    assert words.count("not be used") == 1


def test_no_usable_cell_ends_the_command(folder: Path) -> None:
    call = ["fit", write(folder, 40), "--target", "kind", "--out", "none", *QUICK]
    done = run_command(*call, cwd=folder)
    assert done.returncode == 2
    assert "the input 'photo' (image) has no usable cell" in " ".join(done.stderr.split())
    done = run_command(*call, "--json", cwd=folder)
    assert json.loads(done.stdout)["kind"] == "DataError"


def test_the_plan_says_why_cells_are_bad(folder: Path) -> None:
    """Before, it said how many there are and nothing else."""
    for bad, refused in ((12, False), (40, True)):
        done = run_command("plan", write(folder, bad), "--target", "kind", *QUICK, cwd=folder)
        words = " ".join(done.stdout.split())
        assert "column 'photo':" in words
        assert "cannot be used" in words
        assert "web addresses are not supported; download the file" in words
        assert ("fit refuses an input without a usable cell" in words) == refused
