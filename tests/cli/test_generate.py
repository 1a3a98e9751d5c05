"""`polymodal generate`, run as a user runs it."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import polymodal
from polymodal.cli import main

RECIPE = {
    "inputs": {"colour": "category"},
    "outputs": {
        "answer": {
            "task": {"name": "text_generation", "prompt": "{question}:", "max_prompt_length": 20, "vocab_size": 300}
        },
    },
    "hidden_size": 16,
    "training": {"epochs": 1, "precision": "fp32", "num_threads": 1},
    "evaluation": {"bootstrap_samples": 20, "unimodal_scores": "none"},
}


Run = Callable[..., tuple[str, str]]


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in the folder: what it prints on standard output and on standard error."""

    def command(*arguments: str, status: int = 0) -> tuple[str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["polymodal", "generate", *arguments])
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        assert ended.value.code == status, told
        return told

    return command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("own")
    colours = ["red", "green", "blue"] * 10
    rows = [{"colour": one, "question": "which", "answer": f"it is {one}"} for one in colours]
    polymodal.fit(rows, "answer", recipe=RECIPE, out=place / "model")
    lines = [json.dumps(row) for row in rows[:4]]
    lines.append(json.dumps({"colour": "red", "question": "which " * 30, "answer": ""}))
    (place / "table.jsonl").write_text("\n".join(lines) + "\n")
    (place / "schema.json").write_text(json.dumps({"type": "array", "items": {"type": "integer"}, "minItems": 2}))
    return place


def test_texts_of_a_table_go_to_a_file(folder: Path, run: Run) -> None:
    settings = [
        "-s",
        "temperature=1.0",
        "-s",
        "num_return_sequences=3",
        "-s",
        "regex=[a-f]{2,9}",
        "-s",
        "max_new_tokens=12",
    ]
    told, notes = run("model", "table.jsonl", "--out", "texts.jsonl", *settings)
    assert "texts of 5 rows in texts.jsonl" in told
    assert "row 4, column question" in notes
    found = [json.loads(line) for line in (folder / "texts.jsonl").read_text().splitlines()]
    assert [one["row"] for one in found] == [0, 1, 2, 3, 4]
    assert [len(one["texts"]) for one in found] == [3, 3, 3, 3, 0]
    for text in (text for one in found for text in one["texts"]):
        assert set(text["text"]) <= set("abcdef")
        assert text["log_probability"] < 0
        assert text["finish_reason"] == "end"
    assert not (folder / "texts.jsonl.part").exists()


def test_one_row_is_written_as_json_and_streamed(run: Run) -> None:
    row = json.dumps({"colour": "red", "question": "which"})
    told, _ = run("model", row, "-s", "json_schema=schema.json", "-s", "max_new_tokens=30", "--json")
    value = json.loads(told)
    (one,) = value["texts"]
    assert len(json.loads(one["texts"][0]["text"])) >= 2
    assert value["cell_errors"] == []
    streamed, _ = run("model", row, "-s", "json_schema=schema.json", "-s", "max_new_tokens=30", "--stream")
    assert streamed == one["texts"][0]["text"] + "\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-s", "regex=("], "outputs.answer.task.generation.regex: unclosed group"),
        (["-s", "beems=4"], "did you mean 'num_beams'"),
        (["-s", "json_schema=none.json"], "the file 'none.json' cannot be read"),
    ],
)
def test_mistakes_are_told(folder: Path, run: Run, arguments: list[str], message: str) -> None:
    _, notes = run("model", "table.jsonl", "--out", "none.jsonl", *arguments, status=2)
    assert message in notes
    assert not (folder / "none.jsonl").exists()
