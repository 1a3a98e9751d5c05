"""Pictures with boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

#: The shorter side of a drawn picture in pixels, at least.
MIN_SIDE = 192
TRUE, PREDICTED = (255, 255, 255), (230, 30, 30)


def draw_boxes(
    image: Image.Image,
    size: tuple[float, float],
    true: Sequence[dict[str, Any]],
    predicted: Sequence[dict[str, Any]],
) -> Image.Image:
    """The picture in its own proportions with true boxes in white and predicted boxes in red, with their labels.

    image: the picture in any size; size: width and height of the original picture, in whose pixels the boxes are
    """
    scale = max(MIN_SIDE, min(image.size)) / min(size)
    drawn = image.resize((max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))).convert("RGB")
    pen = ImageDraw.Draw(drawn)
    for boxes, color in ((true, TRUE), (predicted, PREDICTED)):
        for box in boxes:
            left, top = box["x"] * scale, box["y"] * scale
            right, bottom = left + box["width"] * scale, top + box["height"] * scale
            pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=color, width=2)
            pen.text((left + 3, top + 1 if color == TRUE else bottom - 13), str(box["label"]), fill=color)
    return drawn
