"""Small seeded data sets of videos, audio and images with a planted signal, as dicts of columns.

A video is an animated GIF and audio is a WAV file, both as bytes, so that the decoders read them like files.
"""

from __future__ import annotations

import io
import wave
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Columns = dict[str, list[Any]]

SIDE = 32
FRAME_MILLISECONDS = 100
RATE = 8_000
TONE_SECONDS = 0.2
#: The two tones of each digit in Hz: the row and the column of the telephone keypad (ITU-T Q.23).
DIGIT_TONES = [
    (941, 1336),
    *((row, column) for row in (697, 770, 852) for column in (1209, 1336, 1477)),
]


def make_moving_shapes(rows: int = 100, seed: int = 0) -> Columns:
    """Videos of a figure that moves or changes its size on a noisy background.

    A backward video is a forward video with its frames in reverse order, so only the order of the frames determines the
    motion. Both classes are equally frequent.

    Columns: `clip`, a GIF as bytes of 6 to 10 frames of 32 x 32 pixels, 10 a second; `motion`, "forward" (to the right,
    or growing) or "backward" (to the left, or shrinking).

        >>> columns = make_moving_shapes(2)
        >>> columns["clip"][0][:6], sorted(columns["motion"])
        (b'GIF89a', ['backward', 'forward'])
    """
    generator = np.random.default_rng(seed)
    forward = _balanced(rows, 2, generator) == 1
    videos = [gif_bytes(_moving_figure(ahead, 1.0, generator)) for ahead in forward.tolist()]
    return {"clip": videos, "motion": np.where(forward, "forward", "backward").tolist()}


def make_moving_shapes_with_audio(rows: int = 100, seed: int = 0, noise_ratio: float = 0.4) -> Columns:
    """Videos as in `make_moving_shapes`, each with audio of four tones that rise (forward) or fall (backward).

    Each input determines the motion by its order in time. A fraction `noise_ratio` of the videos shows no figure, and
    the same fraction of the audio has no tones, independently. The best accuracy is 1 - noise_ratio / 2 with one input
    and 1 - noise_ratio^2 / 2 with both.

    Columns: `clip` (GIF as bytes), `sound` (WAV as bytes, mono, 8 kHz), `motion` ("forward" or "backward").

        >>> list(make_moving_shapes_with_audio(2))
        ['clip', 'sound', 'motion']
    """
    generator = np.random.default_rng(seed)
    forward = _balanced(rows, 2, generator) == 1
    columns: Columns = {"clip": [], "sound": []}
    for ahead in forward.tolist():
        seen, heard = (generator.random(2) >= noise_ratio).tolist()
        columns["clip"].append(gif_bytes(_moving_figure(ahead, float(seen), generator)))
        columns["sound"].append(wav_bytes(_scale(ahead, float(heard), generator)))
    return columns | {"motion": np.where(forward, "forward", "backward").tolist()}


def make_spoken_digits(rows: int = 100, seed: int = 0, noise_ratio: float = 0.2) -> Columns:
    """A digit as an image and as its two keypad tones, one after the other.

    Each cell has its own noise level. In a fraction `noise_ratio` of the images and of the audio, independently, the
    noise hides the digit almost completely. The other input then often still shows it.

    Columns: `image` (a PIL image of 32 x 32 pixels), `sound` (WAV as bytes, mono, 8 kHz), `digit` ("0" to "9", equally
    frequent).

        >>> columns = make_spoken_digits(10)
        >>> sorted(columns["digit"])
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']
    """
    generator = np.random.default_rng(seed)
    digits = _balanced(rows, 10, generator).tolist()
    columns: Columns = {"image": [], "sound": []}
    for digit in digits:
        dim, faint = (generator.random(2) < noise_ratio).tolist()
        columns["image"].append(_digit_image(digit, dim, generator))
        columns["sound"].append(wav_bytes(_digit_tones(digit, faint, generator)))
    return columns | {"digit": [str(digit) for digit in digits]}


def gif_bytes(frames: np.ndarray) -> bytes:
    """Gray frames `[frames, height, width]` uint8 as an animated GIF, without loss."""
    first, *rest = (Image.fromarray(frame) for frame in frames)
    encoded = io.BytesIO()
    first.save(encoded, "GIF", save_all=True, append_images=rest, duration=FRAME_MILLISECONDS, loop=0)
    return encoded.getvalue()


def wav_bytes(values: np.ndarray) -> bytes:
    """A waveform from -1 to 1 as a WAV file: mono, 16 bits, 8 kHz; louder values are clipped."""
    encoded = io.BytesIO()
    with wave.open(encoded, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((values.clip(-1, 1) * 32_767).astype("<i2").tobytes())
    return encoded.getvalue()


def _balanced(rows: int, kinds: int, generator: np.random.Generator) -> np.ndarray:
    return generator.permutation(np.arange(rows) % kinds)


def _moving_figure(forward: bool, strength: float, generator: np.random.Generator) -> np.ndarray:
    """`[frames, 32, 32]` uint8; at strength 0 only noise."""
    frames = int(generator.integers(6, 11))
    way = np.linspace(0, 1, frames)
    least, most = 0.12 * SIDE, 0.36 * SIDE
    if generator.random() < 0.5:
        radius = np.full(frames, generator.uniform(0.12, 0.2) * SIDE)
        x = generator.uniform(0.15, 0.3) * SIDE + way * generator.uniform(0.4, 0.55) * SIDE
    else:
        radius = least + way * generator.uniform(0.6, 1) * (most - least)
        x = np.full(frames, generator.uniform(0.4, 0.6) * SIDE)
    y = generator.uniform(0.4, 0.6) * SIDE
    brightness, round_ = generator.uniform(80, 140) * strength, generator.random() < 0.5
    clip = generator.integers(0, 100, (frames, SIDE, SIDE)).astype(np.float64)
    for frame, center, size in zip(clip, x, radius, strict=True):
        shape = Image.new("L", (SIDE, SIDE))
        draw = ImageDraw.Draw(shape)
        (draw.ellipse if round_ else draw.rectangle)((center - size, y - size, center + size, y + size), fill=1)
        frame += brightness * np.asarray(shape)
    return (clip if forward else clip[::-1]).astype(np.uint8)


def _scale(rising: bool, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Four tones in noise, each with 1.25 times (or 1 / 1.25 times) the pitch of the last; at strength 0 only noise."""
    pitches = generator.uniform(300, 600) * 1.25 ** np.arange(4)
    tones = _tones(pitches if rising else pitches[::-1], generator)
    return 0.25 * strength * tones + 0.1 * generator.normal(size=len(tones))


def _digit_image(digit: int, hidden: bool, generator: np.random.Generator) -> Image.Image:
    shape = Image.new("L", (SIDE, SIDE))
    font = ImageFont.load_default(size=float(generator.uniform(20, 26)))
    position = tuple(generator.uniform(0.4 * SIDE, 0.6 * SIDE, 2).tolist())
    ImageDraw.Draw(shape).text(position, str(digit), fill=255, font=font, anchor="mm")
    contrast, noise = (0.1, 60.0) if hidden else (generator.uniform(0.5, 1), generator.uniform(10, 40))
    pixels = 70 + 0.5 * contrast * np.asarray(shape, np.float64) + noise * generator.normal(size=(SIDE, SIDE))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB")


def _digit_tones(digit: int, hidden: bool, generator: np.random.Generator) -> np.ndarray:
    tones = _tones(np.array(DIGIT_TONES[digit]) * generator.uniform(0.98, 1.02), generator)
    loudness, noise = (0.02, 0.3) if hidden else (generator.uniform(0.1, 0.3), generator.uniform(0.02, 0.1))
    return loudness * tones + noise * generator.normal(size=len(tones))


def _tones(pitches: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Sine tones in Hz one after the other, from -1 to 1, with random phases and without clicks."""
    count = round(TONE_SECONDS * RATE)
    moment = np.arange(count) / RATE
    swell = np.sin(np.linspace(0, np.pi, count)) ** 0.5
    phases = generator.uniform(0, 2 * np.pi, len(pitches))
    return np.concatenate(
        [swell * np.sin(2 * np.pi * pitch * moment + phase) for pitch, phase in zip(pitches, phases, strict=True)]
    )
