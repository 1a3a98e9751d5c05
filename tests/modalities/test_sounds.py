"""Audio inputs: column matching, row order, cell errors, augmentation and corruption."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from polymodal.core.paths import cache_folder
from polymodal.data.media.audio import AudioRequest, decode
from polymodal.data.store.items import PreparedInput
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.data.table.table import open_table
from polymodal.experiments.plan import make_plan
from polymodal.modalities import audio_augment
from polymodal.modalities.audio import Audio
from polymodal.preparation.preparation import Preparation
from polymodal.recipe.data import LimitOptions
from polymodal.recipe.recipe import Recipe

RATE = 16_000


def tone(frequency: float, seconds: float = 0.5, rate: int = RATE) -> np.ndarray:
    return 0.4 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def written(samples: np.ndarray, rate: int = RATE, format: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format)
    return file.getvalue()


def clip(audio: np.ndarray | None = None) -> bytes:
    """Half a second of black, with or without sound."""
    file = io.BytesIO()
    with av.open(file, "w", format="avi") as container:
        pictures = container.add_stream("mpeg4", rate=10)
        pictures.width = pictures.height = 64
        pictures.pix_fmt = "yuv420p"
        track: Any = container.add_stream("pcm_s16le", rate=RATE, layout="mono") if audio is not None else None
        for _ in range(5):
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(pictures.encode())
        if audio is not None:
            whole = np.rint(audio * 32_767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(whole, format="s16", layout="mono")
            frame.sample_rate = RATE
            container.mux(track.encode(frame))
            container.mux(track.encode())
    return file.getvalue()


def animation() -> bytes:
    file = io.BytesIO()
    Image.new("L", (20, 20)).save(file, "WEBP", save_all=True, append_images=[Image.new("L", (20, 20), 200)])
    return file.getvalue()


def sample_of(values: list[Any]) -> ColumnSample:
    return ColumnSample("sound", values, None, len(values), len(values), 0, None)


def modality(**options: Any) -> Audio:
    return Audio(Audio.Options(**{"seconds": 1.0, **options}), columns=["sound"])


def prepared(cells: list[Any], root: Path | None = None, cache: Path | None = None) -> tuple[PreparedInput, CellErrors]:
    faults, rows = CellErrors(), np.arange(len(cells))
    table = open_table({"sound": cells}, root=root, cache=cache_folder())
    block = table.block(rows, ["sound"], errors=faults, limits=LimitOptions(), cache=cache)
    return modality().prepare(block), faults


def collated(lengths: list[int], channels: int = 1) -> dict[str, torch.Tensor]:
    draw = np.random.default_rng(0)
    values = np.zeros((len(lengths), max(lengths), channels), np.int16)
    for row, length in zip(values, lengths, strict=True):
        row[:length] = draw.integers(-8_000, 8_000, (length, channels))
    return modality(channels=channels).collate({"values": values, "length": np.array(lengths)})


@pytest.mark.parametrize(
    "values",
    [
        ["a.wav", "b/c.MP3", "d.flac"],
        [written(tone(440))],
        [written(tone(440), format="OGG"), written(tone(440), format="MP3"), written(tone(440), format="FLAC")],
        [{"bytes": None, "path": "a.opus"}],
        [{"array": [0.0, 0.1], "sampling_rate": 8_000}],
        ["data:audio/wav;base64,AAAA"],
    ],
)
def test_audio_are_matched(values: list[Any]) -> None:
    guess = Audio.match_column(sample_of(values))
    assert isinstance(guess, Match)
    assert guess.confidence > 0.9


@pytest.mark.parametrize(
    "values", [["a.mp4", "b.webm"], ["hello"], [1.0], [b"abc"], [clip()], [{"path": "a.png"}], [None]]
)
def test_other_columns_are_not(values: list[Any]) -> None:
    assert Audio.match_column(sample_of(values)) is None


def test_seconds_follow_from_headers() -> None:
    cells: list[Any] = [written(tone(440, 0.5))] * 97 + [written(tone(440, 5.0)), b"no sound", clip()]
    assert Audio.resolve(Audio.Options(), [sample_of(cells)]).seconds == 0.5
    long = [{"array": np.zeros(80_000), "sampling_rate": 4_000}]
    assert Audio.resolve(Audio.Options(), [sample_of(long)]).seconds == 10.0
    assert Audio.resolve(Audio.Options(max_seconds=15.5), [sample_of(long)]).seconds == 15.5
    assert Audio.resolve(Audio.Options(seconds=3.0), [sample_of(long)]).seconds == 3.0


def test_every_form_of_a_cell_is_the_same_audio_once(tmp_path: Path) -> None:
    data = written(tone(440))
    (tmp_path / "a.wav").write_bytes(data)
    (tmp_path / "copy.wav").write_bytes(data)
    found, faults = prepared(["a.wav", "copy.wav", None, "a.wav"], root=tmp_path)
    assert found.index.tolist() == [0, 0, -1, 0]
    assert not faults.errors
    assert len(found.items) == 1


@pytest.mark.parametrize("stored", [False, True])
def test_rows_stay_in_order_and_bad_cells_are_listed(stored: bool, tmp_path: Path) -> None:
    """A clip without sound is a gap and no fault."""
    pitches = [300, 500, 700]
    cells: list[Any] = [written(tone(pitch, 0.2 + pitch / 5_000)) for pitch in pitches]
    cells[1:1] = [b"these bytes are no sound", None, clip(), animation()]
    found, faults = prepared(cells, cache=tmp_path if stored else None)
    assert (found.index >= 0).tolist() == [True, False, False, False, False, True, True]
    assert [(fault.row, fault.column) for fault in faults.errors] == [(1, "sound")]
    taken = found.items.take(found.index[[0, 5, 6]])
    assert taken["length"].tolist() == [round((0.2 + pitch / 5_000) * RATE) for pitch in pitches]
    for pitch, row, length in zip(pitches, taken["values"], taken["length"], strict=True):
        expected = decode(written(tone(pitch, 0.2 + pitch / 5_000)), AudioRequest(), LimitOptions())["values"]
        np.testing.assert_array_equal(row[:length], expected)
        assert not row[length:].any()


def test_records_of_arrays_and_why_a_bare_array_is_refused() -> None:
    samples = tone(440).astype(np.float32)
    record = {"array": samples, "sampling_rate": RATE}
    found, faults = prepared([record, record, {"array": samples, "sampling_rate": 8_000}, None])
    assert found.index.tolist() == [0, 0, 1, -1]
    assert found.items.take(np.array([0, 1]))["length"].tolist() == [8_000, 16_000]
    assert not faults.errors
    _, faults = prepared([samples])
    assert "sampling_rate" in faults.errors[0].reason
    _, faults = prepared([{"array": samples, "sampling_rate": None}])
    assert "sampling rate" in faults.errors[0].reason


def test_the_audio_of_a_video_next_to_its_images(tmp_path: Path) -> None:
    """Two inputs may read one column."""
    (tmp_path / "a.avi").write_bytes(clip(tone(440)))
    (tmp_path / "b.avi").write_bytes(clip())
    columns = {"clip": ["a.avi", "b.avi", "a.avi", "b.avi"], "y": ["p", "q", "p", "q"]}
    table = open_table(columns, root=tmp_path, cache=tmp_path / "tables")
    inputs = {
        "clip": {"modality": {"name": "video", "image_size": 32}},
        "sound": {"columns": ["clip"], "modality": "audio"},
    }
    preparation = Preparation(make_plan(table, Recipe(inputs=inputs, outputs={"y": "classification"})).recipe)
    preparation.fit(table, np.arange(4))
    found = preparation.prepare(table, CellErrors(strict=True), folder=None, cache=None)
    batch = preparation.batch(found, np.arange(4))
    assert batch.inputs["clip"].present.all()
    assert batch.inputs["sound"].present.tolist() == [True, False, True, False]
    values = batch.inputs["sound"].data["values"]
    assert values.shape == (1, 1, 8_000)
    np.testing.assert_allclose(values[0, 0].numpy(), tone(440), atol=1e-3)


def test_collated_values_are_between_minus_one_and_one() -> None:
    items = {"values": np.array([[[-32_768, 32_767], [0, 1]]], np.int16), "length": np.array([2])}
    data = modality(channels=2).collate(items)
    assert data["values"].dtype == torch.float32
    assert data["values"].tolist() == [[[-1.0, 0.0], [32_767 / 32_768, 1 / 32_768]]]


@pytest.mark.parametrize("channels", [1, 2])
def test_changes_in_training_leave_padding_lengths_and_the_batch_alone(channels: int) -> None:
    data = collated([4_000, 1_500, 1], channels)
    before = {name: tensor.clone() for name, tensor in data.items()}
    torch.manual_seed(0)
    changed = modality(channels=channels, gain_db=12.0, noise_snr_db=0.0, time_shift=0.3).augment(data)
    assert (changed["length"] == data["length"]).all()
    for row, length in zip(changed["values"], data["length"].tolist(), strict=True):
        assert not row[:, length:].any()
    assert (changed["values"] != data["values"]).any()
    assert all((data[name] == before[name]).all() for name in data)


def test_noise_has_the_ratio_that_was_asked_for() -> None:
    """Also for short items in a long batch: padding does not count."""
    data = collated([16_000, 4_000, 8_000])
    values, length = data["values"], data["length"]
    ratios = []
    for seed in range(20):
        torch.manual_seed(seed)
        noise = audio_augment.add_noise(values, length, 5.0) - values
        ratios += (10 * torch.log10(values.square().sum((1, 2)) / noise.square().sum((1, 2)))).tolist()
    assert min(ratios) >= 5 - 0.5
    assert max(ratios) <= 25 + 0.5
    assert max(ratios) - min(ratios) > 10
    torch.manual_seed(3)
    asked = 5 + 20 * torch.rand(3)
    torch.manual_seed(3)
    noise = audio_augment.add_noise(values, length, 5.0) - values
    found = 10 * torch.log10(values.square().sum((1, 2)) / noise.square().sum((1, 2)))
    torch.testing.assert_close(found, asked, atol=0.5, rtol=0)
    silence = torch.zeros_like(values)
    assert not audio_augment.add_noise(silence, length, 5.0).any()


def test_gain_stays_in_its_range_and_under_full_scale() -> None:
    values = torch.full((400, 1, 4), 0.7)
    torch.manual_seed(0)
    factor = audio_augment.random_gain(values, 6.0)[:, 0, 0] / 0.7
    assert factor.min() >= 10 ** (-6 / 20) - 1e-6
    assert factor.max() == pytest.approx(1 / 0.7)
    quiet = audio_augment.random_gain(values / 100, 6.0)[:, 0, 0] / 0.007
    assert 1.9 < quiet.max() <= 10 ** (6 / 20) + 1e-6


def test_shifted_audio_move_within_their_length() -> None:
    values, length = torch.zeros(200, 1, 120), torch.full((200,), 100)
    values[:, :, :100] = torch.arange(1, 101)
    torch.manual_seed(0)
    moved = audio_augment.time_shift(values, length, 0.1)
    steps = set()
    for row in moved[:, 0]:
        real = row.nonzero().flatten()
        step = int(real[0]) - int(row[real[0]]) + 1
        steps.add(step)
        assert (row[real] == real - step + 1).all()
        assert len(real) == 100 - abs(step)
    assert min(steps) == -10
    assert max(steps) == 10


def items(lengths: list[int]) -> dict[str, np.ndarray]:
    values = np.zeros((len(lengths), max(lengths), 1), np.int16)
    for place, length in enumerate(lengths):
        values[place, :length, 0] = 8_000 * np.sin(np.arange(length) * (0.1 + 0.05 * place))
    return {"values": values, "length": np.array(lengths)}


def damaged(kind: str, strength: float, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return modality().corrupt(given, kind, strength, np.random.default_rng(0))


def ratio(given: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> np.ndarray:
    """Power of each sound over that of what was changed, in dB."""
    before, after = (one["values"].astype(np.float64) for one in (given, found))
    changed = np.square(after - before).sum((1, 2))
    return 10 * np.log10(np.square(before).sum((1, 2)) / np.maximum(changed, 1e-9))


@pytest.mark.parametrize("kind", Audio.corruptions)
def test_corruption_grows_and_touches_nothing_else(kind: str) -> None:
    given = items([16_000, 9_000, 4_000])
    before = {name: array.copy() for name, array in given.items()}
    left = [ratio(given, damaged(kind, strength, given)).mean() for strength in (0.0, 0.25, 0.5, 1.0)]
    assert left[0] > 15
    assert all(late < early for early, late in pairwise(left))
    hard = damaged(kind, 1.0, given)
    assert left[-1] < 6
    assert hard["values"].dtype == np.int16
    assert hard["length"] is given["length"] or (hard["length"] == given["length"]).all()
    for row, length in zip(hard["values"], given["length"], strict=True):
        assert not row[length:].any()
    assert all((given[name] == before[name]).all() for name in given)
    np.testing.assert_array_equal(hard["values"], damaged(kind, 1.0, given)["values"])


@pytest.mark.parametrize("kind", ["noise", "babble"])
@pytest.mark.parametrize(("strength", "wanted"), [(0.0, 30.0), (0.6, 9.0), (1.0, -5.0)])
def test_the_ratio_of_noise_and_babble(kind: str, strength: float, wanted: float) -> None:
    given = items([16_000, 9_000])
    np.testing.assert_allclose(ratio(given, damaged(kind, strength, given)), wanted, atol=0.5)


@pytest.mark.parametrize("kind", Audio.corruptions)
@pytest.mark.parametrize("lengths", [[4_000], [1], [1, 500]])
def test_corruption_to_silence_and_to_single_samples(kind: str, lengths: list[int]) -> None:
    given = {"values": np.zeros((len(lengths), max(lengths), 1), np.int16), "length": np.array(lengths)}
    assert not damaged(kind, 0.7, given)["values"].any()
    given["values"][:, 0] = 1_000
    assert damaged(kind, 0.7, given)["values"].shape == given["values"].shape


def test_reverberation_rings_on_after_a_click() -> None:
    given = items([16_000])
    given["values"][:] = 0
    given["values"][0, 1_000] = 30_000
    powers = []
    for strength in (0.2, 0.5, 1.0):
        found = damaged("reverberation", strength, given)["values"][0, :, 0].astype(np.float64)
        assert not found[:990].any()
        powers.append(np.square(found[2_000:]).sum() / np.square(found).sum())
    assert powers[0] < powers[1] < powers[2]


def test_a_image_and_a_line_for_reports() -> None:
    picture = modality().preview({"values": items([4_000])["values"][0]})
    assert picture.width > 10
    assert modality(channels=2).describe() == "audio of up to 1 s at 16 kHz, stereo"
