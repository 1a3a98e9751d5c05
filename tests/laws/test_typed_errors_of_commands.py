"""Every command ends with a result or with an error of a few lines, whatever its arguments are."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import typer

import polymodal
from command_line import run_command
from laws.entry_points import QUICK, rows
from polymodal.applications.search import Index
from polymodal.cli.commands import app

SETTINGS = [word for key, value in QUICK.items() for word in ("--set", f"{key}={value}")]
TRAINING = ["table.csv", "--target", "grade", *SETTINGS]

#: Arguments of a call of each command that succeeds, or fails early where it would take long.
CALLS: dict[str, list[str]] = {
    "fit": [*TRAINING, "--out", "new"],
    "predict": ["model", "table.csv"],
    "prepare": [*TRAINING, "--out", "store"],
    "evaluate": ["model", "table.csv"],
    "diagnose": ["model", "table.csv", "--reference", "table.csv"],
    "explain": ["model", "table.csv", "--target", "large"],
    "plan": TRAINING,
    "init": ["table.csv", "--target", "grade", "--out", "recipe.yaml"],
    "list": ["fusion"],
    "recipes": [],
    "cross-validate": [*TRAINING, "--folds", "2"],
    "compare": ["model", "model", "table.csv"],
    "curate": ["table.csv", "--model", "model", "--out", "curated"],
    "few-shot": ["model", "table.csv", "--target", "grade", "--out", "head"],
    "generate": ["model", "table.csv", "--set", "num_beams=2"],
    "index": ["table.csv", "--out", "index-2", "--model", "model"],
    "pretrain": ["table.csv", "--out", "new", "--objective", "contrastive", *SETTINGS],
    "multitask-gain": ["table.csv", "--target", "grade", "--target", "price", "--out", "gain", *SETTINGS],
    "active-learning": ["model", "table.csv", "--count", "2", "--target", "nothing"],
    "serve": ["model", "--host", "0.0.0.0"],  # an error without a key
    "search": ["index", '{"note": "large"}', "--top-k", "2", "--filter", "color == 'red'"],
    "transcribe": ["model", "table.csv", "--chunk-seconds", "3"],
    "tune": ["table.csv", "--target", "nothing", "--out", "search", "--trials", "1", "--folds", "2", "--jobs", "1"],
    "tune-worker": ["table.csv", "--search", "search", "--storage", "nothing"],
    "zero-shot": ["model", "table.csv", "--classes", "large,small"],
    "index-delete": ["index", "--filter", "color == 'none'"],
    "ensemble": ["model", "model", "--out", "both", "--method", "average"],
    "compress": ["model", "nothing.csv", "--out", "small", "--dtype", "bf16", "--tolerance", "0.1"],
    "export": ["model", "nothing.csv", "--out", "graph"],
    "cache": ["--keep", "1"],
    "schema": [],
    "doctor": [],
    "demo": ["--set", "no_such_key=1", "--out", "demo"],
    "weights": ["fetch", "no-such-checkpoint"],
}

#: Words that may stand in the place of any argument.
WORDS = [
    "", " ", "-1", "0", "1e999", "nan", "abc", "9" * 25, "x" * 500, "é", "\udcff", "\x1b[2J", "a\nb", "=", "a=b",
    "a.b=c", "training.epochs=x", "seed=-1", "inputs=[", "{", "[1", "{}", "[]", '{"length": 1}', '{"length": [[1]]}',
    "null", "--", "a-file.txt", "a-folder", "table.csv", "broken.csv", "latin.csv", "model", "index",
    "nowhere/x.csv", "https://b/x.csv", "az://b/x.csv", "*.parquet", "*.csv", "/proc/nope/x", "a-file.txt/x",
    ".", "grade", "lenght", "color == 'red' or", "((", "note",
]  # fmt: skip
CASES, CASES_OF_TRAINING = 16, 6
DEAR = (
    "schema",
    "doctor",
    "recipes",
    "cache",
    "fit",
    "pretrain",
    "cross-validate",
    "multitask-gain",
    "tune",
    "compress",
    "demo",
)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working folder: tables, a model, an index, and files that are none of these."""
    place = tmp_path_factory.mktemp("commands")
    columns = {name: cells for name, cells in rows().items() if name in ("length", "maker", "note", "grade", "price")}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("HF_HUB_OFFLINE", "1")
        with open("table.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
        Path("broken.csv").write_text("a,b\n1,2\n3\n")
        Path("latin.csv").write_bytes("größe\n1\n".encode("latin-1"))
        Path("a-file.txt").write_text("not a table")
        Path("a-folder").mkdir()
        Path("a-folder", "notes.txt").write_text("not a model")
        polymodal.fit("table.csv", "grade", settings={**QUICK, "data.ignore_columns": ["price"]}, out="model")
        Index.build("index", np.eye(4), {"color": ["red", "green", "red", "blue"]})
        yield place


def commands() -> set[str]:
    group: Any = typer.main.get_command(app)
    return set(group.commands)


def test_every_command_is_called() -> None:
    """A new one fails here until it has a call."""
    assert set(CALLS) == commands()


@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_command_ends_with_a_result_or_a_short_error(name: str, folder: Path) -> None:
    draw, calls = Random(name), 0
    for _ in range(CASES_OF_TRAINING if name in DEAR else CASES):
        arguments = odd_arguments(draw, name)
        done = run_command(name, *arguments)
        calls += 1
        shown = f"polymodal {name} {arguments}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        assert done.returncode in (0, 2), shown
        assert "Traceback" not in done.stderr, shown
        if done.returncode == 2 and "--json" in arguments:
            assert json.loads(done.stdout)["error"] if done.stdout.strip() else done.stderr.strip(), shown
        elif done.returncode == 2:
            assert "error" in done.stderr.lower(), shown
            assert len(done.stderr.splitlines()) < 40, shown
    assert calls >= CASES_OF_TRAINING


def odd_arguments(draw: Random, name: str) -> list[str]:
    """The call of a command with an argument replaced, left out or added."""
    arguments = list(CALLS[name])
    kind = draw.randrange(10)
    places = [at for at, word in enumerate(arguments) if not word.startswith("--") and "." not in word[1:-4]]
    if kind < 7 and places:
        arguments[draw.choice(places)] = draw.choice(WORDS)
    elif kind == 7 and arguments:
        del arguments[draw.randrange(len(arguments))]
    else:
        option = draw.choice([one for one in options(name) if one != "--help"])
        arguments += [option, draw.choice(WORDS)]
    return [*arguments, "--json"] if draw.random() < 0.3 and "--json" in options(name) else arguments


def options(name: str) -> list[str]:
    group: Any = typer.main.get_command(app)
    return [flag for parameter in group.commands[name].params for flag in parameter.opts if flag.startswith("--")] or [
        "--help"
    ]
