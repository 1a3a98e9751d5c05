"""Rows of a `torch.utils.data.Dataset` whose items are dicts."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from polymodal.core.errors import DataError


def is_torch_data_set(source: Any) -> bool:
    """Whether an object is a `torch.utils.data.Dataset`. Without torch imported there is none."""
    torch = sys.modules.get("torch.utils.data")
    return torch is not None and isinstance(source, torch.Dataset)


def torch_rows(source: Any) -> list[dict[str, Any]]:
    """All items of a data set, read once in order. A tensor of one value becomes a number, and another tensor an array;
    an image tensor `[channels, height, width]` becomes `[height, width, channels]`.

    Raises:
        DataError: the data set has no length, or an item is no dict.
    """
    try:
        count = len(source)
    except TypeError:
        problem = f"a {type(source).__name__} without a length has any number of rows: give a list of dicts, list(rows)"
        raise DataError(problem) from None
    rows = []
    for number in range(count):
        item = source[number]
        if not isinstance(item, Mapping):
            problem = f"an item of the {type(source).__name__} is a {type(item).__name__}, not a dict: give "
            example = "[{'image': image, 'label': label} for image, label in data]"
            raise DataError(f"{problem}a list of dicts, such as {example}", row=number)
        rows.append({str(name): _plain(cell) for name, cell in item.items()})
    return rows


def _plain(cell: Any) -> Any:
    if not (hasattr(cell, "detach") and hasattr(cell, "numpy")):
        return cell
    array = cell.detach().cpu().numpy()
    if array.ndim == 0:
        return array.item()
    if array.ndim == 1:
        return array.tolist()
    is_image = array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4)
    return array.transpose(1, 2, 0) if is_image else array
