"""Small seeded data sets of audio, time series and videos with events, as dicts of columns.

`events` of each row is a list of `{"start": seconds, "end": seconds, "label": name}`, as the task `event_detection`
reads it. Events of one label never overlap; events of different labels may.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from polymodal.datasets.moving_shapes import FRAME_MILLISECONDS, RATE, SIDE, Columns, gif_bytes, wav_bytes


def make_audio_events(rows: int = 100, seed: int = 0, seconds: float = 4.0, noise: float = 0.02) -> Columns:
    """Audio with the events "tone" (one pitch), "chirp" (a rising pitch) and "burst" (loud noise).

    Each event occurs up to twice, for 0.4 to 1.2 seconds. `seconds` must be at least 2.5. The background is normal
    noise with standard deviation `noise`.

    Columns: `sound` (WAV as bytes, mono, 8 kHz, 16 bits, of `seconds`); `events`, records of `start`, `end` (in
    seconds) and `label`.

        >>> list(make_audio_events(1, seconds=3.0))
        ['sound', 'events']
    """
    draw = np.random.default_rng(seed)
    makers: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "burst": lambda t: 0.25 * draw.normal(size=len(t)),
        "chirp": lambda t: 0.3 * np.sin(2 * np.pi * (600 + 900 * t / t[-1]) * t),
        "tone": lambda t: 0.3 * np.sin(2 * np.pi * draw.uniform(380, 460) * t),
    }
    columns: Columns = {"sound": [], "events": []}
    for _ in range(rows):
        samples = noise * draw.normal(size=round(seconds * RATE))
        events = _random_events(list(makers), seconds, (0.4, 1.2), draw)
        for event in events:
            first, last = (round(event[end] * RATE) for end in ("start", "end"))
            samples[first:last] += makers[event["label"]](np.arange(last - first) / RATE)
        columns["sound"].append(wav_bytes(samples))
        columns["events"].append(events)
    return columns


def make_series_events(rows: int = 100, seed: int = 0, steps: int = 240, noise: float = 0.3) -> Columns:
    """Time series of three channels with the events "bump", "wave" and "shift" for 20 to 50 steps.

    `steps` must be at least 105. A bump is half a sine in the first channel. A wave has a period of eight steps in the
    second channel. A shift raises the third channel and lowers the first. All channels have normal noise with standard
    deviation `noise`.

    Columns: `series`, a list of `steps` steps of three numbers, one step a second; `events`, records of `start`, `end`
    (in seconds) and `label`.

        >>> columns = make_series_events(1, steps=120)
        >>> len(columns["series"][0]), len(columns["series"][0][0])
        (120, 3)
    """
    draw = np.random.default_rng(seed)
    columns: Columns = {"series": [], "events": []}
    for _ in range(rows):
        values = noise * draw.normal(size=(steps, 3))
        events = _random_events(["bump", "shift", "wave"], steps, (20, 50), draw, whole=True)
        for event in events:
            first, last = int(event["start"]), int(event["end"])
            t = np.arange(last - first)
            if event["label"] == "bump":
                values[first:last, 0] += 2 * np.sin(np.pi * (t + 0.5) / len(t))
            elif event["label"] == "wave":
                values[first:last, 1] += 1.5 * np.sin(2 * np.pi * t / 8)
            else:
                values[first:last] += [-1.0, 0.0, 1.5]
        columns["series"].append(values.tolist())
        columns["events"].append(events)
    return columns


def make_video_events(rows: int = 100, seed: int = 0, frames: int = 32, noise: float = 0.08) -> Columns:
    """Videos of gray noise in which a bright "square" (its outline) or "disc" appears for 6 to 14 frames.

    `frames` must be at least 30.

    Columns: `clip`, a GIF as bytes of `frames` frames of 32 x 32 pixels, 10 a second, with normal noise of standard
    deviation `noise`; `events`, records of `start`, `end` (in seconds) and `label`.

        >>> list(make_video_events(1))
        ['clip', 'events']
    """
    draw = np.random.default_rng(seed)
    columns: Columns = {"clip": [], "events": []}
    for _ in range(rows):
        images = 0.3 + noise * draw.normal(size=(frames, SIDE, SIDE))
        drawn = _random_events(["disc", "square"], frames, (6, 14), draw, whole=True)
        for event in drawn:
            images[int(event["start"]) : int(event["end"])] += 0.5 * _figure(event["label"], draw)
        columns["clip"].append(gif_bytes((np.clip(images, 0, 1) * 255).astype(np.uint8)))
        columns["events"].append(
            [event | {end: event[end] * FRAME_MILLISECONDS / 1_000 for end in ("start", "end")} for event in drawn]
        )
    return columns


def _random_events(
    labels: list[str], length: float, lasting: tuple[float, float], draw: np.random.Generator, *, whole: bool = False
) -> list[dict[str, Any]]:
    """Events of each label, at most one in each half of `length`; `whole`: at integers."""
    events = []
    for label in labels:
        for half in (0.0, length / 2):
            if draw.random() < 0.4:
                duration = draw.uniform(*lasting)
                start = half + draw.uniform(0, length / 2 - duration - 0.02 * length)
                times = (start, start + duration)
                begin, end = (float(round(time)) if whole else round(float(time), 3) for time in times)
                events.append({"start": begin, "end": end, "label": label})
    return sorted(events, key=lambda event: event["start"])


def _figure(label: str, draw: np.random.Generator) -> np.ndarray:
    """`[SIDE, SIDE]` 0 or 1: a square or a disc of 12 pixels at a random position."""
    image = Image.new("L", (SIDE, SIDE))
    left, top = draw.integers(1, SIDE - 13, 2).tolist()
    box = (left, top, left + 12, top + 12)
    pen = ImageDraw.Draw(image)
    if label == "disc":
        pen.ellipse(box, fill=1)
    else:
        pen.rectangle(box, outline=1, width=3)
    return np.asarray(image, dtype=np.float64)
