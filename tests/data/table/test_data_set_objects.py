"""Data sets of other libraries: `datasets`, with its features and its splits, and PyTorch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from data.table.cells import cells
from polymodal.core.errors import DataError
from polymodal.data.media.source import read_bytes
from polymodal.data.table.concat import open_data
from polymodal.data.table.table import Table
from polymodal.experiments.arguments import open_tables
from polymodal.recipe.data import LimitOptions


def read(source: Any, tmp_path: Path) -> Table:
    return open_data(source, cache=tmp_path / "cache")


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "photos" / ("cat" if n % 2 else "dog") / f"{n}.png" for n in range(4)]
    for n, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (n, 0, 0)).save(path)
    return paths


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return pytest.importorskip("datasets", reason="datasets is not installed")


def made_of_files(hub: Any, photos: list[Path]) -> Any:
    features = hub.Features({"image": hub.Image(), "sound": hub.Value("string"), "y": hub.ClassLabel(names=["a", "b"])})
    columns = {"image": list(map(str, photos)), "sound": ["a", "b", None, "d"], "y": [0, 1, 0, 1]}
    return hub.Dataset.from_dict(columns, features=features)


def test_images_of_a_hub_data_set_are_read_from_their_files(hub: Any, photos: list[Path], tmp_path: Path) -> None:
    data = made_of_files(hub, photos).select([3, 0])
    table = read(data, tmp_path)
    found = cells(table)
    assert found["sound"] == ["d", "a"]
    assert found["y"] == [1, 0]
    for one, path in zip(found["image"], (photos[3], photos[0]), strict=True):
        assert one["bytes"] is None
        assert read_bytes(one, table.root, LimitOptions())[0] == path.read_bytes()
    assert table.root == Path(os.path.commonpath([path.parent for path in (photos[3], photos[0])]))


def test_a_data_set_dict_gives_the_splits(hub: Any, photos: list[Path]) -> None:
    data = made_of_files(hub, photos)
    splits = hub.DatasetDict(train=data.select([0, 1]), validation=data.select([2]), test=data.select([3]))
    tables = open_tables(splits)
    assert tables.validation is not None
    assert tables.test is not None
    assert [len(tables.train), len(tables.validation), len(tables.test)] == [2, 1, 1]
    with pytest.raises(DataError, match="hold the split 'test', and `test` is given too"):
        open_tables(splits, test=data)
    with pytest.raises(DataError, match=r"choose one of its splits, such as data\['train'\]"):
        open_tables(hub.DatasetDict(train=data, other=data))


class Items(Dataset[dict[str, Any]]):
    """Dicts, as many training scripts make them."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Any:
        return self.items[number]


class Stream(IterableDataset[dict[str, Any]]):
    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield {"x": 1}


def test_a_torch_data_set_of_dicts_is_a_table(tmp_path: Path) -> None:
    items = [
        {"image": torch.full((3, 2, 5), n / 4), "y": torch.tensor(n), "series": torch.arange(4.0), "text": f"row {n}"}
        for n in range(3)
    ]
    table = read(Items(items), tmp_path)
    found = cells(table)
    assert found["y"] == [0, 1, 2]
    assert found["text"] == ["row 0", "row 1", "row 2"]
    assert found["series"] == [[0.0, 1.0, 2.0, 3.0]] * 3
    assert [image.shape for image in found["image"]] == [(2, 5, 3)] * 3
    np.testing.assert_array_equal(found["image"][1], np.full((2, 5, 3), 0.25, np.float32))
    assert len(open_tables({"train": Items(items), "val": Items(items[:1])}).train) == 3


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Stream(), r"a Stream without a length has any number of rows: give a list of dicts, list\(rows\)"),
        (TensorDataset(torch.ones(2, 3), torch.ones(2)), r"an item of the TensorDataset is a tuple, not a dict: give"),
        (Items([]), "no rows"),
    ],
)
def test_other_torch_data_sets_are_refused_with_the_way_out(source: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(source, tmp_path)
