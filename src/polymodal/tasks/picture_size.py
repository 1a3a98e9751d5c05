"""The sizes of the pictures of a block of rows."""

from __future__ import annotations

import numpy as np
from PIL import Image

from polymodal.data.media.metadata import read_metadata
from polymodal.data.media.source import MediaError
from polymodal.data.table.block import RowBlock

Size = tuple[float, float]


def picture_sizes(block: RowBlock, column: str) -> list[Size | None]:
    """`(width, height)` in pixels of the upright picture of each row; None for a picture that is missing or cannot be
    read, which the input of the column reports.

    Files are not decoded: their headers are read.
    """
    sizes: list[Size | None] = [None] * len(block)
    files: dict[int, object] = {}
    for position, cell in enumerate(block.cells(column)):
        if isinstance(cell, Image.Image):
            turned = cell.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            sizes[position] = cell.size[::-1] if turned else cell.size
        elif isinstance(cell, np.ndarray):
            sizes[position] = (float(cell.shape[1]), float(cell.shape[0])) if cell.ndim >= 2 else None
        elif cell is not None:
            files[position] = cell
    headers = read_metadata("image", files.values(), block.root, block.limits)
    for position, header in zip(files, headers, strict=True):
        if not isinstance(header, MediaError) and header.width and header.height:
            sizes[position] = (header.width, header.height)
    return sizes
