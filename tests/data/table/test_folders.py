"""Folders: splits that their authors made, and media with a file of metadata, as `datasets` reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from data.table.cells import cells
from polymodal.core.errors import DataError
from polymodal.data.table.given_splits import given_splits
from polymodal.data.table.table import Table, open_table
from polymodal.experiments.arguments import open_tables

ROWS = pd.DataFrame({"n": [1, 2, 3]})


def read(source: object, tmp_path: Path) -> Table:
    return open_table(source, cache=tmp_path / "cache")


def lengths(source: object) -> list[int | None]:
    tables = open_tables(source)
    return [None if one is None else len(one) for one in (tables.train, tables.validation, tables.test)]


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (2, 2)).save(path)


@pytest.mark.parametrize("name", ["train.csv", "train.parquet", "training.jsonl", "train-00000-of-00001.parquet"])
def test_files_of_splits_are_those_of_one_data_set(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "README.md").touch()
    lines = "".join(json.dumps(row) + "\n" for row in ROWS.to_dict("records"))
    write = {"csv": ROWS.to_csv, "parquet": ROWS.to_parquet, "jsonl": lambda path: path.write_text(lines)}
    write[name.rpartition(".")[2]](folder / name)
    ROWS[:1].to_csv(folder / "test.csv")
    assert lengths(folder) == [3, None, 1]
    ROWS[:2].to_csv(folder / "val.csv")
    assert lengths(str(folder)) == [3, 2, 1]
    with pytest.raises(DataError, match=r"the folder holds the splits .*train.*: give one of them, such as .*train"):
        read(folder, tmp_path)


def test_shards_and_folders_of_splits(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(2):
        ROWS.to_parquet(folder / f"train-0000{number}-of-00002.parquet")
    ROWS.to_parquet(folder / "test-00000-of-00001.parquet")
    assert lengths(folder) == [6, None, 3]
    for split, count in (("train", 3), ("validation", 1)):
        for number in range(count):
            photo(tmp_path / "classes" / split / "cat" / f"{number}.png")
            photo(tmp_path / "classes" / split / "dog" / f"{number}.png")
    assert lengths(tmp_path / "classes") == [6, 2, None]
    tables = open_tables(tmp_path / "classes")
    assert tables.train.root == tmp_path / "classes" / "train"


@pytest.mark.parametrize("names", [["a.csv"], ["train.csv"], ["train.csv", "extra.csv"], ["test.csv", "val.csv"]])
def test_other_folders_hold_no_splits(names: list[str], tmp_path: Path) -> None:
    for name in names:
        ROWS.to_csv(tmp_path / name)
    assert given_splits(tmp_path) is None


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_folder_with_metadata_is_read_as_datasets_reads_it(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("datasets", reason="datasets is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "photos"
    rows: list[dict[str, Any]] = [
        {"file_name": f"{n % 2}/{n}.png", "caption": f"photo {n}", "price": 1.5 * n} for n in range(4)
    ]
    for row in rows:
        photo(folder / row["file_name"])
    frame = pd.DataFrame(rows)
    if form == "csv":
        frame.to_csv(folder / "metadata.csv", index=False)
    elif form == "jsonl":
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        frame.to_parquet(folder / "metadata.parquet")
    found = cells(read(folder, tmp_path))
    reference = hub.load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(tmp_path / "hub"))["train"]
    theirs = reference.cast_column("image", hub.Image(decode=False)).to_list()
    assert set(found) == set(reference.column_names)
    key = lambda row: row["caption"]  # noqa: E731
    ours = [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]
    for one, other in zip(sorted(ours, key=key), sorted(theirs, key=key), strict=True):
        assert str(folder / one.pop("image")) == other.pop("image")["path"]
        assert one == other


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,x\n1.png,1\n", "has no column 'file_name' with the paths of the media"),
        ("file_name,image\n1.png,1\n", "the column would be named 'image', as another one is"),
        ("file_name,x\n1.heavy,1\n", "'1.heavy' is no image, audio or video file"),
    ],
)
def test_wrong_metadata_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read(tmp_path, tmp_path)


def test_columns_of_several_media(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("front_file_name,back_file_name,n\na.png,b.png,1\n")
    assert cells(read(tmp_path, tmp_path)) == {"front": ["a.png"], "back": ["b.png"], "n": [1]}
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png"}\n')
    with pytest.raises(DataError, match=r"has metadata.csv, metadata.jsonl: give the path of one of them"):
        read(tmp_path, tmp_path)
