"""Prepared inputs that one process writes and another maps: every kind of items comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polymodal.data.store.items import FixedItems, Items, JoinedItems, PreparedInput, RaggedItems, SelectedItems
from polymodal.data.store.shared_inputs import read_inputs, write_inputs
from polymodal.data.store.store import MediaStore, content_key
from polymodal.data.store.writer import PreparedWriter

INDEX = np.array([1, -1, 0, 2, 1], np.int64)


def written(folder: Path, items: Items, keys: list[bytes] | None) -> PreparedInput:
    """The items as preparation writes them: mapped."""
    writer = PreparedWriter(folder)
    writer.append(PreparedInput(INDEX, items, keys))
    return writer.finish()


def inputs(folder: Path) -> dict[str, PreparedInput]:
    keys = [content_key(bytes([one])) for one in range(3)]
    fixed = FixedItems({"values": np.arange(12, dtype=np.float16).reshape(3, 4), "empty": np.zeros((3, 0), np.int8)})
    ragged = RaggedItems({"values": np.arange(5, dtype=np.int32)}, np.array([0, 0, 2, 5]), pad=-1)
    parts = RaggedItems({"ids": np.arange(3)}, np.array([0, 1, 1, 3]))
    store = MediaStore(folder / "cache", {"pixels": ("uint8", (2,))}, "resized", ragged=True)
    store.add(keys, [{"pixels": np.full((length, 2), length, np.uint8)} for length in (1, 3, 2)])
    return {
        "fixed": written(folder / "fixed", fixed, None),
        "in memory": PreparedInput(INDEX, fixed, None),
        "ragged": written(folder / "ragged", ragged, [b"", b"ab", b"c"]),
        "joined": written(folder / "joined", JoinedItems(ragged, {"ngram": parts}, ("ngram",)), None),
        "media": PreparedInput(INDEX, store.open(keys), keys),
    }


def test_all_items_come_back(tmp_path: Path) -> None:
    own = inputs(tmp_path)
    write_inputs(tmp_path, own)
    found = read_inputs(tmp_path)
    assert list(found) == list(own)
    for name, one in own.items():
        assert np.array_equal(found[name].index, INDEX)
        assert found[name].content_keys == one.content_keys
        assert type(found[name].items) is type(one.items)
        ids = np.array([2, 0, 1, 2])
        taken, wanted = found[name].items.take(ids), one.items.take(ids)
        assert taken.keys() == wanted.keys()
        for key, array in wanted.items():
            assert taken[key].dtype == array.dtype
            assert np.array_equal(taken[key], array)


def test_mapped_arrays_are_mapped_and_not_copied(tmp_path: Path) -> None:
    own = inputs(tmp_path)
    write_inputs(tmp_path, {"fixed": own["fixed"]})
    items, mapped = read_inputs(tmp_path)["fixed"].items, own["fixed"].items
    assert isinstance(items, FixedItems)
    assert isinstance(mapped, FixedItems)
    array, source = items.arrays["values"], mapped.arrays["values"]
    assert isinstance(array, np.memmap)
    assert isinstance(source, np.memmap)
    assert str(array.filename) == str(source.filename)


def test_other_items_are_refused(tmp_path: Path) -> None:
    items = SelectedItems(inputs(tmp_path)["fixed"].items, np.array([0]))
    with pytest.raises(TypeError, match="SelectedItems cannot be shared"):
        write_inputs(tmp_path, {"x": PreparedInput(np.zeros(1, np.int64), items)})
