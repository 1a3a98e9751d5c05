"""`polymodal transcribe`, run as a user runs it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import polymodal
from polymodal.cli import main

RATE = 8_000


def tone(seconds: float) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * RATE)) / RATE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that hears a second and a half, and a table: a long sound with a pause, a silent one, and no file."""
    place = tmp_path_factory.mktemp("own")
    rows = [{"sound": {"array": tone(0.5 + row / 20), "sampling_rate": RATE}, "text": "a note"} for row in range(12)]
    polymodal.fit(
        rows,
        "text",
        recipe={
            "inputs": {"sound": {"modality": {"name": "audio", "seconds": 1.5, "sampling_rate": RATE}}},
            "outputs": {"text": "text_generation"},
            "hidden_size": 16,
            "training": {"epochs": 1, "precision": "fp32", "num_threads": 1},
            "evaluation": {"bootstrap_samples": 0},
        },
        out=place / "model",
    )
    soundfile.write(place / "long.wav", np.concatenate([tone(1.0), np.zeros(RATE), tone(1.0)]), RATE)
    soundfile.write(place / "quiet.wav", np.zeros(RATE), RATE)
    (place / "table.csv").write_text("sound\nlong.wav\nquiet.wav\ngone.wav\n", encoding="utf-8")
    return place


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["polymodal", "transcribe", "model", "table.csv", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_rows_line_up_and_parts_have_their_times(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, monkeypatch, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    long, quiet, gone = (one["segments"] for one in told["transcripts"])
    assert [(round(part["start"]), round(part["end"])) for part in long] == [(0, 1), (2, 3)]
    assert quiet == gone == []
    assert [fault["row"] for fault in told["cell_errors"]] == [2]


def test_a_file_has_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, monkeypatch, "--out", "found.jsonl") == 0
    lines = [json.loads(line) for line in (folder / "found.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [len(line["segments"]) for line in lines] == [2, 0, 0]
    assert "row 2, column sound" in capsys.readouterr().err


def test_a_table_is_not_written_as_a_spreadsheet(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, monkeypatch, "--out", "found.csv") == 2
    assert ".jsonl" in capsys.readouterr().err
