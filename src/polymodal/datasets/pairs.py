"""Rows whose inputs all depend on one hidden factor, for objectives without targets.

The factor is a vector of three numbers in [-1, 1]. Each input encodes it differently, with noise:

    text     three words, one for each number, by the sixth of the range that it lies in ("ambersa birchfo cloudlo"),
             and a filler word
    image    a patch on a noisy background: the numbers are its horizontal position, its vertical position, and its
             color from blue to red
    series   a wave of 24 steps in two channels: the numbers are its phase, its slope, and the amplitude of the second
             channel
    numbers  three columns, a rotation of the factor
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

Columns = dict[str, list[Any]]

STEPS = 24
_SUBJECTS = ("amber", "birch", "cloud")
_LEVELS = ("lo", "mi", "sa", "tu", "re", "fo")
_FILLER = ("the", "of", "near", "some", "old")
_TURN = np.array([[2.0, -1.0, 2.0], [2.0, 2.0, -1.0], [-1.0, 2.0, 2.0]]) / 3


def make_planted_pairs(
    rows: int = 100,
    seed: int = 0,
    inputs: Sequence[str] = ("text", "image", "series"),
    *,
    shuffled: bool = False,
    noise: float = 0.05,
    pixels: int = 32,
) -> Columns:
    """Rows whose inputs all depend on one hidden factor of three numbers in [-1, 1].

    inputs: some of text, image, series and numbers
    shuffled: each input has the factor of a random other row, so that the inputs of a row are independent: a control
        without signal. The factor columns then belong to no input.
    noise: standard deviation of the noise of each series step, pixel (relative to its range) and number
    pixels: side length of an image

    Columns: one for each of `inputs` (three for numbers: `number0` to `number2`), and `factor0` to `factor2`.

        >>> list(make_planted_pairs(2, inputs=("text", "numbers")))
        ['text', 'number0', 'number1', 'number2', 'factor0', 'factor1', 'factor2']

    Raises:
        ValueError: there is no such input.
    """
    draw = np.random.default_rng([seed, rows])
    factor = draw.uniform(-1, 1, (rows, 3))
    columns: Columns = {}
    for name in inputs:
        if name not in _MAKERS:
            raise ValueError(f"there is no planted input {name!r}: choose from {', '.join(_MAKERS)}")
        own = factor[draw.permutation(rows)] if shuffled else factor
        columns |= _MAKERS[name](own, noise, pixels, draw)
    return columns | {f"factor{i}": factor[:, i].tolist() for i in range(3)}


def _texts(factor: np.ndarray, noise: float, pixels: int, draw: np.random.Generator) -> Columns:
    level = np.minimum(((factor + 1) / 2 * len(_LEVELS)).astype(int), len(_LEVELS) - 1)
    texts = []
    for row in level:
        words = [f"{subject}{_LEVELS[number]}" for subject, number in zip(_SUBJECTS, row, strict=True)]
        words.insert(int(draw.integers(4)), str(draw.choice(_FILLER)))
        texts.append(" ".join(words))
    return {"text": texts}


def _images(factor: np.ndarray, noise: float, pixels: int, draw: np.random.Generator) -> Columns:
    side = pixels // 4
    position = np.rint((factor[:, :2] + 1) / 2 * (pixels - side)).astype(int)
    red = (factor[:, 2] + 1) / 2
    images = []
    for (x, y), redness in zip(position, red, strict=True):
        image = np.full((pixels, pixels, 3), 0.85)
        image[y : y + side, x : x + side] = [redness, 0.2, 1 - redness]
        image = np.clip(image + noise * draw.normal(size=image.shape), 0, 1)
        images.append(Image.fromarray(np.rint(255 * image).astype(np.uint8)))
    return {"image": images}


def _series(factor: np.ndarray, noise: float, pixels: int, draw: np.random.Generator) -> Columns:
    step = np.linspace(0, 1, STEPS)
    phase, rise, height = factor.T[:, :, None]
    wave = np.sin(2 * np.pi * 2 * step + np.pi / 2 * phase) + 2 * rise * (step - 0.5)
    second = height * np.cos(2 * np.pi * step)
    values = np.stack([wave, second], axis=2)
    values = values + noise * draw.normal(size=values.shape)
    return {"series": values.tolist()}


def _numbers(factor: np.ndarray, noise: float, pixels: int, draw: np.random.Generator) -> Columns:
    values = factor @ _TURN.T + noise * draw.normal(size=factor.shape)
    return {f"number{i}": values[:, i].tolist() for i in range(3)}


_MAKERS: dict[str, Callable[[np.ndarray, float, int, np.random.Generator], Columns]] = {
    "text": _texts,
    "image": _images,
    "series": _series,
    "numbers": _numbers,
}
