"""Planted clips, sounds and pictures: seeded, balanced, and the label is where the documentation says: in the order."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageSequence

from polymodal.datasets.moving_shapes import (
    DIGIT_TONES,
    RATE,
    TONE_SECONDS,
    gif_bytes,
    make_moving_shapes,
    make_moving_shapes_with_audio,
    make_spoken_digits,
    wav_bytes,
)

SETS = [make_moving_shapes, make_moving_shapes_with_audio, make_spoken_digits]


def plain(columns: dict[str, list]) -> dict[str, list]:
    return {name: [c.tobytes() if hasattr(c, "tobytes") else c for c in cells] for name, cells in columns.items()}


def frames_of(cell: bytes) -> np.ndarray:
    """`[frames, height, width]`, grey."""
    frames = ImageSequence.Iterator(Image.open(io.BytesIO(cell)))
    return np.stack([np.asarray(frame.convert("L")) for frame in frames])


def tones_of(cell: bytes) -> list[int]:
    """The strongest frequency of each tone's stretch, in Hz."""
    with wave.open(io.BytesIO(cell)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        values = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)
    stretches = values.reshape(-1, round(TONE_SECONDS * RATE))
    return [int(np.abs(np.fft.rfft(stretch))[5:].argmax() + 5) * round(1 / TONE_SECONDS) for stretch in stretches]


def motion(frames: np.ndarray) -> str:
    """How the figure moves: from the last frame's width of bright pixels and their middle against the first frame's."""
    first, last = (np.nonzero(frame > 95) for frame in frames[[0, -1]])
    slides, grows = last[1].mean() - first[1].mean(), len(last[1]) - len(first[1])
    forward = slides > 0 if abs(slides) > 6 else grows > 0
    return "forward" if forward else "backward"


@pytest.mark.parametrize("make", SETS)
def test_seeded_and_of_the_asked_length(make: Callable[..., dict[str, list]]) -> None:
    one = plain(make(30, seed=1))
    assert {len(cells) for cells in one.values()} == {30}
    assert plain(make(30, seed=1)) == one
    assert plain(make(30, seed=2)) != one


@pytest.mark.parametrize("make", SETS)
def test_classes_are_equally_frequent(make: Callable[..., dict[str, list]]) -> None:
    *_, target = make(60, seed=0).values()
    _, counts = np.unique(target, return_counts=True)
    assert set(counts) == {60 // len(counts)}


def test_the_motion_is_in_the_order_of_the_frames() -> None:
    columns = make_moving_shapes(60, seed=0)
    other = {"forward": "backward", "backward": "forward"}
    for cell, label in zip(columns["clip"], columns["motion"], strict=True):
        frames = frames_of(cell)
        assert 6 <= len(frames) <= 10
        assert motion(frames) == label
        assert motion(frames[::-1]) == other[label]


def test_one_clip_is_the_other_in_reverse() -> None:
    """The same draws with the other label: the same frames, back to front."""
    from polymodal.datasets.moving_shapes import _moving_figure, _scale

    forward, backward = (_moving_figure(ahead, 1.0, np.random.default_rng(3)) for ahead in (True, False))
    assert np.array_equal(forward[::-1], backward)
    rising, falling = (tones_of(wav_bytes(_scale(up, 1.0, np.random.default_rng(3)))) for up in (True, False))
    assert rising[::-1] == falling
    assert rising == sorted(rising)


def test_a_clip_keeps_every_pixel_and_its_speed() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 12), dtype=np.uint8)
    assert np.array_equal(frames_of(gif_bytes(frames)), frames)
    assert Image.open(io.BytesIO(gif_bytes(frames))).info["duration"] == 100


def test_either_input_tells_the_motion_unless_it_is_drowned() -> None:
    columns = make_moving_shapes_with_audio(400, seed=0, noise_ratio=0.0)
    for clip, sound, label in zip(*columns.values(), strict=True):
        tones = tones_of(sound)
        assert motion(frames_of(clip)) == label == ("forward" if tones[-1] > tones[0] else "backward")
    columns = make_moving_shapes_with_audio(400, seed=0, noise_ratio=0.4)
    figure = np.array([(frames_of(cell) > 120).any() for cell in columns["clip"]])
    assert 0.52 < figure.mean() < 0.68
    climbs = np.array(
        [np.all(np.diff(tones) > 0) or np.all(np.diff(tones) < 0) for tones in map(tones_of, columns["sound"])]
    )
    assert 0.52 < climbs.mean() < 0.75
    assert 0.15 < (figure & ~climbs).mean() < 0.33  # drowned independently


def test_digits_are_heard_as_their_tones_unless_drowned() -> None:
    columns = make_spoken_digits(200, seed=0, noise_ratio=0.0)
    assert len(set(DIGIT_TONES)) == 10
    for image, sound, digit in zip(*columns.values(), strict=True):
        assert image.size == (32, 32)
        for heard, wanted in zip(tones_of(sound), DIGIT_TONES[int(digit)], strict=True):
            assert abs(heard / wanted - 1) < 0.03
    deviation = np.array(
        [np.asarray(image)[:4].std() for image in make_spoken_digits(400, 0, noise_ratio=0.5)["image"]]
    )
    assert 0.42 < (deviation > 45).mean() < 0.58
