"""A small seeded data set of composed pictures with boxes, as a dict of columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from polymodal.datasets.moving_shapes import Columns

#: The shapes; colors are drawn at random, so that only the outline gives the label.
SHAPES = ("disc", "square", "triangle")
#: Least and greatest side of a shape, as a fraction of the height of its picture.
SIDES = (0.2, 0.4)


def make_shape_boxes(rows: int = 100, seed: int = 0, size: int = 64, most: int = 3) -> Columns:
    """Pictures of up to `most` shapes in random colors, on a noisy background with a gradient.

    Shapes do not overlap. A picture is `size` pixels high and up to half wider.

    Columns: `image` (PIL); `boxes`, a list of mappings with `x`, `y`, `width`, `height` (pixels) and `label`, as the
    task `object_detection` reads it. Some pictures have no shape.

        >>> list(make_shape_boxes(1))
        ['image', 'boxes']
    """
    draw = np.random.default_rng(seed)
    columns: Columns = {"image": [], "boxes": []}
    for _ in range(rows):
        width = int(draw.integers(size, size * 3 // 2 + 1))
        slope = np.linspace(0, 1, width)[None, :, None] * draw.uniform(-40, 40, 3)
        ground = draw.uniform(70, 180, 3) + slope + draw.normal(0, 8, (size, width, 3))
        image = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
        boxes: list[dict[str, Any]] = []
        for _ in range(int(draw.integers(0, most + 1))):
            box = _place(draw, width, size, boxes)
            if box is not None:
                _paint(image, box, draw)
                boxes.append(box)
        columns["image"].append(image)
        columns["boxes"].append(boxes)
    return columns


def _place(draw: np.random.Generator, width: int, height: int, others: list[dict[str, Any]]) -> dict[str, Any] | None:
    """A shape at a free place; None if none of ten places is free."""
    for _ in range(10):
        side, tall = (round(draw.uniform(*SIDES) * height) for _ in range(2))
        x, y = int(draw.integers(0, width - side + 1)), int(draw.integers(0, height - tall + 1))
        apart = (
            x + side < other["x"]
            or other["x"] + other["width"] < x
            or y + tall < other["y"]
            or other["y"] + other["height"] < y
            for other in others
        )
        if all(apart):
            return {"x": x, "y": y, "width": side, "height": tall, "label": str(draw.choice(SHAPES))}
    return None


def _paint(image: Image.Image, box: dict[str, Any], draw: np.random.Generator) -> None:
    """Paint a shape that fills its box, in a color far from that of the background."""
    ground = np.asarray(image, dtype=np.float64).mean((0, 1))
    while np.abs((color := draw.uniform(0, 255, 3)) - ground).max() < 90:
        pass
    pen, fill = ImageDraw.Draw(image), tuple(int(value) for value in color)
    left, top = box["x"], box["y"]
    right, bottom = left + box["width"] - 1, top + box["height"] - 1
    if box["label"] == "disc":
        pen.ellipse((left, top, right, bottom), fill=fill)
    elif box["label"] == "square":
        pen.rectangle((left, top, right, bottom), fill=fill)
    else:
        pen.polygon([((left + right) // 2, top), (left, bottom), (right, bottom)], fill=fill)
