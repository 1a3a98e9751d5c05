"""Output directories: what is refused, one writer at a time, and the exchange of the old with the new."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from polymodal.checkpoint import directory_swap
from polymodal.checkpoint.directory_kinds import FEW_SHOT, INDEX, MODEL, WRITING, DirectoryKind, kind_of
from polymodal.checkpoint.output_directory import OutputDirectory, is_unfinished
from polymodal.checkpoint.write_lock import WriteLock
from polymodal.core.errors import ArtifactError, OutputError

HELPER = """
import sys, time
from pathlib import Path
from polymodal.checkpoint.write_lock import WriteLock
lock = WriteLock(Path(sys.argv[1]))
lock.write({})
print("locked", flush=True)
time.sleep(60)
"""


def write(folder: Path, content: str = "new", kind: DirectoryKind = MODEL) -> None:
    """What a command writes: a file, and the manifest last."""
    (folder / "README.md").write_text(content)
    (folder / kind.manifest).write_text(json.dumps(dict.fromkeys(kind.keys, content)))


def made(folder: Path, content: str = "old") -> Path:
    folder.mkdir(parents=True)
    write(folder, content)
    return folder


class Stopped(Exception):
    pass


def fail(directory: OutputDirectory, name: str) -> None:
    """Write half of a directory, and stop with an error."""

    def write_half() -> None:
        with directory.writing() as work:
            (work / name).write_text("half")
            raise Stopped

    with pytest.raises(Stopped):
        write_half()


def tree(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_new_directory_is_written_in_place(tmp_path: Path) -> None:
    with OutputDirectory(tmp_path / "a" / "model", MODEL).writing() as work:
        assert work == tmp_path / "a" / "model"
        assert is_unfinished(work)
        write(work)
    assert sorted(tree(tmp_path)) == ["a/model/README.md", "a/model/manifest.json"]


def test_the_old_directory_is_whole_until_the_new_one_is(tmp_path: Path) -> None:
    out = made(tmp_path / "model")
    before = tree(out)
    with pytest.raises(OutputError, match="not empty: it holds a model directory; set resume or overwrite"):
        OutputDirectory(out, MODEL).check()
    with OutputDirectory(out, MODEL, overwrite=True).writing() as work:
        assert work == tmp_path / "model.part"
        write(work)
        assert tree(out) == before
    assert sorted(tree(tmp_path)) == ["model/README.md", "model/manifest.json"]
    assert (out / "README.md").read_text() == "new"


def test_a_failed_replacement_changes_nothing(tmp_path: Path) -> None:
    out = made(tmp_path / "model")
    before = tree(tmp_path)
    fail(OutputDirectory(out, MODEL, overwrite=True), "README.md")
    assert tree(tmp_path) == before
    fail(OutputDirectory(tmp_path / "other", MODEL), "README.md")
    assert tree(tmp_path) == before


def test_what_a_run_can_continue_from_is_kept(tmp_path: Path) -> None:
    out = made(tmp_path / "model")
    fail(OutputDirectory(out, MODEL, overwrite=True, identity={"t": "1"}), "checkpoint.safetensors")
    with (
        pytest.raises(ArtifactError, match="another t"),
        OutputDirectory(out, MODEL, resume=True, identity={"t": "2"}).writing(),
    ):
        pass
    with OutputDirectory(out, MODEL, resume=True, identity={"t": "1"}).writing() as work:
        assert (work / "checkpoint.safetensors").read_text() == "half"
        assert (out / "README.md").read_text() == "old"
        write(work)
    assert (out / "README.md").read_text() == "new"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["model"]


@pytest.mark.parametrize("name", ["notes.txt", "table.csv", "preparation/notes.txt", "sub/log.jsonl", "model.pt"])
def test_foreign_files_are_never_deleted(tmp_path: Path, name: str) -> None:
    out = made(tmp_path / "model")
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("precious")
    before = tree(out)
    with pytest.raises(OutputError, match="files that are not of a model directory"):
        OutputDirectory(out, MODEL, overwrite=True).check()
    assert tree(out) == before
    (out / "manifest.json").unlink()
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(OutputError, match="is not a model directory, and is not overwritten"):
            OutputDirectory(out, MODEL, **options).check()


def test_a_foreign_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    out = made(tmp_path / "model")
    with OutputDirectory(out, MODEL, overwrite=True).writing() as work:
        write(work)
        (out / "notes.txt").write_text("precious")
    assert tree(out)["notes.txt"] == "precious"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["model"]


def test_the_place_beside_must_be_free(tmp_path: Path) -> None:
    out = made(tmp_path / "model")
    (tmp_path / "model.part").mkdir()
    (tmp_path / "model.part" / "mine.txt").write_text("precious")
    with pytest.raises(OutputError, match=r"model\.part is needed"):
        OutputDirectory(out, MODEL, overwrite=True).check()


def test_other_kinds_files_inputs_and_places_are_refused(tmp_path: Path) -> None:
    out = made(tmp_path / "model")
    for kind in (INDEX, FEW_SHOT):
        with pytest.raises(OutputError, match="it holds a model directory, and no"):
            OutputDirectory(out, kind, overwrite=True).check()
    with pytest.raises(OutputError, match="is inside"):
        OutputDirectory(out / "second", MODEL).check()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        OutputDirectory(tmp_path / "file", MODEL).check()
    with pytest.raises(OutputError, match="is read by this command"):
        OutputDirectory(out, MODEL, overwrite=True, inputs=(out,)).check()
    with pytest.raises(OutputError, match=r"holds .*README\.md, which is read"):
        OutputDirectory(out, MODEL, overwrite=True, inputs=(out / "README.md",)).check()
    with pytest.raises(OutputError, match="set one of them"):
        OutputDirectory(out, MODEL, overwrite=True, resume=True).check()


def test_a_link_to_a_directory_stays_a_link(tmp_path: Path) -> None:
    made(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with OutputDirectory(tmp_path / "link", MODEL, overwrite=True).writing() as work:
        write(work)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "README.md").read_text() == "new"


@pytest.mark.skipif(os.name == "nt", reason="there are no such locks")
def test_one_process_writes_at_a_time_and_is_named(tmp_path: Path) -> None:
    out = made(tmp_path / "model")
    for locked in (out, tmp_path / "model.part"):
        locked.mkdir(exist_ok=True)
        with subprocess.Popen([sys.executable, "-c", HELPER, str(locked)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"locked\n"
            before = tree(tmp_path)
            for options in ({"overwrite": True}, {"resume": True}):
                with (
                    pytest.raises(OutputError, match=rf"is being written by process {process.pid} on .* since 20"),
                    OutputDirectory(out, MODEL, **options).writing(),
                ):
                    pass
            assert tree(tmp_path) == before
            process.kill()
        if locked == out:
            (out / WRITING).unlink()
    with OutputDirectory(out, MODEL, overwrite=True).writing() as work:  # the holder is dead
        write(work)


@pytest.mark.parametrize("exchanges", [True, False], ids=["in one step", "by renaming"])
@pytest.mark.parametrize("stop", ["before", "half", "after", "deleting"])
def test_an_exchange_that_was_interrupted_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool, stop: str
) -> None:
    """Every state that a killed process can leave, built by hand."""
    if stop == "half" and exchanges:
        pytest.skip("there is no half of one step")
    out, part, old = (made(tmp_path / "model"), tmp_path / "model.part", tmp_path / "model.old")
    part.mkdir()
    write(part)
    (part / WRITING).write_text(json.dumps({"swap": True}))
    if not exchanges:
        monkeypatch.setattr(directory_swap, "exchange", lambda first, second: False)
    if stop == "half":
        out.rename(old)
    elif stop != "before":
        directory_swap.swap(out, part)
        if stop == "deleting":
            (part / "README.md").unlink()
    options = {"overwrite": True} if stop == "before" else {"resume": True}
    directory = OutputDirectory(out, MODEL, **options)
    if stop != "before":
        assert directory.is_complete()
        assert (out / "README.md").read_text() == "new"
    else:
        with directory.writing() as work:
            write(work, "newer")
        assert (out / "README.md").read_text() == "newer"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["model"]
    assert sorted(tree(out)) == ["README.md", "manifest.json"]


def test_a_replacement_works_without_the_exchange_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_swap, "exchange", lambda first, second: False)
    out = made(tmp_path / "model")
    with OutputDirectory(out, MODEL, overwrite=True).writing() as work:
        write(work)
    assert (out / "README.md").read_text() == "new"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["model"]


def test_an_unfinished_directory_without_a_checkpoint_is_written_again(tmp_path: Path) -> None:
    out = tmp_path / "model"
    out.mkdir()
    lock = WriteLock(out)
    lock.write({})
    (out / "model.safetensors").write_text("half")
    lock.release(keep=True)
    with OutputDirectory(out, MODEL).writing() as work:
        assert work == out
        assert sorted(tree(out)) == [WRITING]
        write(work)
    assert kind_of(out) is MODEL
    assert not is_unfinished(out)


def test_a_failed_change_deletes_nothing_of_an_index(tmp_path: Path) -> None:
    out = tmp_path / "index"
    out.mkdir()
    write(out, "rows", INDEX)
    (out / "README.md").unlink()
    before = tree(out)
    fail(OutputDirectory(out, INDEX, resume=True), "segment-000002.ids.npy")
    assert tree(out) == before | {"segment-000002.ids.npy": "half"}
