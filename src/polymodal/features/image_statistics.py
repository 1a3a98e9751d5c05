"""Statistics of images: colors, and the directions of edges."""

from __future__ import annotations

import numpy as np

#: Images are reduced to between this and twice this number of pixels per side before edges are measured.
EDGE_PIXELS = 32
CELLS, DIRECTIONS, COLOR_CELLS = 4, 8, 4
_BLOCKS = CELLS - 1
NUM_IMAGE_STATISTICS = 64 + 3 * COLOR_CELLS**2 + _BLOCKS**2 * 4 * DIRECTIONS


def image_statistics(pixels: np.ndarray) -> np.ndarray:
    """Statistics `[images, 400]` of `pixels [images, height, width, 3]` uint8: the square roots of a histogram of 64
    colors (`color_histogram`), the mean colors of 4 x 4 cells (`mean_colors`), and `oriented_gradients`.

    Example:
        >>> image_statistics(np.zeros((2, 32, 32, 3), np.uint8)).shape
        (2, 400)
    """
    colors = np.sqrt(color_histogram(pixels))
    cells = mean_colors(pixels, COLOR_CELLS).reshape(len(pixels), -1)
    return np.concatenate([colors, cells, oriented_gradients(pixels)], axis=1)


def color_histogram(pixels: np.ndarray) -> np.ndarray:
    """The fraction of pixels of each of 4 x 4 x 4 colors, `[images, 64]`."""
    level = pixels >> 6
    code = (level[..., 0] * np.uint8(16) + level[..., 1] * np.uint8(4) + level[..., 2]).reshape(len(pixels), -1)
    offset = 64 * np.arange(len(pixels))[:, None]
    return np.bincount((code + offset).ravel(), minlength=64 * len(pixels)).reshape(-1, 64) / code.shape[1]


def mean_colors(pixels: np.ndarray, side: int) -> np.ndarray:
    """Mean colors of `side` x `side` cells, from 0 to 1, `[images, side, side, 3]`. Sums are exact."""
    _, height, width, _ = pixels.shape
    rows, columns = (np.arange(side + 1) * length // side for length in (height, width))
    sums = np.add.reduceat(pixels, rows[:-1], axis=1, dtype=np.int64)
    sums = np.add.reduceat(sums, columns[:-1], axis=2)
    area = np.diff(rows)[:, None] * np.diff(columns)
    return np.asarray(sums / (255 * area[..., None]))


def oriented_gradients(pixels: np.ndarray) -> np.ndarray:
    """Histograms of 8 edge directions in 4 x 4 cells, in 3 x 3 normalized blocks of 2 x 2 cells, `[images, 288]`
    (Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection", 2005, with 32 to 63 pixels per side)."""
    gray = _small_gray(pixels)
    images, height, width = gray.shape
    down, right = np.gradient(gray, axis=(1, 2))
    strength = np.sqrt(down * down + right * right)
    position = (np.arctan2(down, right) % np.pi) * (DIRECTIONS / np.pi)
    low = np.floor(position)
    share = position - low  # each edge counts for the two nearest directions
    cell = (np.arange(height) * CELLS // height)[:, None] * CELLS + np.arange(width) * CELLS // width
    first = (np.arange(images)[:, None, None] * CELLS**2 + cell) * DIRECTIONS
    size = images * CELLS**2 * DIRECTIONS
    histogram = np.zeros(size)
    for direction, weight in ((low, strength * (1 - share)), (low + 1, strength * share)):
        code = first + direction.astype(np.int64) % DIRECTIONS
        histogram += np.bincount(code.ravel(), weight.ravel(), minlength=size)
    grid = histogram.reshape(images, CELLS, CELLS, DIRECTIONS) * (CELLS**2 / (height * width))
    corners = [grid[:, y : y + _BLOCKS, x : x + _BLOCKS] for y in (0, 1) for x in (0, 1)]
    blocks = np.concatenate(corners, axis=3)
    blocks = np.minimum(_unit(blocks, 0.01), 0.2)
    return _unit(blocks, 1e-6).reshape(images, -1)


def _small_gray(pixels: np.ndarray) -> np.ndarray:
    """Gray images from 0 to 1 with `EDGE_PIXELS` to twice as many pixels at the shorter side, `[images, height, width]`
    float64. Sums are exact."""
    images, height, width, _ = pixels.shape
    factor = max(1, min(height, width) // EDGE_PIXELS)
    height, width = height // factor, width // factor
    total = pixels[:, : height * factor, : width * factor].sum(3, dtype=np.int64)
    if factor > 1:
        total = total.reshape(images, height, factor, width, factor).sum((2, 4))
    return np.asarray(total / (3 * 255 * factor**2))


def _unit(vectors: np.ndarray, offset: float) -> np.ndarray:
    return np.asarray(vectors / np.sqrt((vectors * vectors).sum(-1, keepdims=True) + offset**2))
