"""No command sends control characters of cells, labels, columns or file names to the terminal."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import polymodal
from command_line import Done, run_command
from polymodal.cli.commands import COMMANDS
from polymodal.core.errors import DataError, PolymodalError, RecipeError
from polymodal.core.formatting import escape_controls

SOURCES = Path(polymodal.__file__).parent
#: Everything that may steer a terminal: C0 without line feed, DEL, C1, changes of direction, line separators.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
CLEAR, TITLE, COLOR, BIDI, RETURN = "\x1b[2J", "\x1b]0;pwn\x07", "\x9b31m", "\u202e", "\r\x7f\x08"
TEXT, PICTURE, TARGET = f"text{CLEAR}", f"photo{COLOR}", f"y{BIDI}"
LABELS = [f"p{TITLE}", f"q{COLOR}{BIDI}"]
MODEL, TABLE, BAD = f"model{COLOR}", f"table{CLEAR}.jsonl", f"bad{TITLE}.jsonl"
#: Commands that print neither cells nor names of the user's files, or only after minutes; `demo` prints like `fit`.
WITHOUT_CELLS = {"list", "recipes", "schema", "cache", "demo", "doctor"}
SETTINGS = [
    *("training.epochs=1", "hidden_size=8", "evaluation.bootstrap_samples=0", "training.precision=fp32"),
    *("evaluation.unimodal_scores=none",),
]
CHANGES = [word for one in SETTINGS for word in ("--set", one)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with hostile tables and a model of them."""
    place = tmp_path_factory.mktemp("hostile")
    for color in ("red", "blue"):
        Image.new("RGB", (16, 16), color).save(place / f"{color}{CLEAR}.png")
    rows = [
        {TEXT: f"word{i % 2}{CLEAR}{BIDI}", PICTURE: f"{('red', 'blue')[i % 2]}{CLEAR}.png", TARGET: LABELS[i % 2]}
        for i in range(60)
    ]
    write(place / TABLE, rows)
    write(place / BAD, [{**rows[0], PICTURE: f"no{CLEAR}{TITLE}.png"}, {**rows[1], TARGET: f"unknown{COLOR}"}])
    done = command(place, "fit", TABLE, "--target", TARGET, "--out", MODEL, *CHANGES, "--set", f"data.ignore=[{COLOR}]")
    assert done.returncode == 2  # the column to ignore does not exist
    done = command(place, "fit", TABLE, "--target", TARGET, "--out", MODEL, *CHANGES)
    assert done.returncode == 0, done.stderr
    return place


def write(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def command(place: Path, *words: str) -> Done:
    """A command whose output is checked for control characters."""
    done = run_command(*words, cwd=place)
    for stream in (done.stdout, done.stderr):
        found = CONTROL.search(stream)
        assert not found, (words, found, stream[max(0, found.start() - 60) : found.end() + 20])
    return done


#: By command: arguments that print hostile names, and whether the command succeeds.
ARGUMENTS: dict[str, list[tuple[list[str], bool]]] = {
    "fit": [([TABLE, "--target", f"no{CLEAR}", "--out", "x"], False), ([f"no{TITLE}.csv", "--out", "x"], False)],
    "plan": [([TABLE, "--target", TARGET], True), ([TABLE, "--target", TARGET, "--yaml"], True)],
    "init": [([TABLE, "--target", TARGET], True), ([TABLE, "--target", TARGET, "--out", f"x{CLEAR}.yaml"], True)],
    "pretrain": [([TABLE, "--objective", f"no{CLEAR}", "--out", "x"], False)],
    "predict": [
        ([MODEL, TABLE, "--probabilities"], True),
        ([MODEL, BAD], True),
        ([MODEL, BAD, "--json", "--probabilities"], True),
        ([MODEL, BAD, "--strict"], False),
        ([MODEL, BAD, "--strict", "--json"], False),
        ([MODEL, BAD, "--out", f"out{CLEAR}.csv"], True),
        ([MODEL, TABLE, "--out", f"out.{CLEAR}"], False),
        ([MODEL, f"surplus{CLEAR}", f"more{TITLE}"], False),
        ([MODEL, TABLE, f"--no{CLEAR}"], False),
        ([f"none{CLEAR}", TABLE], False),
    ],
    "evaluate": [([MODEL, BAD], True), ([MODEL, BAD, "--json"], True), ([MODEL, BAD, "--strict"], False)],
    "diagnose": [
        ([MODEL, BAD, "--reference", TABLE], True),
        ([MODEL, TABLE, "-c", f"no{CLEAR}"], False),
    ],
    "explain": [
        ([MODEL, BAD], True),
        ([MODEL, TABLE, "--input", TEXT, "--json"], True),
        ([MODEL, TABLE, "-i", f"no{CLEAR}"], False),
    ],
    "cross-validate": [([TABLE, "--target", TARGET, "--folds", "2", *CHANGES], True)],
    "compare": [([MODEL, MODEL, BAD], True)],
    "ensemble": [([MODEL, MODEL, "--out", f"two{CLEAR}"], True)],
    "compress": [([MODEL, TABLE, "--out", f"small{CLEAR}", "--dtype", "fp32"], True)],
    "export": [([MODEL, f"no{CLEAR}.csv", "--out", "x"], False), ([f"no{CLEAR}", TABLE, "--out", "x"], False)],
    "curate": [([BAD, "--model", MODEL, "--out", f"curated{COLOR}"], None)],  # type: ignore[list-item]
    "index": [([BAD, "--model", MODEL, "--out", f"found{CLEAR}"], None)],  # type: ignore[list-item]
    "search": [([f"found{CLEAR}", json.dumps({TEXT: "word1"})], None)],  # type: ignore[list-item]
    "serve": [
        ([f"no{CLEAR}"], False),
        ([MODEL, "--host", f"no{CLEAR}"], False),
        ([f"{TITLE}={MODEL}", MODEL, MODEL], False),
        ([MODEL, "--device", f"no{CLEAR}"], False),
    ],
    "index-delete": [([f"found{CLEAR}", "--filter", f"'{CLEAR}' == {TITLE}"], False)],
    "active-learning": [([MODEL, BAD, "-n", "1", "--target", f"none{CLEAR}"], False), ([MODEL, BAD, "-n", "1"], None)],  # type: ignore[list-item]
    "generate": [([MODEL, TABLE], False)],
    "transcribe": [([MODEL, TABLE], False)],
    "zero-shot": [([MODEL, TABLE, "--classes", f"a{CLEAR},b"], False)],
    "few-shot": [([MODEL, BAD, "--target", f"none{CLEAR}", "--out", "few"], False)],
    "tune": [([f"no{CLEAR}.csv", "--out", "tuned"], False), ([TABLE, "--target", f"no{CLEAR}", "--out", "t"], False)],
    "tune-worker": [([TABLE, "--search", f"no{CLEAR}", "--storage", f"no{CLEAR}"], False)],
    "prepare": [
        ([TABLE, "--target", f"no{CLEAR}", "--out", "store"], False),
        ([f"no{CLEAR}.csv", "--out", "s"], False),
    ],
    "multitask-gain": [([TABLE, "--target", f"no{CLEAR}", "--target", TARGET, "--out", "x"], False)],
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_no_command_prints_control_characters(folder: Path, name: str) -> None:
    for words, succeeds in ARGUMENTS[name]:
        done = command(folder, name, *words)
        if succeeds is not None:
            assert (done.returncode == 0) == succeeds, (words, done.stdout, done.stderr)


def test_every_command_is_tried() -> None:
    assert set(COMMANDS) == {*ARGUMENTS, *WITHOUT_CELLS}


def test_unknown_commands_and_options_are_escaped(folder: Path) -> None:
    assert command(folder, f"fi{CLEAR}").returncode == 2
    assert command(folder, f"--fi{CLEAR}").returncode == 2


def test_escaped_cells_can_be_read(folder: Path) -> None:
    shown = command(folder, "predict", MODEL, TABLE).stdout
    assert r"p\x1b]0;pwn\x07" in shown
    assert r"y\u202e" in shown
    note = command(folder, "predict", MODEL, BAD).stderr
    assert r"column photo\x9b31m: " in note
    found = json.loads(command(folder, "predict", MODEL, TABLE, "--json").stdout)
    assert found["predictions"][0][TARGET] in LABELS


@pytest.mark.parametrize(
    "words",
    [
        ["predict", MODEL, BAD],
        ["evaluate", MODEL, BAD],
        ["compare", MODEL, MODEL, BAD],
        ["curate", BAD, "--model", MODEL, "--out", "curated"],
        ["index", BAD, "--model", MODEL, "--out", "notes", "--overwrite"],
    ],
)
def test_warnings_are_printed_as_notes(folder: Path, words: list[str]) -> None:
    """Also those that are raised at the end of a context manager: without a file and a line of code."""
    lines = command(folder, *words).stderr.splitlines()
    assert lines
    assert [line for line in lines if not line.startswith("note  ")] == []


def test_a_terminal_gets_colors_and_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "50")
    for words in (["predict", MODEL, BAD], ["predict", MODEL, BAD, "--strict"], ["plan", TABLE, "--target", TARGET]):
        done = run_command(*words, cwd=folder)
        shown = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
        assert shown != done.stdout + done.stderr
        assert not CONTROL.search(shown), words


def test_report_and_model_card_hold_no_control_characters(folder: Path) -> None:
    for name in ("report.html", "README.md", "recipe.yaml"):
        text = (folder / MODEL / name).read_text(encoding="utf-8")
        assert not CONTROL.search(text), name
    assert polymodal.Recipe.read(folder / MODEL / "recipe.yaml").outputs.keys() == {TARGET}


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_escaped_texts_hold_no_control_characters(text: str) -> None:
    escaped = escape_controls(text)
    assert not CONTROL.search(escaped)
    assert "\n" not in escaped
    escaped.encode()
    assert escape_controls(text, "\n\t").replace("\n", r"\n").replace("\t", r"\t") == escaped
    if escaped == text:
        assert not CONTROL.search(text)
    loaded = json.loads(escape_controls(json.dumps(text, ensure_ascii=False), unicode_only=True))
    assert loaded == text


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_messages_of_errors_hold_no_control_characters(text: str) -> None:
    errors = [PolymodalError(text), RecipeError(text, text), DataError(text, row=1, column=text, file=text)]
    for error in errors:
        assert not CONTROL.search(str(error))
        assert isinstance(error.args[0], str)


def test_only_the_terminal_module_makes_texts_for_the_terminal() -> None:
    """Other modules print by `plain_text`, which escapes control characters."""
    found = []
    for path in sorted(SOURCES.rglob("*.py")):
        if path.relative_to(SOURCES).as_posix() in ("core/terminal.py", "core/progress.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.ImportFrom | ast.Import) else []
            module = node.module if isinstance(node, ast.ImportFrom) else ""
            if module == "rich.text" or (module == "rich.console" and "Console" in names):
                found.append(f"{path}: {node.lineno}")
    assert found == []


def test_warnings_are_issued_in_one_place() -> None:
    """By `warn_caller`, which escapes control characters, points at the user's line, and is printed as a note."""
    found = [
        f"{path.relative_to(SOURCES)}"
        for path in sorted(SOURCES.rglob("*.py"))
        if "warnings.warn(" in path.read_text(encoding="utf-8")
    ]
    assert found == ["core/caller.py"]
