"""Guarded decoding of time series: numbers over time from `.npy` and CSV files, lists, records and texts."""

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

VERSION = "time series 1"
NPY_MAGIC = b"\x93NUMPY"

SeriesLayout = Literal["steps_first", "channels_first"]


@dataclass(frozen=True)
class TimeSeriesRequest:
    """Target format of a time series.

    channels: the required number of channels
    channel_names: their names, for records and files with a header
    layout: the meaning of the rows of two-dimensional cells. Text files always have one step per line
    time_channel: the channel that holds the time in seconds, by name or by number; None: `sampling_rate` steps per
        second
    max_steps, long_series: a series of more steps is truncated, or neighboring steps are averaged
    """

    channels: int
    channel_names: Sequence[str] = ()
    layout: SeriesLayout = "steps_first"
    time_channel: int | str | None = None
    sampling_rate: float = 1.0
    max_steps: int = 1_024
    long_series: Literal["truncate", "pool"] = "pool"


@dataclass(frozen=True)
class RawTimeSeries:
    """Numbers as stored in a cell: `values [steps]` or `[rows, columns]` float32.

    column_names: if the cell has them
    rows_are_steps: the rows are steps, whatever the layout of other cells
    """

    values: np.ndarray
    column_names: tuple[str, ...] = ()
    rows_are_steps: bool = False


def layout(request: TimeSeriesRequest) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The fields of one step: `values [channels]` (NaN is a gap) and its `times` in seconds."""
    return {"values": ("float32", (request.channels,)), "times": ("float32", ())}


def decode(data: bytes, request: TimeSeriesRequest, limits: LimitOptions) -> dict[str, np.ndarray]:
    """`values [steps, channels]` float32 and `times [steps]` float32 of a `.npy`, CSV or TSV file.

    Raises:
        MediaError: damaged, in another format, over `limits.values`, or without the requested channels.
    """
    return build_series(read_file(data, limits), request)


def read_file(data: bytes, limits: LimitOptions) -> RawTimeSeries:
    """The numbers of a `.npy` file, or of a CSV or TSV file with or without a header line.

    Raises:
        MediaError: damaged, in another format, or over `limits.values` (checked in the header of a `.npy` file).
    """
    if not data:
        raise MediaError("the file is empty (0 bytes)")
    return RawTimeSeries(_read_npy(data, limits)) if data.startswith(NPY_MAGIC) else _read_lines(data, limits)


def read_cell(cell: Any, limits: LimitOptions) -> RawTimeSeries | None:
    """The numbers of a cell that is an array, a list, a record (channel name -> list) or a text of numbers.

    None if the cell is something else: a path, bytes, a record of `bytes` and `path`.

    Raises:
        MediaError: the cell is one of them, but has other content than numbers, is ragged, or is over `limits.values`.
    """
    if isinstance(cell, np.ndarray):
        if cell.dtype != object and cell.dtype.kind not in "biuf":
            raise MediaError(f"a time series has numbers, not {cell.dtype}")
        _check_count(cell.size, limits)
        return RawTimeSeries(_plane(_to_float(cell.tolist() if cell.dtype == object else cell)))
    if isinstance(cell, list | tuple):
        _check_count(sum(len(one) if isinstance(one, list | tuple) else np.size(one) for one in cell), limits)
        return RawTimeSeries(_plane(_to_float(_even(cell))))
    if isinstance(cell, Mapping) and not cell.keys() <= {"bytes", "path"}:
        return _from_record(cell, limits)
    if isinstance(cell, str) and (numbers := parse_text(cell)) is not None:
        _check_count(sum(map(len, numbers)), limits)
        values = _to_float(_even(numbers))
        return RawTimeSeries(values[0] if len(values) == 1 else values, rows_are_steps=True)
    return None


def parse_text(text: str) -> list[list[float]] | None:
    """Numbers given as text: steps end with ";" or a new line, channels are separated by "," or blanks, and "nan" is a
    gap.

    Without an end of step, the numbers are the steps of one channel. None if the text is anything else.

    Example:
        >>> parse_text("1 2; 3 nan")
        [[1.0, 2.0], [3.0, nan]]
    """
    if not text or text[0] not in "+-.0123456789nN \n":
        return None
    try:
        lines = [line.replace(",", " ").split() for line in text.replace("\n", ";").split(";") if line.strip()]
        return [[float(word) for word in line] for line in lines] if lines and "_" not in text else None
    except ValueError:
        return None


def build_series(raw: RawTimeSeries, request: TimeSeriesRequest) -> dict[str, np.ndarray]:
    """The numbers as one time series: steps first, channels in order, times in seconds from its start, at most
    `request.max_steps` steps. A series without any number gives {}.

    Raises:
        MediaError: other channels than requested, infinite numbers, or decreasing times.
    """
    values, names = raw.values, raw.column_names
    if np.isnan(values).all():
        return {}
    if values.ndim == 1:
        values = values[:, None]
    elif request.layout == "channels_first" and not raw.rows_are_steps:
        values = values.T
    values, names, times = _split_time(values, names, request)
    if names and request.channel_names:
        absent = [name for name in request.channel_names if name not in names]
        if absent:
            raise MediaError(f"there is no channel {absent[0]!r}; the channels are {', '.join(names)}")
        values = values[:, [names.index(name) for name in request.channel_names]]
    if values.shape[1] != request.channels:
        raise MediaError(f"expected {request.channels} channels, not {values.shape[1]}")
    if np.isinf(values).any():
        raise MediaError("the time series has a number that is not finite in single precision")
    if np.isnan(values).all():
        return {}
    if request.long_series == "pool" and len(values) > request.max_steps:
        values, times = _pooled(values, times, math.ceil(len(values) / request.max_steps))
    return {
        "values": np.ascontiguousarray(values[: request.max_steps], np.float32),
        "times": times[: request.max_steps].astype(np.float32),
    }


def _split_time(
    values: np.ndarray, names: tuple[str, ...], request: TimeSeriesRequest
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """The channels without the time channel, and the times in seconds from the first."""
    if request.time_channel is None:
        return values, names, np.arange(len(values)) / request.sampling_rate
    index = request.time_channel
    if isinstance(index, str):
        if index not in names:
            raise MediaError(f"there is no time channel {index!r}")
        index = names.index(index)
    if index >= values.shape[1]:
        raise MediaError(f"there is no time channel number {index}")
    times = values[:, index].astype(np.float64)
    if not np.isfinite(times).all():
        raise MediaError("the times have a gap")
    if any(later < earlier for earlier, later in pairwise(times.tolist())):
        raise MediaError("the times decrease")
    kept = [at for at in range(values.shape[1]) if at != index]
    return values[:, kept], tuple(names[at] for at in kept if names), times - times[:1]


def _pooled(values: np.ndarray, times: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of `size` neighboring steps, ignoring gaps. The last mean may cover fewer steps."""
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
            raise MediaError("expected an array of numbers; the version of this .npy file is not supported")
        shape, by_columns, kind = read[version](file)
    except MediaError:
        raise
    except Exception as error:  # numpy's header reader may raise any exception on damaged bytes
        raise MediaError("the header of the .npy file is damaged") from error
    if kind.kind not in "biuf" or kind.itemsize > 8:
        raise MediaError(f"expected an array of numbers, not of {kind}"[:100])
    if len(shape) not in (1, 2) or any(side < 0 for side in shape):
        raise MediaError(f"expected an array of one or two dimensions, not {list(shape)}"[:100])
    count = math.prod(shape)
    _check_count(count, limits)
    if len(data) - file.tell() < count * kind.itemsize:
        raise MediaError("the .npy file is incomplete")
    values = np.frombuffer(data, kind, count, file.tell()).reshape(shape, order="F" if by_columns else "C")
    return _plane(_to_float(values))


def _read_lines(data: bytes, limits: LimitOptions) -> RawTimeSeries:
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
                raise MediaError(f"line {len(rows) + bool(names) + 1} has {len(row)} cells, unlike the lines before it")
            rows.append(row)
            count += len(row)
            _check_count(count, limits)
    except csv.Error as error:
        raise MediaError("the CSV file is damaged") from error
    if not rows:
        raise MediaError("the CSV file has no numbers")
    if len(set(names)) < len(names):
        raise MediaError("two columns of the CSV file have the same name")
    return RawTimeSeries(_to_float(rows), names, rows_are_steps=True)


def _number(word: str) -> float:
    """The number in a cell; NaN if the cell is blank."""
    text = word.strip()
    if "_" in text:
        raise ValueError(f"{text[:40]!r} is not a number")
    try:
        return float(text) if text else math.nan
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a number") from None


def _from_record(cell: Mapping[Any, Any], limits: LimitOptions) -> RawTimeSeries:
    known = {str(name): channel for name, channel in cell.items() if channel is not None}
    for name, channel in known.items():
        if not isinstance(channel, list | tuple | np.ndarray):
            raise MediaError(f"channel {name!r} must be a list of numbers, not {type(channel).__name__}")
    lengths = {name: len(channel) for name, channel in known.items()}
    if len(set(lengths.values())) > 1:
        raise MediaError("channels differ in length: " + ", ".join(f"{k!r} has {n}" for k, n in lengths.items())[:200])
    steps = max(lengths.values(), default=0)
    _check_count(steps * len(cell), limits)
    columns = [_to_float(known.get(str(name), [math.nan] * steps)) for name in cell]
    if any(column.ndim != 1 for column in columns):
        raise MediaError("a channel of a record must be one list of numbers")
    return RawTimeSeries(np.stack(columns, axis=1), tuple(map(str, cell)), rows_are_steps=True)


def _even(cell: Sequence[Any]) -> Sequence[Any]:
    """Check that nested lists have the same length. A null becomes a row of gaps."""
    lengths = {len(one) for one in cell if isinstance(one, list | tuple | np.ndarray)}
    if not lengths:
        return cell
    if len(lengths) > 1:
        raise MediaError(f"the nested lists differ in length ({min(lengths)} to {max(lengths)})")
    return [[math.nan] * lengths.copy().pop() if one is None else one for one in cell]


def _to_float(values: Any) -> np.ndarray:
    """As single precision. None is a gap, and too large numbers become infinite."""
    try:
        with np.errstate(over="ignore"):
            return np.asarray(values, np.float64).astype(np.float32)
    except (OverflowError, TypeError, ValueError) as error:
        raise MediaError(
            "a time series must be a list of numbers, or a list of equally long lists of numbers"
        ) from error


def _plane(values: np.ndarray) -> np.ndarray:
    if values.ndim not in (1, 2):
        raise MediaError(f"a time series must have one or two dimensions, not {values.ndim}")
    return values


def _check_count(count: int, limits: LimitOptions) -> None:
    if count > limits.values:
        raise MediaError(f"{count:,} numbers are over the limit of {limits.values:,}")
