"""Images of one figure with a caption, and a rule that reads color and shape of a figure from the pixels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from polymodal.datasets.planted import FIGURE_COLORS, FIGURE_SHAPES, Columns

#: Largest distance of a pixel of a figure from its color, in pixel values.
MAX_DISTANCE = 90.0
#: Smallest share of the pixels of an image that is a figure.
MIN_SHARE = 0.02
#: Shares of the bounding box that a figure fills: 0.5 to 0.65 for a triangle, 0.75 to 0.8 for a circle, 1 for a square;
#: the limits between them.
TRIANGLE_BELOW, SQUARE_ABOVE = 0.69, 0.89


class FigureAttributes(NamedTuple):
    """The `shape` and `color` of a figure; None where the image has no figure."""

    shape: str | None
    color: str | None


def make_captioned_figures(rows: int = 100, seed: int = 0, size: int = 32) -> Columns:
    """Images of one figure near the middle of a white background, each with a caption: for image generation.

    Columns: `caption`, such as "a red circle"; `image`, a PIL image of `size` x `size` pixels; `shape` ("circle",
    "square" or "triangle") and `color` ("red", "green" or "blue"). `read_figure` reads the last two from the pixels of
    an image.

        >>> columns = make_captioned_figures(2)
        >>> list(columns), columns["image"][0].size
        (['caption', 'image', 'shape', 'color'], (32, 32))
    """
    generator = np.random.default_rng(seed)
    shapes = generator.choice(FIGURE_SHAPES, rows).tolist()
    colors = generator.choice(list(FIGURE_COLORS), rows).tolist()
    return {
        "caption": [f"a {color} {shape}" for shape, color in zip(shapes, colors, strict=True)],
        "image": [_draw(shape, color, size, generator) for shape, color in zip(shapes, colors, strict=True)],
        "shape": shapes,
        "color": colors,
    }


def read_figure(image: Any) -> FigureAttributes:
    """The shape and color of the figure in an image of `make_captioned_figures`, or in one that a model generated.

    The color is that of the most pixels within a distance of 90 of one of the colors. The shape follows from the share
    of the bounding box that these pixels fill. Rows and columns of the box with less than a tenth of the pixels of the
    fullest one are left out.

    image: a PIL image, or an array `[height, width, 3]` from 0 to 255

        >>> columns = make_captioned_figures(1)
        >>> figure = read_figure(columns["image"][0])
        >>> (figure.shape, figure.color) == (columns["shape"][0], columns["color"][0])
        True
    """
    pixels = np.asarray(image, np.float64)
    colors = np.array(list(FIGURE_COLORS.values()), np.float64)
    near = np.linalg.norm(pixels[:, :, None] - colors, axis=-1) < MAX_DISTANCE
    best = int(near.sum((0, 1)).argmax())
    filled = near[:, :, best]
    if filled.mean() < MIN_SHARE:
        return FigureAttributes(None, None)
    for axis in (1, 0):
        count = filled.sum(axis)
        kept = np.flatnonzero(count >= 0.1 * count.max())
        filled = filled.take(np.arange(kept[0], kept[-1] + 1), axis=1 - axis)
    share = filled.mean()
    shape = "triangle" if share < TRIANGLE_BELOW else "square" if share > SQUARE_ABOVE else "circle"
    return FigureAttributes(shape, list(FIGURE_COLORS)[best])


def _draw(shape: str, color: str, size: int, generator: np.random.Generator) -> Image.Image:
    image = Image.new("RGB", (size, size), (255, 255, 255))
    x, y = size / 2 + generator.uniform(-0.06, 0.06, 2) * size
    radius = size * generator.uniform(0.28, 0.36)
    box = (x - radius, y - radius, x + radius, y + radius)
    draw = ImageDraw.Draw(image)
    if shape == "circle":
        draw.ellipse(box, fill=FIGURE_COLORS[color])
    elif shape == "square":
        draw.rectangle(box, fill=FIGURE_COLORS[color])
    else:
        draw.polygon([(x, box[1]), (box[0], box[3]), (box[2], box[3])], fill=FIGURE_COLORS[color])
    return image
