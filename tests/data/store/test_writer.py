"""The writer of prepared items: every row keeps its item, in memory and memory-mapped."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.data.store.items import FixedItems, PreparedInput, RaggedItems
from polymodal.data.store.writer import PreparedWriter

# A block: for each row the content of its item (a small number), or None where the input is missing.
BLOCKS = st.lists(st.lists(st.none() | st.integers(0, 12), max_size=8), min_size=1, max_size=5)


def items_of(block: list[int | None], with_keys: bool) -> tuple[np.ndarray, list[int]]:
    """Index and contents of a block's distinct items; without keys every row has its own."""
    contents: list[int] = []
    index = []
    for content in block:
        if content is not None and not (with_keys and content in contents):
            contents.append(content)
        index.append(-1 if content is None else contents.index(content) if with_keys else len(contents) - 1)
    return np.array(index, dtype=np.int64), contents


def sequence(content: int) -> np.ndarray:
    """A sequence whose length depends on its content; content 0 is empty."""
    return np.arange(content * 2, dtype=np.int32).reshape(content, 2) + 100 * content


@settings(max_examples=60, deadline=None)
@given(BLOCKS, st.booleans(), st.booleans())
def test_fixed_items_come_back(blocks: list[list[int | None]], with_keys: bool, in_memory: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        writer = PreparedWriter(None if in_memory else Path(folder) / "input")
        for block in blocks:
            index, contents = items_of(block, with_keys)
            arrays = {
                "small": np.array(contents, dtype=np.float16).reshape(-1, 1, 1).repeat(3, axis=1),
                "flag": np.array([content > 5 for content in contents], dtype=bool),
            }
            keys = [bytes([content]) for content in contents] if with_keys else None
            writer.append(PreparedInput(index, FixedItems(arrays), keys))
        joined = writer.finish()
        rows = [content for block in blocks for content in block]
        assert (joined.index >= 0).tolist() == [content is not None for content in rows]
        there = [content for content in rows if content is not None]
        taken = joined.items.take(joined.index[joined.index >= 0])
        assert taken["small"].dtype == np.float16
        assert taken["small"].shape == (len(there), 3, 1)
        assert taken["small"][:, 0, 0].tolist() == there
        assert taken["flag"].tolist() == [content > 5 for content in there]
        assert len(joined.items) == (len(set(there)) if with_keys else len(there))
        assert (
            joined.content_keys is None or [joined.content_keys[item][0] for item in joined.index if item >= 0] == there
        )


@settings(max_examples=60, deadline=None)
@given(BLOCKS, st.booleans(), st.booleans())
def test_ragged_items_come_back(blocks: list[list[int | None]], with_keys: bool, in_memory: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        writer = PreparedWriter(None if in_memory else Path(folder))
        for block in blocks:
            index, contents = items_of(block, with_keys)
            parts = [np.zeros((0, 2), np.int32), *map(sequence, contents)]
            starts = np.cumsum([0, *contents])
            keys = [bytes([content]) for content in contents] if with_keys else None
            writer.append(PreparedInput(index, RaggedItems({"values": np.concatenate(parts)}, starts, pad=-1), keys))
        joined = writer.finish()
        rows = [content for block in blocks for content in block]
        assert len(joined.index) == len(rows)
        for item, content in zip(joined.index, rows, strict=True):
            if content is None:
                assert item == -1
            else:
                taken = joined.items.take(np.array([item]))
                assert taken["length"].tolist() == [content]
                assert np.array_equal(taken["values"][0, :content], sequence(content))
        assert isinstance(joined.items, RaggedItems)
        assert joined.items.pad == -1


def fixed(*values: float, dtype: type = np.float32) -> PreparedInput:
    return PreparedInput(np.arange(len(values)), FixedItems({"x": np.array(values, dtype=dtype)}))


def test_items_in_a_folder_are_mapped_and_an_older_map_stays_valid(tmp_path: Path) -> None:
    first, second = PreparedWriter(tmp_path), None
    first.append(fixed(1, 2))
    old = first.finish().items
    assert isinstance(old.arrays["x"], np.memmap)
    second = PreparedWriter(tmp_path)
    second.append(fixed(3))
    assert second.finish().items.take(np.array([0]))["x"].tolist() == [3]
    assert old.take(np.array([0, 1]))["x"].tolist() == [1, 2]


def test_blocks_of_different_kinds_are_refused() -> None:
    for other in (
        fixed(1, dtype=np.float64),
        PreparedInput(np.array([0]), FixedItems({"x": np.zeros((1, 2), np.float32)})),
        PreparedInput(np.array([0]), fixed(1).items, [b"key"]),
        PreparedInput(np.array([0]), RaggedItems({"values": np.zeros(1)}, np.array([0, 1]))),
    ):
        writer = PreparedWriter(None)
        writer.append(fixed(1))
        with pytest.raises(TypeError):
            writer.append(other)
    with pytest.raises(ValueError, match="no block"):
        PreparedWriter(None).finish()
