"""Guarded decoding of series: numbers over time from `.npy` and CSV files, lists, records and texts."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from polymodal.data.media.source import MediaError
from polymodal.recipe.data import LimitOptions

VERSION = "series 1"
NPY = b"\x93NUMPY"

Layout = Literal["steps_first", "channels_first"]


@dataclass(frozen=True)
class SeriesRequest:
    """How one series is read.

    channels: how many it must have; names: their names, for records and files with a header
    layout: what the rows of two-dimensional cells are; files of text always have one step a line
    time: the channel that holds the time in seconds, by name or by number; None: `rate` steps in a second
    steps, long: more than `steps` are cut off ("cut"), or neighbours are averaged ("pool")
    """

    channels: int
    names: Sequence[str] = ()
    layout: Layout = "steps_first"
    time: int | str | None = None
    rate: float = 1.0
    steps: int = 1_024
    long: Literal["cut", "pool"] = "cut"


@dataclass(frozen=True)
class Raw:
    """Numbers as a cell holds them: `values [steps]` or `[rows, columns]` float32, and the columns' names if it
    tells them; `lines` says that the rows are steps, whatever the layout of other cells is.
    """

    values: np.ndarray
    names: tuple[str, ...] = ()
    lines: bool = False


def layout(request: SeriesRequest) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The fields of one step: `values [channels]` (NaN is a gap) and its `times` in seconds."""
    return {"values": ("float32", (request.channels,)), "times": ("float32", ())}


def decode(data: bytes, request: SeriesRequest, limits: LimitOptions) -> dict[str, np.ndarray]:
    """`values [steps, channels]` float32 and `times [steps]` float32 of a `.npy`, CSV or TSV file.

    Raises:
        MediaError: damaged, of another format, over `limits.values`, or not of the channels that were asked for.
    """
    return arrange(read_file(data, limits), request)


def read_file(data: bytes, limits: LimitOptions) -> Raw:
    """The numbers of a `.npy` file, or of a CSV or TSV file with or without a header line.

    Raises:
        MediaError: damaged, of another format, or over `limits.values` (told from the header of a `.npy` file).
    """
    if not data:
        raise MediaError("the file is empty (0 bytes)")
    return Raw(_read_npy(data, limits)) if data.startswith(NPY) else _read_lines(data, limits)


def read_cell(cell: Any, limits: LimitOptions) -> Raw | None:
    """The numbers of a cell that is an array, a list, a record (channel name -> list) or a text of numbers.

    None where the cell is none of these: a path, bytes, a record of `bytes` and `path`.

    Raises:
        MediaError: it is one of them, but not of numbers, not even, or over `limits.values`.
    """
    if isinstance(cell, np.ndarray):
        if cell.dtype != object and cell.dtype.kind not in "biuf":
            raise MediaError(f"a series holds numbers, not {cell.dtype}")
        _check_count(cell.size, limits)
        return Raw(_plane(_to_float(cell.tolist() if cell.dtype == object else cell)))
    if isinstance(cell, list | tuple):
        _check_count(sum(len(one) if isinstance(one, list | tuple) else np.size(one) for one in cell), limits)
        return Raw(_plane(_to_float(_even(cell))))
    if isinstance(cell, Mapping) and not cell.keys() <= {"bytes", "path"}:
        return _from_record(cell, limits)
    if isinstance(cell, str) and (numbers := read_text(cell)) is not None:
        _check_count(sum(map(len, numbers)), limits)
        values = _to_float(_even(numbers))
        return Raw(values[0] if len(values) == 1 else values, lines=True)
    return None


def read_text(text: str) -> list[list[float]] | None:
    """Numbers written as text: steps end with ";" or a new line, channels with "," or blanks; "nan" is a gap.

    Without a step's end, the numbers are the steps of one channel. None where the text is anything else.
    """
    if not text or text[0] not in "+-.0123456789nN \n":
        return None
    try:
        lines = [line.replace(",", " ").split() for line in text.replace("\n", ";").split(";") if line.strip()]
        return [[float(word) for word in line] for line in lines] if lines and "_" not in text else None
    except ValueError:
        return None


def arrange(raw: Raw, request: SeriesRequest) -> dict[str, np.ndarray]:
    """The numbers as one series: steps first, channels in order, times in seconds from its start, at most
    `request.steps` steps. A series without a single number gives {}: there is none.

    Raises:
        MediaError: other channels than those asked for, infinite numbers, or times that run backwards.
    """
    values, names = raw.values, raw.names
    if np.isnan(values).all():
        return {}
    if values.ndim == 1:
        values = values[:, None]
    elif request.layout == "channels_first" and not raw.lines:
        values = values.T
    values, names, times = _split_time(values, names, request)
    if names and request.names:
        absent = [name for name in request.names if name not in names]
        if absent:
            raise MediaError(f"there is no channel {absent[0]!r}; it has {', '.join(names)}")
        values = values[:, [names.index(name) for name in request.names]]
    if values.shape[1] != request.channels:
        raise MediaError(f"{values.shape[1]} channels where {request.channels} were expected")
    if np.isinf(values).any():
        raise MediaError("the series holds a number that is not finite in single precision")
    if np.isnan(values).all():
        return {}
    if request.long == "pool" and len(values) > request.steps:
        values, times = _pooled(values, times, math.ceil(len(values) / request.steps))
    return {
        "values": np.ascontiguousarray(values[: request.steps], np.float32),
        "times": times[: request.steps].astype(np.float32),
    }


def _split_time(
    values: np.ndarray, names: tuple[str, ...], request: SeriesRequest
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """The channels without the one of time, and the times in seconds from the first."""
    if request.time is None:
        return values, names, np.arange(len(values)) / request.rate
    place = request.time
    if isinstance(place, str):
        if place not in names:
            raise MediaError(f"there is no channel {place!r} to tell the time")
        place = names.index(place)
    if place >= values.shape[1]:
        raise MediaError(f"there is no channel number {place} to tell the time")
    times = values[:, place].astype(np.float64)
    if not np.isfinite(times).all():
        raise MediaError("the times have a gap")
    if any(later < earlier for earlier, later in pairwise(times.tolist())):
        raise MediaError("the times run backwards")
    kept = [at for at in range(values.shape[1]) if at != place]
    return values[:, kept], tuple(names[at] for at in kept if names), times - times[:1]


def _pooled(values: np.ndarray, times: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of `size` neighbouring steps, gaps left out; the last may be of fewer."""
    starts = np.arange(0, len(values), size)
    known = ~np.isnan(values)
    count = np.add.reduceat(known, starts, axis=0, dtype=np.int64)
    total = np.add.reduceat(np.where(known, values, 0), starts, axis=0, dtype=np.float64)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    lengths = np.diff([*starts, len(values)])
    return mean, np.add.reduceat(times, starts) / lengths


def _read_npy(data: bytes, limits: LimitOptions) -> np.ndarray:
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read:
            raise MediaError("an array of numbers was expected; this .npy file is of another version")
        shape, by_columns, kind = read[version](file)
    except MediaError:
        raise
    except Exception as error:  # numpy's header reader raises almost anything on damaged bytes
        raise MediaError("the header of the .npy file is damaged") from error
    if kind.kind not in "biuf" or kind.itemsize > 8:
        raise MediaError(f"an array of numbers was expected, not of {kind}"[:100])
    if len(shape) not in (1, 2) or any(side < 0 for side in shape):
        raise MediaError(f"an array of one or two dimensions was expected, not {list(shape)}"[:100])
    count = math.prod(shape)
    _check_count(count, limits)
    if len(data) - file.tell() < count * kind.itemsize:
        raise MediaError("the .npy file is incomplete")
    values = np.frombuffer(data, kind, count, file.tell()).reshape(shape, order="F" if by_columns else "C")
    return _plane(_to_float(values))


def _read_lines(data: bytes, limits: LimitOptions) -> Raw:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MediaError("neither a .npy file nor a CSV file in UTF-8") from error
    if "\0" in text:
        raise MediaError("neither a .npy file nor a CSV file")
    first = text.lstrip().split("\n", 1)[0]
    separator = max("\t;,", key=first.count)
    names: tuple[str, ...] = ()
    rows: list[list[float]] = []
    count = 0
    try:
        for line in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            if not line:
                continue
            try:
                row = [_number(word) for word in line]
            except ValueError as error:
                if rows or names:
                    raise MediaError(f"line {len(rows) + bool(names) + 1}: {error}") from None
                names = tuple(word.strip() for word in line)
                continue
            if len(row) != len(names or (rows[0] if rows else row)):
                raise MediaError(f"line {len(rows) + bool(names) + 1} has {len(row)} cells, others have another number")
            rows.append(row)
            count += len(row)
            _check_count(count, limits)
    except csv.Error as error:
        raise MediaError("the CSV file is damaged") from error
    if not rows:
        raise MediaError("the CSV file has no numbers")
    if len(set(names)) < len(names):
        raise MediaError("two columns of the CSV file have one name")
    return Raw(_to_float(rows), names, lines=True)


def _number(word: str) -> float:
    """A gap where the cell is blank."""
    text = word.strip()
    if "_" in text:
        raise ValueError(f"{text[:40]!r} is not a number")
    try:
        return float(text) if text else math.nan
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a number") from None


def _from_record(cell: Mapping[Any, Any], limits: LimitOptions) -> Raw:
    known = {str(name): channel for name, channel in cell.items() if channel is not None}
    for name, channel in known.items():
        if not isinstance(channel, list | tuple | np.ndarray):
            raise MediaError(f"channel {name!r} is not a list of numbers but {type(channel).__name__}")
    lengths = {name: len(channel) for name, channel in known.items()}
    if len(set(lengths.values())) > 1:
        raise MediaError("channels differ in length: " + ", ".join(f"{k!r} has {n}" for k, n in lengths.items())[:200])
    steps = max(lengths.values(), default=0)
    _check_count(steps * len(cell), limits)
    columns = [_to_float(known.get(str(name), [math.nan] * steps)) for name in cell]
    if any(column.ndim != 1 for column in columns):
        raise MediaError("a channel of a record is one list of numbers")
    return Raw(np.stack(columns, axis=1), tuple(map(str, cell)), lines=True)


def _even(cell: Sequence[Any]) -> Sequence[Any]:
    """Lists in a list, all of one length; one that is null becomes a row of gaps."""
    lengths = {len(one) for one in cell if isinstance(one, list | tuple | np.ndarray)}
    if not lengths:
        return cell
    if len(lengths) > 1:
        raise MediaError(f"the lists in it differ in length ({min(lengths)} to {max(lengths)})")
    return [[math.nan] * lengths.copy().pop() if one is None else one for one in cell]


def _to_float(values: Any) -> np.ndarray:
    """As single precision; None is a gap, and what is too large becomes infinite."""
    try:
        with np.errstate(over="ignore"):
            return np.asarray(values, np.float64).astype(np.float32)
    except (OverflowError, TypeError, ValueError) as error:
        raise MediaError("a series is a list of numbers, or of lists of numbers of one length") from error


def _plane(values: np.ndarray) -> np.ndarray:
    if values.ndim not in (1, 2):
        raise MediaError(f"a series has one or two dimensions, not {values.ndim}")
    return values


def _check_count(count: int, limits: LimitOptions) -> None:
    if count > limits.values:
        raise MediaError(f"{count:,} numbers are over the limit of {limits.values:,}")
