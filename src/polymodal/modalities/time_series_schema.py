"""Detection of time series columns and inference of their channels, layout and length from a sample."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from numbers import Real
from pathlib import PurePath
from typing import Any

import numpy as np

from polymodal.data.media.formats import SERIES_SUFFIXES
from polymodal.data.media.metadata import read_metadata
from polymodal.data.media.source import MediaError
from polymodal.data.media.time_series import NPY_MAGIC, SeriesLayout, parse_text, read_cell
from polymodal.data.table.sample import ColumnSample
from polymodal.modalities.intended_media import inline_or_path

#: A text of fewer numbers in one channel may be something else (a telephone number, a date).
MIN_TEXT_NUMBERS = 8
#: Equally long lists of up to this many numbers are points or colors, not time series.
MAX_VECTOR_LENGTH = 3
#: Number of files of a sample that are opened.
MAX_SAMPLED_FILES = 50
#: A channel with one of these names holds the time, unless the recipe sets another channel.
TIME_NAMES = ("time", "seconds")


def looks_like_series(cell: Any) -> bool:
    """Whether a cell is a time series, by its type and its first numbers."""
    if isinstance(cell, np.ndarray):
        image = cell.ndim == 2 and cell.dtype == np.uint8
        return cell.ndim in (1, 2) and cell.dtype.kind in "biuf" and not image
    if isinstance(cell, list | tuple):
        return _numbers(cell[:20]) or all(one is None or is_numbers(one) for one in cell[:20])
    if isinstance(cell, dict):
        if cell.keys() <= {"bytes", "path"}:
            return looks_like_series(inline_or_path(cell))
        return any(map(is_numbers, cell.values())) and all(one is None or is_numbers(one) for one in cell.values())
    if isinstance(cell, bytes):
        return cell.startswith(NPY_MAGIC)
    if isinstance(cell, PurePath):
        return cell.suffix.lower() in SERIES_SUFFIXES - {".txt"}
    if not isinstance(cell, str):
        return False
    if "\n" not in cell and PurePath(cell).suffix.lower() in SERIES_SUFFIXES - {".txt"}:
        return True
    steps = parse_text(cell)
    return steps is not None and (len(steps) > 1 or len(steps[0]) >= MIN_TEXT_NUMBERS)


def is_vector(cells: list[Any]) -> bool:
    """Whether all cells are equally long lists of few numbers."""
    lengths = {len(cell) if is_numbers(cell) else 0 for cell in cells}
    return len(lengths) == 1 and 0 < lengths.pop() <= MAX_VECTOR_LENGTH


def is_numbers(cell: Any) -> bool:
    """Whether a cell is a flat list or array of numbers."""
    if isinstance(cell, np.ndarray):
        return cell.ndim == 1 and cell.dtype.kind in "biuf"
    return isinstance(cell, list | tuple) and _numbers(cell[:20])


def _numbers(cells: Any) -> bool:
    return len(cells) > 0 and all(one is None or isinstance(one, Real) for one in cells)


@dataclass(frozen=True)
class TimeSeriesSchema:
    """The schema inferred from a sample: `channels` (names if the cells have them), the layout of two-dimensional
    cells, the time channel, and the maximum length."""

    channels: int | list[str]
    layout: SeriesLayout
    time: int | str | None
    max_length: int


@dataclass(frozen=True)
class _Cell:
    """The shape of a cell's numbers, the names of their columns, and whether their rows are certainly steps."""

    sides: tuple[int, ...]
    names: tuple[str, ...]
    lines: bool


def infer_schema(sample: ColumnSample, layout: SeriesLayout | None, time: int | str | None) -> TimeSeriesSchema:
    """Infer the schema from the sampled cells. Given values are kept. Unreadable cells are ignored."""
    cells = _sampled_cells(sample)
    if layout is None:
        layout = infer_layout([cell.sides for cell in cells if len(cell.sides) == 2 and not cell.lines])
    names = list(dict.fromkeys(name for cell in cells for name in cell.names))
    if time is None:
        time = next((name for name in names if name.lower() in TIME_NAMES), None)
    sizes, lengths = [], [1]
    for cell in cells:
        turned = layout == "channels_first" and not cell.lines and len(cell.sides) == 2
        sides = cell.sides[::-1] if turned else cell.sides
        sizes.append(sides[1] if len(sides) == 2 else 1)
        lengths.append(sides[0])
    if isinstance(time, str) and time in names:
        names.remove(time)
    count = Counter(sizes).most_common(1)[0][0] if sizes else 1
    channels: int | list[str] = names or max(1, count - isinstance(time, int))
    return TimeSeriesSchema(channels, layout, time, max(lengths))


def infer_layout(shapes: list[tuple[int, ...]]) -> SeriesLayout:
    """The dimension that is constant over the cells is that of the channels; the shorter one if both are constant."""
    rows, columns = ({shape[side] for shape in shapes} for side in (0, 1))
    if len(rows) == 1 and (len(columns) > 1 or rows < columns or min(rows) < min(columns)):
        return "channels_first"
    return "steps_first"


def choose_max_steps(longest: int, max_steps: int) -> int:
    """1.2 times the longest of the sample, rounded up to a multiple of eight, at most `max_steps`."""
    return min(max_steps, max(8, math.ceil(longest * 1.2 / 8) * 8))


def _sampled_cells(sample: ColumnSample) -> list[_Cell]:
    """The sampled cells with numbers, in order. Only the first files are opened."""
    limits = sample.limits
    seen: list[_Cell | None] = []
    files: dict[int, Any] = {}
    for cell in sample.values:
        try:
            raw = read_cell(cell, limits)
        except MediaError:  # reported by `prepare`
            continue
        if raw is not None:
            seen.append(_Cell(raw.values.shape, raw.column_names, raw.rows_are_steps))
        elif len(files) < MAX_SAMPLED_FILES:
            files[len(seen)] = cell
            seen.append(None)
    for index, header in zip(files, read_metadata("time_series", files.values(), sample.root, limits), strict=True):
        if not isinstance(header, MediaError) and header.rows is not None:
            sides = (int(header.rows),) if header.columns is None else (int(header.rows), int(header.columns))
            seen[index] = _Cell(sides, header.column_names, bool(header.rows_are_steps))
    return [cell for cell in seen if cell is not None and 0 not in cell.sides]
