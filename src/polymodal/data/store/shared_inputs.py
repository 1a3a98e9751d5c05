"""Prepared inputs that the processes of a machine share: the first writes them, the others map the same files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.core.writing import write_text
from polymodal.data.store.items import FixedItems, Items, JoinedItems, PreparedInput, RaggedItems
from polymodal.data.store.store import MediaStore, StoreItems

#: The file that describes the inputs. It names the files with arrays.
INPUTS = "inputs.json"


def write_inputs(folder: Path, inputs: Mapping[str, PreparedInput]) -> None:
    """Describe prepared inputs in `folder`. Arrays that are mapped stay where they are, others are written.

    Raises:
        TypeError: the items of an input are of a kind that cannot be shared.
    """
    arrays = _Arrays(folder)
    found = {
        name: {
            "index": arrays.write(one.index),
            "keys": None if one.content_keys is None else arrays.write_keys(one.content_keys),
            "items": _describe(one.items, one.content_keys, arrays),
        }
        for name, one in inputs.items()
    }
    write_text(folder / INPUTS, json.dumps(found))


def read_inputs(folder: Path) -> dict[str, PreparedInput]:
    """The inputs of `write_inputs`, mapped."""
    described = json.loads((folder / INPUTS).read_text(encoding="utf-8"))
    inputs = {}
    for name, one in described.items():
        keys = None if one["keys"] is None else _read_keys(folder, one["keys"])
        inputs[name] = PreparedInput(_read(folder, one["index"]), _items(folder, one["items"], keys), keys)
    return inputs


class _Arrays:
    """Writes arrays to numbered files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def write(self, array: np.ndarray) -> dict[str, Any]:
        if isinstance(array, np.memmap) and array.filename is not None:
            return {"map": str(array.filename), "dtype": array.dtype.str, "shape": list(array.shape)}
        self.count += 1
        name = f"shared{self.count}.npy"
        np.save(self.folder / name, array, allow_pickle=False)
        return {"file": name}

    def write_keys(self, keys: list[bytes]) -> list[dict[str, Any]]:
        lengths = np.array([len(key) for key in keys], np.int64)
        return [self.write(np.frombuffer(b"".join(keys), np.uint8)), self.write(lengths)]


def _read(folder: Path, described: Mapping[str, Any]) -> np.ndarray:
    if "file" in described:
        found: np.ndarray = np.load(folder / described["file"], allow_pickle=False)
        return found
    return np.memmap(described["map"], dtype=described["dtype"], mode="r", shape=tuple(described["shape"]))


def _read_keys(folder: Path, described: list[dict[str, Any]]) -> list[bytes]:
    joined, lengths = (_read(folder, one) for one in described)
    text, ends = joined.tobytes(), lengths.cumsum().tolist()
    return [text[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True)]


def _describe(items: Items, keys: list[bytes] | None, arrays: _Arrays) -> dict[str, Any]:
    if isinstance(items, StoreItems) and keys is not None:
        return {"kind": "store", "root": str(items.store.root), **items.store.description}
    if isinstance(items, JoinedItems):
        parts = {name: _describe(part, None, arrays) for name, part in items.parts.items()}
        return {
            "kind": "joined",
            "main": _describe(items.main, keys, arrays),
            "parts": parts,
            "taken": list(items.taken),
        }
    if isinstance(items, FixedItems):
        return {"kind": "fixed", "arrays": {name: arrays.write(one) for name, one in items.arrays.items()}}
    if isinstance(items, RaggedItems):
        own = {name: arrays.write(one) for name, one in items.arrays.items()}
        return {"kind": "ragged", "arrays": own, "starts": arrays.write(items.starts), "pad": items.pad}
    raise TypeError(f"{type(items).__name__} cannot be shared with other processes")


def _items(folder: Path, described: Mapping[str, Any], keys: list[bytes] | None) -> Items:
    kind = described["kind"]
    if kind == "store":
        layout = {name: (dtype, tuple(shape)) for name, (dtype, shape) in described["layout"].items()}
        text, ragged, media = described["preparation"], described["ragged"], described["media"]
        return MediaStore(Path(described["root"]), layout, text, ragged, media).open(keys or [])
    if kind == "joined":
        parts = {name: _items(folder, one, None) for name, one in described["parts"].items()}
        return JoinedItems(_items(folder, described["main"], keys), parts, tuple(described["taken"]))
    arrays = {name: _read(folder, one) for name, one in described["arrays"].items()}
    if kind == "fixed":
        return FixedItems(arrays)
    return RaggedItems(arrays, _read(folder, described["starts"]), described["pad"])
