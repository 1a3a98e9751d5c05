"""Runs that cannot be resumed, and model directories that were modified."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bad_input.samples import TABLE, table, train
from damage import change_signed
from polymodal.core.errors import ArtifactError, TrainingError
from polymodal.model.model import Model


def test_a_loss_that_is_not_finite() -> None:
    """The message names the first tensor that is not finite."""
    with pytest.raises(TrainingError, match=r"the parameter towers\..* is not finite|the output of .* is the first"):
        train(table(), settings=["training.learning_rate=1e30", "training.epochs=3"], recipe=TABLE)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    columns = {**table(), "note": [f"the note of row {row}" for row in range(40)]}
    return train(columns, recipe={"inputs": {"note": "text", "length": "number"}}).save(tmp_path / "model")


def checked(folder: Path) -> list[str]:
    return list(json.loads((folder / "manifest.json").read_text())["sha256"])


def test_one_changed_byte_in_any_file(saved: Path) -> None:
    Model.load(saved)
    for name in checked(saved):
        sound = (saved / name).read_bytes()
        middle = len(sound) // 2
        (saved / name).write_bytes(sound[:middle] + bytes([sound[middle] ^ 1]) + sound[middle + 1 :])
        with pytest.raises(ArtifactError, match=f"{name} was changed after it was saved"):
            Model.load(saved)
        (saved / name).write_bytes(sound)
    Model.load(saved)


def test_a_missing_file(saved: Path) -> None:
    for name in [*checked(saved), "manifest.json"]:
        sound = (saved / name).read_bytes()
        (saved / name).unlink()
        with pytest.raises(ArtifactError, match=name):
            Model.load(saved)
        (saved / name).write_bytes(sound)


def test_every_file_that_prediction_reads_is_checked(saved: Path) -> None:
    files = {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()}
    assert files - set(checked(saved)) <= {"manifest.json", "README.md", "report.html"}


def test_a_file_that_the_manifest_does_not_list_is_not_read(saved: Path) -> None:
    sums = json.loads((saved / "manifest.json").read_text())["sha256"]
    for name in sums:
        change_signed(saved / "manifest.json", sha256={key: value for key, value in sums.items() if key != name})
        with pytest.raises(ArtifactError, match=f"does not list {name}"):
            Model.load(saved)
    change_signed(saved / "manifest.json", sha256={})
    with pytest.raises(ArtifactError, match="does not list"):
        Model.load(saved)
    change_signed(saved / "manifest.json", sha256=sums)
    (saved / "preparation" / ".DS_Store").write_text("")
    (saved / "notes.txt").write_text("")
    Model.load(saved)
    (saved / "preparation" / "input0" / "added.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"does not list preparation/input0/added\.json"):
        Model.load(saved)


def test_a_manifest_that_points_outside(saved: Path) -> None:
    sums = json.loads((saved / "manifest.json").read_text())["sha256"]
    change_signed(saved / "manifest.json", sha256=sums | {"../other": "0"})
    with pytest.raises(ArtifactError, match="outside"):
        Model.load(saved)
    change_signed(saved / "manifest.json", sha256=sums | {"nul\0": "0"})
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        Model.load(saved)


@pytest.mark.parametrize("form", [{"weights": "fp32", "extra": 1}, ["fp32"], {"weights": "fp33"}, None])
def test_a_weight_format_that_does_not_exist(saved: Path, form: object) -> None:
    change_signed(saved / "manifest.json", weight_format=form)
    with pytest.raises(ArtifactError, match=r"manifest\.json is not a valid Manifest: weight_format"):
        Model.load(saved)


def test_a_manifest_carries_its_own_checksum(saved: Path) -> None:
    manifest = saved / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"arithmetic": "float"', '"arithmetic": "int8"'))
    with pytest.raises(ArtifactError, match=r"manifest\.json was changed"):
        Model.load(saved)


CONTENTS = ["", "{", "[]", '{"format": 99, "sha256": {}}', "[" * 200_000, "\0", '{"format": 5}']


@pytest.mark.parametrize("content", CONTENTS, ids=range(len(CONTENTS)))
def test_a_manifest_that_cannot_be_read(saved: Path, content: str) -> None:
    (saved / "manifest.json").write_text(content)
    with pytest.raises(ArtifactError):
        Model.load(saved)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a model directory"):
        Model.load(tmp_path)
