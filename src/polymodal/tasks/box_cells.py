"""Table cells with lists of boxes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from polymodal.core.yaml_json import TextFormatError, read_json
from polymodal.tasks.labels import Label, read_label

#: How far a box may reach outside its picture, in pixels; it is clipped. Annotation tools round outwards.
TOLERANCE = 1.0
SIDES = ("x", "y", "width", "height")


class LabeledBox(NamedTuple):
    """A box: its left and top, width and height in pixels, and its label.

    is_crowd: whether it covers a group of objects (`iscrowd` of COCO)
    """

    x: float
    y: float
    width: float
    height: float
    label: Label
    is_crowd: bool = False


def read_boxes(cell: Any) -> list[LabeledBox]:
    """Read the boxes of a cell: `[x, y, width, height, label]`, or mappings with these keys and perhaps `iscrowd`.

    Raises:
        ValueError: they cannot be read; the message is the reason of the cell error.

    Example:
        >>> read_boxes('[[4, 2, 10.5, 8, "cat"]]')
        [LabeledBox(x=4.0, y=2.0, width=10.5, height=8.0, label='cat', is_crowd=False)]
    """
    if isinstance(cell, str):
        try:
            cell = read_json(cell)
        except TextFormatError as error:
            raise ValueError(f"expected a list of boxes, or such a list as JSON text ({error})") from None
    if not isinstance(cell, list | tuple | np.ndarray):
        raise ValueError(f"expected a list of boxes, not {type(cell).__name__}")
    return [_read_box(box) for box in cell]


def _read_box(box: Any) -> LabeledBox:
    if isinstance(box, Mapping):
        missing = [name for name in (*SIDES, "label") if box.get(name) is None]
        if missing:
            raise ValueError(f"a box has no {missing[0]}")
        values, crowd = [box[name] for name in (*SIDES, "label")], bool(box.get("iscrowd"))
    elif isinstance(box, list | tuple | np.ndarray) and len(box) == 5:
        values, crowd = list(box), False
    else:
        raise ValueError(f"a box must be [x, y, width, height, label], not {str(box)[:50]!r}")
    for name, value in zip(SIDES, values[:4], strict=True):
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            raise ValueError(f"the {name} of a box must be a number of pixels, not {value!r}")
        if not math.isfinite(value):
            raise ValueError(f"the {name} of a box is {value}")
    x, y, width, height = (float(value) for value in values[:4])
    if width <= 0 or height <= 0:
        raise ValueError(f"a box of {width:g} x {height:g} pixels has no area")
    return LabeledBox(x, y, width, height, read_label(values[4]), crowd)


def clip_to_picture(box: LabeledBox, size: tuple[float, float]) -> LabeledBox:
    """The box inside its picture of `(width, height)` pixels.

    Raises:
        ValueError: it reaches outside the picture by more than a pixel.
    """
    width, height = size
    right, bottom = box.x + box.width, box.y + box.height
    if min(box.x, box.y) < -TOLERANCE or right > width + TOLERANCE or bottom > height + TOLERANCE:
        hint = "; boxes are in pixels, not fractions" if max(box.x, box.y, right, bottom) <= 1 else ""
        raise ValueError(
            f"a box from ({box.x:g}, {box.y:g}) to ({right:g}, {bottom:g}) reaches outside its picture of "
            f"{width:g} x {height:g} pixels{hint}"
        )
    x, y = max(box.x, 0.0), max(box.y, 0.0)
    clipped = box._replace(x=x, y=y, width=min(right, width) - x, height=min(bottom, height) - y)
    if clipped.width <= 0 or clipped.height <= 0:
        raise ValueError(f"no part of a box at ({box.x:g}, {box.y:g}) lies inside its picture")
    return clipped
