"""No command changes a file that it did not create: each command with an output is run with hostile places for it."""

from __future__ import annotations

import csv
import inspect
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import polymodal
from command_line import run_command
from laws.outputs import OUTPUTS, QUICK, WITHOUT_OUTPUT, digests, hostile
from polymodal.checkpoint.directory_kinds import foreign_files, kind_of
from polymodal.cli.commands import COMMANDS

RUN = [name for name, output in OUTPUTS.items() if output.runs]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labeled and an unlabeled table, and two models of them."""
    folder = tmp_path_factory.mktemp("outputs")
    for name in ("table.csv", "unlabeled.csv"):
        with (folder / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["length", "width", "price", "kind"])
            for i in range(40):
                kind = "" if name == "unlabeled.csv" else "ab"[i % 2]
                writer.writerow([i % 2 + i / 100, i % 7 + 0.5, (i % 2) * 3 + i / 50, kind])
    (folder / "table.jsonl").write_text('{"length": 1}\n')
    polymodal.fit(folder / "table.csv", "kind", settings=list(QUICK[1::2]), out=folder / "model")
    shutil.copytree(folder / "model", folder / "second")
    return folder


@pytest.fixture
def place(planted: Path, tmp_path: Path) -> Path:
    return shutil.copytree(planted, tmp_path / "place")


def test_every_command_with_an_output_is_listed() -> None:
    with_output = {name for name, command in COMMANDS.items() if "out" in inspect.signature(command).parameters}
    assert with_output == set(OUTPUTS)
    assert set(COMMANDS) - with_output == WITHOUT_OUTPUT - {"weights"}


def test_whatever_writes_an_output_replaces_it_on_request_only() -> None:
    for name in OUTPUTS:
        assert inspect.signature(COMMANDS[name]).parameters["overwrite"].default is False, name
    for name in polymodal.__all__:
        public = getattr(polymodal, name)
        functions = {f"{name}.save": public.save} if hasattr(public, "save") else {}
        if inspect.isfunction(public) and "out" in inspect.signature(public).parameters:
            functions[name] = public
        for shown, function in functions.items():
            assert inspect.signature(function).parameters["overwrite"].default is False, shown


@pytest.mark.parametrize("command", OUTPUTS)
def test_a_hostile_output_is_refused_and_nothing_changes(command: str, place: Path) -> None:
    output = OUTPUTS[command]
    places = hostile(output, place)
    before = digests(place)
    for description, words in places.items():
        done = run_command(command, *output.words, "--out", *words, "--json", cwd=place)
        assert done.returncode == 2, f"{description}: {done.stdout}{done.stderr}"
        assert json.loads(done.stdout)["kind"] == "OutputError", description
        assert digests(place) == before, description


class WrittenFiles:
    """The files that Python opens to write, or renames, in a folder, at any moment: as audit events tell."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.paths = folder.resolve(), set[Path]()
        WATCHERS.append(self)

    def under(self, name: str) -> list[str]:
        """Those in the output `name`, or in the directory beside it that replaces it; relative to it."""
        found = [path.relative_to(self.folder).as_posix() for path in self.paths]
        inside = [path.partition("/") for path in found]
        return sorted({rest for first, _, rest in inside if first in (name, f"{name}.part") and rest})

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | os.PathLike) and _is_to_write(*arguments[1:]):
            paths = [arguments[0]]
        elif event == "os.rename":
            paths = [path for path in arguments[:2] if isinstance(path, str | os.PathLike)]
        else:
            return
        written = [Path(os.path.abspath(os.fspath(path))) for path in paths]
        self.paths.update(path for path in written if path.is_relative_to(self.folder) and not path.is_dir())


WATCHERS: list[WrittenFiles] = []


def _is_to_write(mode: str | None, flags: int) -> bool:
    return any(letter in mode for letter in "wax+") if mode else bool(flags & (os.O_WRONLY | os.O_RDWR))


sys.addaudithook(lambda event, arguments: [watcher.see(event, arguments) for watcher in WATCHERS] and None)


@pytest.mark.parametrize("command", RUN)
def test_a_command_writes_only_files_of_its_kind(command: str, place: Path, request: pytest.FixtureRequest) -> None:
    """Once, refused a second time, and replaced on request: all other files stay as they are."""
    output, before = OUTPUTS[command], digests(place)
    request.addfinalizer(WATCHERS.clear)
    written = WrittenFiles(place)
    call = [command, *output.words, "--out", output.name, "--json"]
    for words, status in ((), 0), ((), 2), (("--overwrite",), 0):
        done = run_command(*call, *words, cwd=place)
        assert done.returncode == status, done.stdout + done.stderr
        after = digests(place)
        assert {name: after.get(name) for name in before} == before
        assert {name.partition("/")[0] for name in after.keys() - before.keys()} == {output.name}
        assert not any(name.endswith(".part") for name in after)
        if output.writes == "directory":
            kind = kind_of(place / output.name)
            assert kind is not None
            assert foreign_files(place / output.name, kind) == []
            own = [name for name in written.under(output.name) if not kind.owns(name)]
            assert not own, "a command that is killed would leave files that --overwrite refuses"
