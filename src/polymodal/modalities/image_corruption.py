"""Corruptions of images, for robustness tests.

Every function takes `pixels [n, height, width, 3]` uint8 and a strength from 0 (barely changed) to 1 (hard to use for a
human). It returns new pixels of the same shape and never changes its argument.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter


def noise(pixels: np.ndarray, strength: float, draw: np.random.Generator) -> np.ndarray:
    """Gaussian noise of a standard deviation of up to 100 of 255."""
    return _to_bytes(pixels + draw.standard_normal(pixels.shape, np.float32) * (100 * strength))


def blur(pixels: np.ndarray, strength: float) -> np.ndarray:
    """A Gaussian blur of a standard deviation of up to an eighth of the width."""
    return _each(pixels, lambda image: image.filter(ImageFilter.GaussianBlur(strength * image.width / 8)))


def jpeg(pixels: np.ndarray, strength: float) -> np.ndarray:
    """JPEG compression at a quality from 95 down to 1."""

    def through(image: Image.Image) -> Image.Image:
        encoded = io.BytesIO()
        image.save(encoded, "JPEG", quality=max(1, round(95 * (1 - strength))))
        return Image.open(encoded)

    return _each(pixels, through)


def contrast(pixels: np.ndarray, strength: float) -> np.ndarray:
    """Values moved toward the mean of their image, by up to 95 %."""
    mean = pixels.mean((1, 2, 3), dtype=np.float32, keepdims=True)
    return _to_bytes(mean + (pixels - mean) * (1 - 0.95 * strength))


def occlusion(pixels: np.ndarray, strength: float, draw: np.random.Generator, group: int = 1) -> np.ndarray:
    """A gray square of up to three quarters of the area, at a random position. `group` consecutive images (the
    frames of a video) share it."""
    covered = pixels.copy()
    height, width = pixels.shape[1:3]
    tall, wide = (round(math.sqrt(0.75 * strength) * size) for size in (height, width))
    for first in range(0, len(pixels), group):
        top, left = draw.integers(height - tall + 1), draw.integers(width - wide + 1)
        covered[first : first + group, top : top + tall, left : left + wide] = 128
    return covered


def _each(pixels: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    changed = [np.asarray(change(Image.fromarray(one))) for one in pixels]
    return np.stack(changed) if changed else pixels.copy()


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)
