"""Each way in which a media cell cannot be used has a reason of its own, with what to do."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from polymodal.core.registry import find
from polymodal.data.media import nearest_file
from polymodal.data.media.nearest_file import NearestFiles, find_root
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.recipe.data import LimitOptions

#: The content of files, and the words of the reason.
FILES: dict[str, tuple[bytes, str]] = {
    "layers.psd": (b"8BPS\0\1", "those of Photoshop; convert it"),
    "next.jxl": (b"\xff\x0a\x01\x02", "those of JPEG XL; convert it"),
    "old.jp2": (b"\0\0\0\x0cjP  \r\n", "those of JPEG 2000; convert it"),
    "page.jpg": (b"<!DOCTYPE html><html>404</html>", "those of a web page; the download failed"),
    "lfs.png": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer.*git lfs pull"),
    "empty.png": (b"", "0 bytes"),
    "cut.png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "damaged or incomplete"),
}
#: Other cells, and the words of the reason.
CELLS: dict[str, tuple[Any, str]] = {
    "web address": ("https://example.org/a.png", "web addresses.*download the file"),
    "cloud address": ("s3://bucket/a.png", "web addresses.*download the file"),
    "file address": ("file:///a.png", "file: addresses.*path of the file"),
    "absolute": ("/somewhere/else/a.png", "leaves the root folder .it is absolute; choose a root above"),
    "parent": ("../a.png", "leaves the root folder .by '..'"),
    "link": ("out.png", "leaves the root folder .through a link"),
    "not found": ("photos/qqq.png", "does not exist$"),
    "another case": ("photos/Sparrow.PNG", "does not exist; the nearest existing file is 'photos/sparrow.png'"),
    "another suffix": ("photos/sparrow.jpg", "the nearest existing file is 'photos/sparrow.png'"),
    "a slip": ("photos/sparow.png", "the nearest existing file is 'photos/sparrow.png'"),
    "a slip in the folder": ("photo/sparrow.png", "the nearest existing file is 'photos/sparrow.png'"),
    "a bare name": ("sparrow.png", "the nearest existing file is 'photos/sparrow.png'"),
    "backslashes": ("photos\\sparrow.png", "the nearest existing file is 'photos/sparrow.png'"),
    "not found and unsupported": ("photos/x.psd", "does not exist; Photoshop cannot be read either: convert it"),
    "nan": ("nan", "'nan' is a word for an empty cell; leave the cell empty"),
    "N/A": (" N/A ", "'N/A' is a word for an empty cell"),
    "folder": ("photos", "is a folder"),
    "inline Photoshop": (b"8BPS\0\1", "those of Photoshop"),
    "data address": ("data:image/jp2;base64," + base64.b64encode(b"\0\0\0\x0cjP  \r\n").decode(), "of JPEG 2000"),
    "number": (7, "not int"),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("cells") / "root"
    (folder / "photos").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "photos" / "sparrow.png")
    Image.new("RGB", (8, 8)).save(folder.parent / "secret.png")
    (folder / "out.png").symlink_to(folder.parent / "secret.png")
    for name, (content, _) in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def reasons(cells: list[Any], root: Path | None) -> list[str]:
    """The reason of each cell; "" for a usable one."""
    errors = CellErrors()
    block = RowBlock({"photo": cells}, np.arange(len(cells)), root, "table", errors, LimitOptions())
    image = find("modality", "image")
    image(image.Options(image_size=32), columns=["photo"]).prepare(block)
    found = {error.row: error.reason for error in errors.errors}
    return [found.get(row, "") for row in range(len(cells))]


def test_every_bad_cell_says_why(root: Path) -> None:
    cases = {**CELLS, **{name: (name, words) for name, (_, words) in FILES.items()}}
    found = dict(zip(cases, reasons([cell for cell, _ in cases.values()], root), strict=True))
    for name, (_, words) in cases.items():
        with pytest.raises(ValueError, match=words):  # the message of a failure names the case
            raise ValueError(f"{name}: {found[name]}")
    assert reasons(["photos/sparrow.png", None, "", " "], root) == ["", "", "", ""]


def test_a_path_without_a_root_says_what_to_give() -> None:
    (path, word) = reasons(["photos/sparrow.png", "nan"], None)
    assert "pass `root` (--root)" in path
    assert "'nan' is a word for an empty cell" in word


def test_each_folder_is_listed_once_and_never_outside(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    scandir = nearest_file.os.scandir
    monkeypatch.setattr(nearest_file.os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    files = NearestFiles(root)
    paths = [f"photos/sparro{row}.png" for row in range(200)]
    assert [files.find(path) for path in paths].count("photos/sparrow.png") == nearest_file.MAX_SIMILAR
    assert files.find("../secret.png") is None
    assert files.find(str(root.parent / "secret.png")) is None
    assert len(listed) == len(set(listed))
    assert all(Path(path).is_relative_to(root) for path in listed)


def test_the_root_that_paths_need(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_root(["sparrow.png"], root) == root / "photos"
    assert find_root(["root/photos/sparrow.png"], root) == root.parent
    assert find_root([str(root / "photos" / "sparrow.png")], root / "photos" / "none") == root / "photos"
    assert find_root(["qqq.png"], root) is None
    assert find_root([], root) is None
    assert find_root(["photos/sparrow.png"], None) is None
    monkeypatch.chdir(root)
    assert find_root(["photos/sparrow.png"], None) == root
