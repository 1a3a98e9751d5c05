"""Output files: what is refused, how a file is written, and its mode."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from polymodal.checkpoint.output_file import OutputFile, check_reports, paths_in
from polymodal.checkpoint.tensor_files import write_tensors
from polymodal.core.errors import OutputError
from polymodal.core.writing import write_errors, write_text


@contextmanager
def disk_full(size: int) -> Iterator[None]:
    """No file grows beyond `size` bytes: the error of a full disk, without filling one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_an_input_is_never_replaced_by_any_of_its_names(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a\n1\n")
    (tmp_path / "link.csv").symlink_to(table)
    os.link(table, tmp_path / "hard.csv")
    (tmp_path / "sub").mkdir()
    for name in ("table.csv", "link.csv", "hard.csv", "sub/../table.csv"):
        with pytest.raises(OutputError, match="read by this command"):
            OutputFile(tmp_path / name, overwrite=True, inputs=(table,)).check()
    with pytest.raises(OutputError, match="read by this command"):
        OutputFile(table, overwrite=True, inputs=(tmp_path,)).check()
    OutputFile(tmp_path / "new.csv", inputs=(table, tmp_path)).check()


def test_an_existing_file_is_replaced_on_request_only(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    with OutputFile(path).writing() as part:
        part.write_text("one")
    with pytest.raises(OutputError, match="already exists"), OutputFile(path).writing():
        pass
    with pytest.raises(TypeError), OutputFile(path, overwrite=True).writing() as part:
        part.write_text(b"half")  # type: ignore[arg-type]
    assert path.read_text() == "one"
    (tmp_path / "link.csv").symlink_to(path)
    with OutputFile(tmp_path / "link.csv", overwrite=True).writing() as part:
        part.write_text("two")
    assert path.read_text() == "two"
    assert (tmp_path / "link.csv").is_symlink()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["answers.csv", "link.csv"]


@pytest.mark.parametrize(
    ("manifest", "content"),
    [
        ("manifest.json", {"format": 3, "sha256": {}}),
        ("manifest.json", {"kind": "polymodal index", "generation": 1, "segments": []}),
        ("ensemble.json", {"method": "average", "members": 2}),
        ("few_shot.json", {"head": "linear", "manifest": ""}),
        ("search.json", {"space": {}, "fingerprint": ""}),
        ("multitask_gain.json", {"multitask": {}, "single_task": {}}),
    ],
)
def test_no_file_is_written_inside_what_another_command_wrote(
    tmp_path: Path, manifest: str, content: dict[str, object]
) -> None:
    (tmp_path / manifest).write_text(json.dumps(content))
    for name in ("new.csv", "preparation/new.csv"):
        with pytest.raises(OutputError, match="is inside"):
            OutputFile(tmp_path / name, overwrite=True).check()
    (tmp_path / manifest).write_text('{"name": "a web page"}')
    OutputFile(tmp_path / "new.csv").check()


def test_directories_and_devices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a directory"):
        OutputFile(tmp_path, overwrite=True).check()
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(OutputError, match="not a regular file"):
        OutputFile(tmp_path / "pipe.csv", overwrite=True).check()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="choose a directory"):
        check_reports(tmp_path / "file", ["a.json"], overwrite=True)
    with pytest.raises(OutputError, match="cannot be written"), OutputFile(tmp_path / "file" / "a.csv").writing():
        pass


def test_a_full_disk_is_an_error_that_leaves_the_old_file(tmp_path: Path) -> None:
    tensors = {"weight": torch.ones(10_000)}
    write_text(tmp_path / "text", "old")
    write_tensors(tmp_path / "tensors", tensors)
    before = (tmp_path / "tensors").read_bytes()
    with disk_full(1_000):
        with pytest.raises(OutputError, match=r"text cannot be written: File too large"):
            write_text(tmp_path / "text", "new" * 1_000)
        with pytest.raises(OutputError, match=r"tensors cannot be written: .*File too large"):
            write_tensors(tmp_path / "tensors", {"weight": torch.zeros(10_000)})
    assert (tmp_path / "text").read_text() == "old"
    assert (tmp_path / "tensors").read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["tensors", "text"]


def test_files_have_the_mode_of_the_user(tmp_path: Path) -> None:
    for mask, mode in ((0o022, 0o644), (0o027, 0o640), (0o077, 0o600)):
        before = os.umask(mask)
        try:
            write_tensors(tmp_path / f"{mask}.safetensors", {"weight": torch.ones(2)})
            write_text(tmp_path / f"{mask}.txt", "")
        finally:
            os.umask(before)
        for name in (f"{mask}.safetensors", f"{mask}.txt"):
            assert (tmp_path / name).stat().st_mode & 0o777 == mode


def test_an_error_of_another_file_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), write_errors(tmp_path / "out" / "answers.csv"):
        (tmp_path / "in" / "table.csv").read_text()


def test_paths_are_found_in_every_form_of_a_source(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.touch()
    assert paths_in(table, str(table), [table, "no.csv"], {"train": str(table)}, None, 3) == (table,) * 4
    assert paths_in('{"a": 1}', "x" * 10_000, "a\0b", {"column": [1, 2]}) == ()
