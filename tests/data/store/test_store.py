"""The store of decoded media: items are returned unchanged, whichever process wrote them."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymodal.core.errors import PolymodalError
from polymodal.core.paths import CacheWarning
from polymodal.data.store import pack
from polymodal.data.store.items import PreparedInput
from polymodal.data.store.store import MediaStore, StoreItems, content_key
from polymodal.data.store.writer import PreparedWriter
from small_disk import needs_limits, small_disk


def image(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def key(number: int) -> bytes:
    return content_key(str(number).encode())


def images(numbers: range | list[int]) -> np.ndarray:
    return np.stack([image(number) for number in numbers])


def keys(numbers: range | list[int]) -> list[bytes]:
    return [key(number) for number in numbers]


#: The folders from which another process imports this file.
FOLDERS = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
LAYOUT = {"pixels": ("uint8", (4, 6, 3))}
SOUND = {"values": ("int16", (2,)), "times": ("float32", ())}


def store(folder: Path, preparation: str = "bilinear") -> MediaStore:
    return MediaStore(folder, LAYOUT, preparation, ragged=False)


def sounds(folder: Path) -> MediaStore:
    return MediaStore(folder, SOUND, "16 kHz", ragged=True, kind="audio")


def parts(numbers: range | list[int]) -> list[dict[str, np.ndarray]]:
    """The items of fixed stores."""
    return [{"pixels": image(number)} for number in numbers]


def lengths(items: StoreItems) -> list[int]:
    found = items.lengths()
    assert found is not None
    return list(found.tolist())


def sound(number: int) -> dict[str, np.ndarray]:
    """An item whose length is its number."""
    values = np.arange(2 * number, dtype=np.int16).reshape(number, 2) + number % 7
    return {"values": values, "times": np.arange(number, dtype=np.float32)}


def test_images_are_gathered_across_packs(tmp_path: Path) -> None:
    one = store(tmp_path)
    for start in range(0, 30, 10):
        one.add(keys(range(start, start + 10)), parts(range(start, start + 10)))
    chosen = [29, 0, 15, 15, 3]
    items = one.open(keys(range(30)))
    assert len(items) == 30
    assert np.array_equal(items.take(np.array(chosen))["pixels"], images(chosen))
    assert np.array_equal(items.take(np.array([4, 2]))["pixels"], images([4, 2]))
    assert items.take(np.array([], dtype=np.int64))["pixels"].shape == (0, 4, 6, 3)
    again = store(tmp_path).open(keys(chosen))
    assert np.array_equal(again.take(np.arange(5))["pixels"], images(chosen))


def test_what_is_known_is_stored_once(tmp_path: Path) -> None:
    one = store(tmp_path)
    one.add(keys([1, 2, 1]), parts([1, 2, 1]))
    one.add(keys([2, 3]), parts([2, 3]))
    one.add(keys([3]), parts([3]))
    assert one.contains(keys([0, 1, 2, 3])).tolist() == [False, True, True, True]
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.raw")) == 3 * 4 * 6 * 3
    with pytest.raises(KeyError):
        one.open(keys([9]))


@given(st.binary(min_size=1, max_size=50), st.data())
def test_one_changed_byte_is_another_key(data: bytes, draw: st.DataObject) -> None:
    place = draw.draw(st.integers(0, len(data) - 1))
    changed = bytearray(data)
    changed[place] ^= draw.draw(st.integers(1, 255))
    assert len(content_key(data)) == 16
    assert content_key(data) != content_key(bytes(changed))
    assert content_key(data) != content_key(data + b"\0")


def test_another_preparation_or_size_is_a_miss(tmp_path: Path) -> None:
    store(tmp_path).add(keys([1]), parts([1]))
    others = [
        store(tmp_path, "bicubic"),
        MediaStore(tmp_path, {"pixels": ("uint8", (6, 4, 3))}, "bilinear", ragged=False),
        MediaStore(tmp_path, {"pixels": ("int8", (4, 6, 3))}, "bilinear", ragged=False),
        MediaStore(tmp_path, {"frames": ("uint8", (4, 6, 3))}, "bilinear", ragged=False),
        MediaStore(tmp_path, LAYOUT, "bilinear", ragged=True),
    ]
    assert not any(other.contains(keys([1])).any() for other in others)
    assert store(tmp_path).contains(keys([1])).all()


def test_a_view_sees_packs_of_other_processes(tmp_path: Path) -> None:
    one, other = store(tmp_path), store(tmp_path)
    one.add(keys([1]), parts([1]))
    assert other.contains(keys([1])).all()
    early = other.open(keys([1]))
    one.add(keys([2]), parts([2]))
    assert np.array_equal(other.open(keys([2, 1])).take(np.arange(2))["pixels"], images([2, 1]))
    assert np.array_equal(early.take(np.array([0]))["pixels"], images([1]))


_WRITE = """
import sys
sys.path[:0] = sys.argv[2:]
from test_store import *
one = store(Path(sys.argv[1]))
for start in range(0, 40, 4):
    one.add(keys(range(start, start + 4)), parts(range(start, start + 4)))
"""


def test_processes_write_at_the_same_time(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WRITE, str(tmp_path), *FOLDERS]
    writers = [subprocess.Popen(command) for _ in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    items = store(tmp_path).open(keys(range(40)))
    assert np.array_equal(items.take(np.arange(40))["pixels"], images(range(40)))


def test_interrupted_writes_leave_nothing_that_is_read(tmp_path: Path) -> None:
    one = store(tmp_path)
    one.folder.mkdir()
    (one.folder / "a.pixels.raw.partial").write_bytes(b"x")
    (one.folder / "b.pixels.raw").write_bytes(b"xyz")  # pixels without keys: the writer died between the two
    (one.folder / "c.keys.partial").write_bytes(b"x")
    one.add(keys([1]), parts([1]))
    assert store(tmp_path).contains(keys([1, 2])).tolist() == [True, False]


DAMAGE = {
    "short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "long": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "one bit": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
    "removed": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("suffix", ["raw", "keys"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_pack_is_not_used_and_is_written_again(damage: str, suffix: str, tmp_path: Path) -> None:
    store(tmp_path).add(keys([7]), parts([7]))
    one = store(tmp_path)
    one.add(keys([1, 2]), parts([1, 2]))
    (file,) = one.folder.glob(f"{one._packs[-1].name}*.{suffix}")
    del one
    gc.collect()
    DAMAGE[damage](file)
    view = store(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert view.contains(keys([1, 2, 7])).tolist() == [False, False, True]
        with pytest.raises(KeyError):
            view.open(keys([2]))
    told = [str(one.message) for one in caught]
    assert len(told) == (0 if (damage, suffix) == ("removed", "keys") else 1)
    assert all(file.name.partition(".")[0] in message and "damaged" in message for message in told)
    assert damage == "a folder" or suffix == "keys" or not list(view.folder.glob(f"{file.name.partition('.')[0]}.*"))
    view.add(keys([1, 2]), parts([1, 2]))
    assert np.array_equal(view.open(keys([2])).take(np.array([0]))["pixels"], images([2]))
    assert np.array_equal(view.open(keys([7, 1])).take(np.arange(2))["pixels"], images([7, 1]))


def test_records_are_compared_once_in_a_process_and_again_if_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(tmp_path).add(keys([1, 2]), parts([1, 2]))
    gc.collect()
    hashed: list[int] = []
    genuine = pack.content_checksum
    monkeypatch.setattr(pack, "content_checksum", lambda parts: hashed.append(1) or genuine(parts))
    monkeypatch.setattr(pack, "checked_files", set())
    for _ in range(3):
        assert store(tmp_path).contains(keys([1])).all()
    assert len(hashed) == 1
    (pixels,) = store(tmp_path).folder.glob("*.raw")
    gc.collect()
    pixels.write_bytes(bytes(pixels.stat().st_size))
    os.utime(pixels, ns=(0, 1))
    with pytest.warns(CacheWarning, match="is damaged"):
        assert not store(tmp_path).contains(keys([1])).any()


@needs_limits
def test_a_full_disk_names_the_cache_and_harms_no_pack(tmp_path: Path) -> None:
    one = store(tmp_path)
    one.add(keys([1]), parts([1]))
    with small_disk(100), pytest.raises(PolymodalError, match=f"{tmp_path}.*POLYMODAL_CACHE"):
        one.add(keys([2, 3]), parts([2, 3]))
    assert not list(one.folder.glob("*.partial"))
    assert store(tmp_path).contains(keys([1, 2])).tolist() == [True, False]


def test_a_cache_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(PolymodalError, match=f"{tmp_path / 'cache'}.*POLYMODAL_CACHE"):
        store(tmp_path / "cache").contains(keys([1]))


@pytest.mark.parametrize("folder", [None, "prepared"])
def test_the_writer_passes_store_items_through(folder: str | None, tmp_path: Path) -> None:
    one = store(tmp_path / "store")
    one.add(keys(range(6)), parts(range(6)))
    target = tmp_path / folder if folder else None
    writer = PreparedWriter(target)
    writer.append(PreparedInput(np.array([0, 1, -1]), one.open(keys([3, 4])), keys([3, 4])))
    writer.append(PreparedInput(np.array([1, 0]), one.open(keys([4, 0])), keys([4, 0])))
    joined = writer.finish()
    assert isinstance(joined.items, StoreItems)
    assert joined.index.tolist() == [0, 1, -1, 2, 1]
    assert joined.content_keys == keys([3, 4, 0])
    assert np.array_equal(joined.items.take(np.arange(3))["pixels"], images([3, 4, 0]))
    assert target is None or list(target.iterdir()) == []


def test_ragged_items_are_padded_across_packs(tmp_path: Path) -> None:
    one = sounds(tmp_path)
    one.add(keys([3, 0, 5]), [sound(3), sound(0), sound(5)])
    one.add(keys([0, 600]), [sound(0), sound(600)])
    for view in (one, sounds(tmp_path)):
        items = view.open(keys([600, 5, 0, 3]))
        assert lengths(items) == [600, 5, 0, 3]
        assert items.item_bytes() == 8 * 608 / 4
        for chosen in ([1, 2, 3], [2], [0, 3], []):
            taken = items.take(np.array(chosen, np.int64))
            assert taken["length"].tolist() == [[600, 5, 0, 3][i] for i in chosen]
            longest = max([1, *taken["length"].tolist()])
            assert taken["values"].shape == (len(chosen), longest, 2)
            assert taken["values"].dtype == np.int16
            for row, number in enumerate(taken["length"]):
                assert np.array_equal(taken["values"][row, :number], sound(number)["values"])
                assert np.array_equal(taken["times"][row, :number], sound(number)["times"])
                assert not taken["values"][row, number:].any()


def test_the_writer_passes_ragged_items_through(tmp_path: Path) -> None:
    one = sounds(tmp_path / "store")
    one.add(keys([1, 2]), [sound(1), sound(2)])
    writer = PreparedWriter(tmp_path / "run")
    writer.append(PreparedInput(np.array([0]), one.open(keys([2])), keys([2])))
    writer.append(PreparedInput(np.array([0, -1]), one.open(keys([1])), keys([1])))
    joined = writer.finish()
    assert isinstance(joined.items, StoreItems)
    assert lengths(joined.items) == [2, 1]


def test_only_packs_that_are_asked_for_are_mapped(tmp_path: Path) -> None:
    for number in (1, 2):
        store(tmp_path).add(keys([number]), parts([number]))
    other = store(tmp_path)
    other.contains(keys([2]))
    assert sum(pack.arrays is not None for pack in other._packs) == 1


@pytest.mark.parametrize(
    "item",
    [
        {"values": np.zeros((2, 2), np.int16)},
        {"values": np.zeros((2, 2), np.int16), "times": np.zeros(3, np.float32)},
        {"values": np.zeros((2, 3), np.int16), "times": np.zeros(2, np.float32)},
        {"values": np.zeros((2, 2), np.int32), "times": np.zeros(2, np.float32)},
    ],
)
def test_items_of_another_layout_are_refused(item: dict[str, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="but records are"):
        sounds(tmp_path).add(keys([1]), [item])
    assert not sounds(tmp_path).contains(keys([1])).any()


def test_a_pack_that_vanishes_is_not_known(tmp_path: Path) -> None:
    store(tmp_path).add(keys([1]), parts([1]))
    other = store(tmp_path)
    store(tmp_path).add(keys([2]), parts([2]))
    assert other.contains(keys([1])).all()
    assert not other.contains(keys([3])).any()
    for path in other.folder.iterdir():
        path.unlink()
    assert other.contains(keys([1, 2])).tolist() == [True, False]  # what is mapped stays, what is only listed is gone
    other.add(keys([2]), parts([2]))
    assert np.array_equal(other.open(keys([2, 1])).take(np.arange(2))["pixels"], images([2, 1]))


_FEW_FILES = """
import resource, sys
sys.path[:0] = sys.argv[2:]
from test_store import *
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
try:
    store(Path(sys.argv[1])).contains(keys(range(40)))
except PolymodalError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_more_packs_than_files_may_be_open_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    one = store(tmp_path)
    for number in range(40):
        one.add(keys([number]), parts([number]))
    command = [sys.executable, "-c", _FEW_FILES, str(tmp_path), *FOLDERS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "ulimit -n" in done.stdout
