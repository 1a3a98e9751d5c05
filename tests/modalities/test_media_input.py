"""All media modalities: any form of cell gives the same decoded items, with or without a store, decoded once."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.data.media.audio import AudioRequest
from polymodal.data.media.formats import AUDIO_SUFFIXES
from polymodal.data.media.source import MediaError
from polymodal.data.media.workers.pool import DecodePool
from polymodal.data.store import decode_buffer
from polymodal.data.store.decode_buffer import Item
from polymodal.data.store.items import PreparedInput
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.modalities import media
from polymodal.modalities.base import ModalityOptions
from polymodal.modalities.intended_media import is_missing, looks_like, match_media
from polymodal.modalities.media import MediaModality
from polymodal.preparation.preparation import BLOCK_ROWS, MAX_BLOCK_BYTES, MIN_BLOCK_ROWS, Preparation
from polymodal.recipe.data import LimitOptions
from polymodal.recipe.recipe import Recipe

RATE = 8_000


class Sounds(MediaModality):
    """The least that a kind of ragged media needs; a list is a sound in memory, an empty one is none."""

    media = "audio"
    checked = 0

    def __init__(self, request: AudioRequest | None = None) -> None:
        super().__init__(ModalityOptions(name="sounds"), columns=["x"])
        self.asked = request or AudioRequest(sampling_rate=RATE)

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        return match_media(sample, "audio", lambda cell: looks_like("audio", cell, AUDIO_SUFFIXES), "sound")

    def fit(self, blocks: Iterable[RowBlock]) -> None: ...

    def request(self) -> AudioRequest:
        return self.asked

    def from_memory(self, cell: Any, limits: LimitOptions) -> tuple[bytes, Item] | None:
        if not isinstance(cell, list):
            return None
        if len(cell) > limits.seconds * RATE:
            raise MediaError("the list is too long")
        values = np.array(cell, np.int16).reshape(-1, 1)
        return values.tobytes(), {"values": values} if cell else {}

    def check_packages(self) -> None:
        self.checked += 1

    def shape(self) -> dict[str, Any]:
        return {}

    def save(self, folder: Path) -> dict[str, Any]:
        return {}

    def load(self, folder: Path, state: dict[str, Any]) -> None: ...


def tone(number: int) -> np.ndarray:
    """A sound whose length and values depend on its number."""
    return (np.arange(100 + 50 * number) * (number + 1) % 1000).astype(np.int16)


def wav(values: np.ndarray) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(values.tobytes())
    return out.getvalue()


def block(cells: list[Any], root: Path | None = None, cache: Path | None = None, **limits: Any) -> RowBlock:
    return RowBlock({"x": cells}, np.arange(len(cells)), root, "table", CellErrors(), LimitOptions(**limits), cache)


def rows(prepared: PreparedInput) -> list[list[int] | None]:
    """The samples of each row, None where it has no sound."""
    if not len(prepared.items):
        return [None] * len(prepared.index)
    taken = prepared.items.take(np.arange(len(prepared.items)))
    values = [row[:length, 0].tolist() for row, length in zip(taken["values"], taken["length"], strict=True)]
    return [values[item] if item >= 0 else None for item in prepared.index]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(6):
        (tmp_path / f"{number}.wav").write_bytes(wav(tone(number)))
    return tmp_path


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bytes that have gone to the decoders."""
    found: list[bytes] = []
    original = DecodePool.map

    def counted(pool: DecodePool, jobs: Iterable[tuple[bytes, Any]]) -> Any:
        return original(pool, (found.append(job[0]) or job for job in jobs))  # type: ignore[func-returns-value]

    monkeypatch.setattr(DecodePool, "map", counted)
    return found


def test_every_form_of_a_cell_is_the_same_item(folder: Path, decoded: list[bytes]) -> None:
    data = wav(tone(2))
    address = "data:audio/wav;base64," + base64.b64encode(data).decode()
    cells = ["2.wav", Path("2.wav"), data, address, {"bytes": data, "path": None}, {"bytes": None, "path": "2.wav"}]
    prepared = Sounds().prepare(block([*cells, tone(2).tolist()], folder))
    assert rows(prepared) == [tone(2).tolist()] * 7
    assert decoded == [data]
    assert len(prepared.items) == 2  # a sound in memory is not known by its file


@pytest.mark.parametrize("pack", [1, decode_buffer.PACK_BYTES])
@pytest.mark.parametrize("chunk", [2, media.CHUNK_CELLS])
def test_items_are_the_same_with_a_store_without_one_and_in_any_order(
    chunk: int, pack: int, folder: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[bytes]
) -> None:
    monkeypatch.setattr(media, "CHUNK_CELLS", chunk)
    monkeypatch.setattr(decode_buffer, "PACK_BYTES", pack)
    cells: list[Any] = [
        "3.wav",
        None,
        "0.wav",
        [5, 6],
        "3.wav",
        "",
        "1.wav",
        {},
        "5.wav",
        [5, 6],
        float("nan"),
        "2.wav",
    ]
    without = Sounds().prepare(block(cells, folder))
    stored = Sounds().prepare(block(cells, folder, folder / "cache"))
    count = len(decoded)
    again = Sounds().prepare(block(cells[::-1], folder, folder / "cache"))
    assert len(decoded) == count == 2 * 5
    assert rows(without) == rows(stored) == rows(again)[::-1]
    assert without.content_keys == stored.content_keys
    assert rows(without)[2] == tone(0).tolist()
    assert rows(without)[3] == [5, 6]
    assert len(list((folder / "cache").rglob("*.keys"))) == (6 if pack == 1 else 1)


def test_what_holds_no_such_media_is_missing_and_no_bad_cell(folder: Path) -> None:
    for cache in (None, folder / "cache"):
        given = block(["0.wav", [], "1.wav"], folder, cache)
        assert [row is None for row in rows(Sounds().prepare(given))] == [False, True, False]
        assert not given.errors.errors


def test_bad_cells_are_bad_cells_with_row_file_and_reason_and_change_no_other_row(folder: Path) -> None:
    (folder / "broken.wav").write_bytes(wav(tone(0))[:20])
    bad = ["gone.wav", "broken.wav", "../up.wav", b"no sound", 7, [1] * 9_000]
    for cache in (None, folder / "cache"):
        given = block(["0.wav", *bad, "broken.wav", "1.wav"], folder, cache, seconds=1)
        found = rows(Sounds().prepare(given))
        assert [found[0], found[-1]] == [tone(0).tolist(), tone(1).tolist()]
        assert found[1:-1] == [None] * 7
        assert [fault.row for fault in given.errors.errors] == list(range(1, 8))
        assert [fault.file for fault in given.errors.errors[:3]] == bad[:3]
        assert all(fault.reason and fault.column == "x" for fault in given.errors.errors)


def test_a_tighter_limit_is_not_slipped_past_by_the_store(folder: Path) -> None:
    (folder / "long.wav").write_bytes(wav(np.zeros(2 * RATE, np.int16)))
    assert rows(Sounds().prepare(block(["long.wav"], folder, folder / "cache"))) != [None]
    given = block(["long.wav"], folder, folder / "cache", seconds=1)
    assert rows(Sounds().prepare(given)) == [None]
    assert len(given.errors.errors) == 1


LIMITS = {"seconds": 30.0, "channels": 2, "sampling_rate": 96_000, "megapixels": 1.0, "frames": 10, "values": 1_000}
REQUESTS = [{"sampling_rate": 4_000}, {"channels": 2}, {"seconds": 0.01}, {"crop": "center"}, {"normalization": "peak"}]


@pytest.mark.parametrize("limit", LIMITS)
def test_a_changed_limit_is_a_miss(limit: str, folder: Path, decoded: list[bytes]) -> None:
    Sounds().prepare(block(["0.wav"], folder, folder / "cache"))
    for _ in range(2):
        Sounds().prepare(block(["0.wav"], folder, folder / "cache", **{limit: LIMITS[limit]}))
    assert len(decoded) == 2


def test_limits_on_processes_are_no_miss(folder: Path, decoded: list[bytes]) -> None:
    Sounds().prepare(block(["0.wav"], folder, folder / "cache"))
    Sounds().prepare(block(["0.wav"], folder, folder / "cache", timeout_seconds=30, num_workers=1))
    assert len(decoded) == 1


@pytest.mark.parametrize("changed", REQUESTS, ids=str)
def test_a_changed_request_is_a_miss(changed: dict[str, Any], folder: Path, decoded: list[bytes]) -> None:
    Sounds().prepare(block(["0.wav"], folder, folder / "cache"))
    request = AudioRequest(**{"sampling_rate": RATE, **changed})
    stored = Sounds(request).prepare(block(["0.wav"], folder, folder / "cache"))
    assert len(decoded) == 2
    assert rows(stored) == rows(Sounds(request).prepare(block(["0.wav"], folder)))


def test_another_version_of_the_decoder_is_a_miss(
    folder: Path, decoded: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    Sounds().prepare(block(["0.wav"], folder, folder / "cache"))
    monkeypatch.setattr("polymodal.data.media.audio.VERSION", "another")
    Sounds().prepare(block(["0.wav"], folder, folder / "cache"))
    assert len(decoded) == 2


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 255), st.integers(44, 100))
def test_one_changed_byte_is_another_item(mask: int, place: int) -> None:
    data = bytearray(wav(tone(0)))
    data[place] ^= mask
    prepared = Sounds().prepare(block([wav(tone(0)), bytes(data)]))
    assert len(prepared.items) == (2 if mask else 1)


def test_packages_are_checked_before_the_first_is_decoded_and_only_then(folder: Path) -> None:
    sounds = Sounds()
    sounds.prepare(block([None, [1, 2], []], folder))
    assert sounds.checked == 0
    sounds.prepare(block(["0.wav", "1.wav"], folder))
    assert sounds.checked == 1


def test_encoded_bytes_that_are_held_at_once_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "CHUNK_BYTES", 1_000)
    sizes = {f"{number}.wav": (folder / f"{number}.wav").stat().st_size for number in range(6)}
    names = [*sizes, "gone.wav", "0.wav"]
    chunks = list(media._chunks(names, folder))
    assert [name for chunk in chunks for name in chunk] == names
    assert all(len(chunk) == 1 or sum(sizes.get(name, 0) for name in chunk) <= 1_000 for chunk in chunks)
    assert any(len(chunk) > 1 for chunk in chunks)
    assert len(list(media._chunks([b"x" * 900] * 5, folder))) == 1  # in memory already


@pytest.mark.parametrize("cell", [None, float("nan"), np.float32("nan"), "", "  ", {}, {"bytes": None, "path": None}])
def test_missing_cells(cell: Any) -> None:
    assert is_missing(cell)


@pytest.mark.parametrize("cell", [0.0, "a", b"", [], {"bytes": b"", "path": None}, np.zeros(2)])
def test_cells_that_are_there(cell: Any) -> None:
    assert not is_missing(cell)


def test_recognises_audio_and_nothing_else() -> None:
    def guess(values: list[Any]) -> Match | None:
        return Sounds.match_column(ColumnSample("x", values, None, len(values), len(values), 0, None))

    data = wav(tone(0))
    for values in (
        ["a/b.WAV", "c.mp3"],
        [data],
        [{"bytes": data}],
        ["data:audio/wav;base64,x"],
        ["x.flac"] * 9 + ["?"],
    ):
        found = guess(values)
        assert found is not None
        assert found.confidence > 0.9
    for other in (["red", "blue"], [1.0], [b"plain"], ["a.png"], [None], ["data:image/png;base64,x"]):
        assert guess(other) is None


@dataclass
class Sized:
    """A modality, as far as the size of blocks needs one."""

    bytes: float

    def row_bytes(self) -> float:
        return self.bytes


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([0], BLOCK_ROWS),
        ([10], BLOCK_ROWS),
        ([MAX_BLOCK_BYTES / 200, MAX_BLOCK_BYTES / 200], 100),
        ([1e12], MIN_BLOCK_ROWS),
    ],
)
def test_blocks_are_bounded_by_the_bytes_of_their_items(sizes: list[float], expected: int) -> None:
    preparation = Preparation(Recipe())
    preparation.modalities = {str(i): Sized(size) for i, size in enumerate(sizes)}  # type: ignore[misc]
    assert preparation.max_block_rows == expected


def test_long_items_make_small_blocks() -> None:
    assert Sounds().row_bytes() == 2 * Sounds().max_records() > 2**20
    recipe = Recipe(inputs={"x": {"modality": {"name": "image", "image_size": 1_024}}})
    assert Preparation(recipe).max_block_rows == MAX_BLOCK_BYTES // (3 * 1_024**2)


def test_a_block_without_any_media(folder: Path) -> None:
    for cache in (None, folder / "cache"):
        prepared = Sounds().prepare(block([None, ""], folder, cache))
        assert prepared.index.tolist() == [-1, -1]
        assert len(prepared.items) == 0
        assert prepared.items.take(np.array([], np.int64))["values"].shape == (0, 1, 1)
