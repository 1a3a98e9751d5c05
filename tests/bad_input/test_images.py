"""Bad images are listed with row, column, file and reason, do not change other rows, and raise in strict mode."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from bad_input.samples import Columns, pictures, train
from polymodal.core.errors import DataError
from polymodal.data.table.cell_errors import BadCellsWarning, CellErrors
from polymodal.model.model import Model

PICTURES = {"inputs": {"image": "image"}}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has `width` x `height` pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def corrupt(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(255 - byte for byte in data[middle : middle + 60]) + data[middle + 60 :]


SPOILT = {
    "corrupt": (corrupt, "damaged or incomplete"),
    "truncated": (lambda data: data[: len(data) // 2], "damaged or incomplete"),
    "zero bytes": (lambda data: b"", r"empty \(0 bytes\)"),
    "no image": (lambda data: b"GIF or not, this is a text", "not an image"),
    "over the limit": (lambda data: bomb(9_000, 9_000), "9000 x 9000 pixels .* over the limit"),
    "a decompression bomb": (lambda data: bomb(60_000, 60_000), "more pixels than the decoder allows"),
    "beyond the format": (lambda data: bomb(2**31 - 1, 2**31 - 1), "more pixels than the decoder allows"),
}
REASONS = {**{name: reason for name, (_, reason) in SPOILT.items()}, "missing": "the file does not exist"}


def spoil(folder: Path, name: str, row: int) -> None:
    path = folder / f"{row}.png"
    if name == "missing":
        path.unlink()
    else:
        path.write_bytes(SPOILT[name][0](path.read_bytes()))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("sound")
    return train(pictures(folder), "shape", root=folder, recipe=PICTURES)


@pytest.mark.parametrize("name", REASONS)
def test_prediction(name: str, model: Model, tmp_path: Path) -> None:
    columns: Columns = pictures(tmp_path, 8)
    clean = model.predict_proba(columns, root=tmp_path)
    spoil(tmp_path, name, 3)
    with pytest.warns(BadCellsWarning, match=f"row 3, column 'image': .*({REASONS[name]})"):
        found = model.predict_proba(columns, root=tmp_path)
    others = np.arange(8) != 3
    np.testing.assert_allclose(found[others], clean[others], atol=1e-5)
    errors = CellErrors()
    list(model.stream(model.open(columns, tmp_path), errors))
    (error,) = errors.errors
    assert (error.row, error.column, error.file) == (3, "image", "3.png")
    with pytest.raises(DataError, match=r"row 3, column 'image', 3\.png: .*") as refused:
        model.predict(columns, root=tmp_path, strict=True)
    assert refused.value.row == 3


def test_training_goes_on_and_counts_them(tmp_path: Path) -> None:
    columns = pictures(tmp_path)
    for row, name in enumerate(REASONS):
        spoil(tmp_path, name, row)
    model = train(columns, "shape", root=tmp_path, recipe=PICTURES)
    assert model.run.cell_errors.by_column == {"image": len(REASONS)}
    with pytest.raises(DataError, match=r"row 0, column 'image', 0\.png"):
        train(columns, "shape", ["data.strict=true"], root=tmp_path, recipe=PICTURES)


def test_a_path_may_not_leave_the_data_folder(model: Model, tmp_path: Path) -> None:
    inside = tmp_path / "data"
    inside.mkdir()
    columns = pictures(inside, 4)
    (tmp_path / "secret.png").write_bytes((inside / "0.png").read_bytes())
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    escapes = ["../secret.png", str(tmp_path / "secret.png"), "link.png"]
    for path in escapes:
        columns["image"][1] = path
        with pytest.warns(BadCellsWarning, match="row 1, column 'image': the path leaves the root folder"):
            model.predict(columns, root=inside)
        with pytest.raises(DataError, match="leaves the root folder"):
            model.predict(columns, root=inside, strict=True)
