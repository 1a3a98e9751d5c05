"""The `time_series` modality: numbers over time, in one or more channels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import PIL.Image
import torch
from pydantic import Field, FiniteFloat
from torch import Tensor
from typing_extensions import TypedDict

from polymodal.core.errors import RecipeError
from polymodal.core.formatting import count_noun
from polymodal.core.needs import needs_bound
from polymodal.core.options import SizedModel, sized_field
from polymodal.core.record import PositiveFinite
from polymodal.core.registry import register
from polymodal.data.media.time_series import SeriesLayout, TimeSeriesRequest, build_series, read_cell
from polymodal.data.store.items import PreparedInput
from polymodal.data.table.block import RowBlock
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.modalities import time_series_augment, time_series_corruption
from polymodal.modalities.base import ModalityOptions
from polymodal.modalities.intended_media import match_media
from polymodal.modalities.media import MediaModality
from polymodal.modalities.previews import line_plot
from polymodal.modalities.time_series_schema import (
    choose_max_steps,
    infer_schema,
    is_numbers,
    is_vector,
    looks_like_series,
)
from polymodal.recipe.data import LimitOptions

# Items whose statistics are computed at once, which bounds the memory of padded arrays.
CHUNK_ITEMS = 256
#: The options of augmentation, in the order in which they are applied.
AUGMENTATIONS = ("random_crop", "time_mask", "gain", "jitter")


_BOUND = needs_bound("num_steps", "max_steps")


class SeriesState(TypedDict):
    """The saved state: the statistics of each channel."""

    mean: list[FiniteFloat]
    std: list[PositiveFinite]


@register
class TimeSeries(MediaModality):
    """Time series such as sensor signals or prices: one or more channels, of any length, with gaps.

    A cell is a list of numbers (one channel) or of lists, an array, a record (channel name -> list of numbers), a text
    of numbers (`"1.5 2; 3 nan"`: steps end with ";", channels are separated by blanks or commas), or the path or bytes
    of a `.npy` or CSV file. Null and NaN are gaps. Several columns make one input if each cell is one channel's list of
    numbers and the lists of a row are equally long.

    Collated: `values [items, steps, channels]` float32, 0 in gaps and padding; `observed` of the same shape, 1 where
    there is a number; `times [items, steps]` in seconds; `length [items]`.
    """

    class Options(ModalityOptions, SizedModel):
        name: Literal["time_series"] = "time_series"
        layout: SeriesLayout | None = None
        """The meaning of the rows of nested lists and two-dimensional arrays: one step, or one channel. Default: the
        dimension of constant size is that of the channels, and the shorter one if both are constant. Text files have
        one step per line."""
        channels: Annotated[int, Field(ge=1)] | list[str] | None = None
        """The number of channels, or their names in records and files with a header. Default: as in the sample."""
        time_channel: Annotated[int, Field(ge=0)] | str | None = None
        """The channel that holds the time in seconds: its name, or its number from 0. Default: a channel named
        `time` or `seconds`; without one, steps are spaced by `sampling_rate`."""
        sampling_rate: float = Field(default=1.0, gt=0)
        """Steps per second, if no channel holds the time."""
        num_steps: int | None = Field(default=None, ge=1, le=100_000)
        """Maximum number of steps; of each window if `max_windows` is more than 1. Default: 1.2 times the longest of a
        sample, at most `max_steps`."""
        max_steps: Annotated[int, _BOUND] = sized_field(4_096, 4_096, 8_192, ge=8, le=100_000)
        """Upper bound of the default of `num_steps`."""
        max_windows: int = Field(default=1, ge=1, le=1_000)
        """Maximum number of windows. A series of more than `num_steps` steps is encoded in consecutive windows of at
        most `num_steps` steps, and averaged over them."""
        long_series: Literal["truncate", "pool"] = "pool"
        """What happens to a series of more than `num_steps` steps (in all `max_windows` windows together): neighboring
        steps are averaged, so that all of it counts, or its end is truncated."""
        normalization: Literal["standard", "per_item", "none"] = "standard"
        """Normalize each channel to mean 0 and standard deviation 1: over the training rows, within each series, or
        not at all."""
        jitter: float = Field(default=0.3, ge=0, le=2)
        """Augmentation: add Gaussian noise of this standard deviation, relative to the standard deviation of the
        channel."""
        gain: float = Field(default=0.0, ge=0, le=1)
        """Augmentation: scale each channel by up to this fraction."""
        random_crop: float = Field(default=0.2, ge=0, lt=1)
        """Augmentation: crop up to this fraction of the steps, at the start and the end."""
        time_mask: float = Field(default=0.0, ge=0, le=1)
        """Augmentation: make a gap of up to this fraction of the steps."""

        @property
        def has_augmentation(self) -> bool:
            return any(getattr(self, name) for name in AUGMENTATIONS)

    media: ClassVar[str] = "time_series"
    default_encoder = "inception_time"
    many_columns = True
    time_preserving_options = {"random_crop": 0.0, "max_windows": 1}  # cropping removes events, windows have no times
    corruptions = ("noise", "drift", "gaps", "scale", "delay")
    options: Options

    def __init__(self, options: Options, *, columns: list[str]) -> None:
        super().__init__(options, columns=columns)
        self.mean = np.zeros(self.channels)
        self.std = np.ones(self.channels)

    @property
    def channels(self) -> int:
        named = self.options.channels or 1
        return named if isinstance(named, int) else len(named)

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        found = match_media(sample, "time_series", looks_like_series, "time series")
        if found is None:
            return None
        cells = [cell for cell in sample.values if looks_like_series(cell)]
        if cells and is_vector(cells):
            return Match(0.25, f"lists of {len(cells[0])} numbers each, too short for time series")
        return Match(0.9, found.reason)

    @classmethod
    def group_columns(cls, samples: list[ColumnSample]) -> bool:
        """Columns of lists make one input if the lists of each row are equally long."""
        lengths = []
        for sample in samples:
            if sample.nulls or not all(isinstance(cell, list | tuple) for cell in sample.values):
                return False
            lengths.append([len(cell) if np.ndim(cell[:1]) == 1 else -1 for cell in sample.values])
        return -1 not in lengths[0] and all(one == lengths[0] for one in lengths)

    @classmethod
    def resolve(cls, options: Options, samples: list[ColumnSample]) -> Options:
        """Fill `layout`, `channels`, `time_channel` and `num_steps` from sampled cells and from some of the files
        that they name."""
        if len(samples) > 1:
            schemas = [infer_schema(sample, "steps_first", None) for sample in samples]
            names = [sample.name for sample in samples]
            if isinstance(options.time_channel, int):
                raise RecipeError("time_channel", "an input of several columns needs the name of its time column")
            channels: int | list[str] = [name for name in names if name != options.time_channel]
            layout: SeriesLayout = "steps_first"
            time: int | str | None = options.time_channel
            longest = max(one.max_length for one in schemas)
        else:
            one = infer_schema(samples[0], options.layout, options.time_channel)
            channels, layout, time, longest = one.channels, one.layout, one.time, one.max_length
        filled = {
            "layout": options.layout or layout,
            "channels": options.channels or channels,
            "time_channel": time,
            "num_steps": options.num_steps or choose_max_steps(longest, options.max_steps),
        }
        return options.model_copy(update=filled)

    def request(self) -> TimeSeriesRequest:
        chosen = self.options
        names = tuple(chosen.channels) if isinstance(chosen.channels, list) else ()
        return TimeSeriesRequest(
            channels=self.channels,
            channel_names=names,
            layout=chosen.layout or "steps_first",
            time_channel=chosen.time_channel,
            sampling_rate=chosen.sampling_rate,
            max_steps=self.max_steps,
            long_series=chosen.long_series,
        )

    @property
    def window_steps(self) -> int:
        """Maximum number of steps of a window."""
        return self.options.num_steps or self.options.max_steps

    @property
    def max_steps(self) -> int:
        """Maximum number of steps of a series, in all windows together."""
        return self.window_steps * self.options.max_windows

    def max_records(self) -> int:
        return self.max_steps

    def is_cell(self, value: Any) -> bool | None:
        if isinstance(value, dict):
            return True
        if is_numbers(value):  # without a number, the steps of one series or several missing series
            return True if any(one is not None for one in value) else None
        if isinstance(value, list | tuple | np.ndarray) and len(value) and all(map(is_numbers, value[:20])):
            return None if self.channels > 1 else False  # steps of one series, or several series
        return super().is_cell(value)

    def from_memory(self, cell: Any, limits: LimitOptions) -> tuple[bytes, dict[str, np.ndarray]] | None:
        raw = read_cell(cell, limits)
        if raw is None:
            return None
        item = build_series(raw, self.request())
        if not item:
            return b"", item
        values, times = item["values"], item["times"]
        return b"%d x %d " % values.shape + values.tobytes() + times.tobytes(), item

    def prepare(self, block: RowBlock) -> PreparedInput:
        return super().prepare(self._combine_columns(block))

    def _combine_columns(self, block: RowBlock) -> RowBlock:
        """Combine several columns into one column of records."""
        if len(self.columns) == 1:
            return block
        cells = zip(*(block.cells(name) for name in self.columns), strict=True)
        rows = [dict(zip(self.columns, row, strict=True)) for row in cells]
        joined = [None if all(cell is None for cell in row.values()) else row for row in rows]
        return replace(block, columns={self.columns[0]: joined})

    def fit(self, blocks: Iterable[RowBlock]) -> None:
        """Fit the mean and standard deviation of each channel over the distinct series of the training rows,
        ignoring gaps."""
        count, total, square = (np.zeros(self.channels) for _ in range(3))
        shift: np.ndarray | None = None  # near the mean, for accurate squares
        for block in blocks:
            items = self.prepare(block).items
            for start in range(0, len(items), CHUNK_ITEMS):
                taken = items.take(np.arange(start, min(start + CHUNK_ITEMS, len(items))))
                known = _observed(taken)
                values = taken["values"].astype(np.float64)
                if shift is None:
                    first = np.where(known, values, 0).sum((0, 1)) / np.maximum(1, known.sum((0, 1)))
                    shift = first
                values = np.where(known, values - shift, 0)
                count += known.sum((0, 1))
                total += values.sum((0, 1))
                square += (values**2).sum((0, 1))
        seen = np.maximum(count, 1)
        spread = np.sqrt(np.maximum(square / seen - (total / seen) ** 2, 0))
        self.mean = total / seen + (0 if shift is None else shift)
        self.std = np.where(spread > 1e-6 * np.maximum(np.abs(self.mean), 1e-24), spread, 1.0)

    def collate(self, items: dict[str, np.ndarray]) -> dict[str, Tensor]:
        known = _observed(items)
        values = self._scaled(items["values"], known)
        return {
            "values": torch.from_numpy(np.where(known, values, 0).astype(np.float32)),
            "observed": torch.from_numpy(known.astype(np.float32)),
            "times": torch.from_numpy(items["times"]),
            "length": torch.from_numpy(items["length"]),
        }

    def _scaled(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        if self.options.normalization == "none":
            return values
        if self.options.normalization == "standard":
            return (values - self.mean) / self.std
        count = np.maximum(known.sum(1, keepdims=True), 1)
        centered = np.where(known, values - np.where(known, values, 0).sum(1, keepdims=True) / count, 0)
        spread = np.sqrt((centered**2).sum(1, keepdims=True) / count)
        return centered / np.where(spread > 1e-6 * self.std, spread, self.std)

    def fingerprint(self, limits: LimitOptions) -> str:
        """Includes the normalization, which `collate` applies."""
        learned = "" if self.options.normalization == "none" else f"{self.mean.tolist()} {self.std.tolist()}"
        return f"{super().fingerprint(limits)}\n{self.options.normalization} {learned}"

    def augment(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        chosen = self.options
        for name in AUGMENTATIONS:
            if strength := getattr(chosen, name):
                data = getattr(time_series_augment, name)(data, strength)
        return data

    def corrupt(
        self, items: dict[str, np.ndarray], kind: str, strength: float, draw: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """`noise`: Gaussian noise of up to two standard deviations of the channel; `drift`: a slow trend of up to
        three; `scale`: each channel up to four times larger or smaller; `gaps`: a segment of up to 90 % of each
        channel is missing; `delay`: everything is delayed by up to half a series, and the end is lost."""
        if kind not in self.corruptions:
            return super().corrupt(items, kind, strength, draw)
        values = time_series_corruption.corrupt_series(items["values"], items["length"], self.std, kind, strength, draw)
        return {**items, "values": values.astype(np.float32)}

    def shortened(self, prepared: PreparedInput) -> str:
        limit, lengths = self.max_steps, prepared.items.lengths()
        if lengths is None:
            return ""
        total = count_noun(len(lengths), "series", "series")
        if self.options.long_series == "truncate":
            count = int((lengths >= limit).sum())
            truncated = (
                f"{count:,} of {total} have {limit:,} steps or more: only these are used (num_steps, max_windows)"
            )
            return truncated if count else ""
        starts = self._pooled_starts(prepared, np.flatnonzero(lengths > limit // 2))
        if not len(starts):
            return ""
        most = f"up to {round(2 * starts.max() * self.options.sampling_rate) + 1} neighboring steps"
        pooled = most if self.options.time_channel is None else "neighboring steps"
        return (
            f"{len(starts):,} of {total} have more than {limit:,} steps: {pooled} are averaged (num_steps, max_windows)"
        )

    def _pooled_starts(self, prepared: PreparedInput, items: np.ndarray) -> np.ndarray:
        """The first times of those of the items whose steps are means: other series start at 0."""
        parts = [
            prepared.items.take(items[start : start + CHUNK_ITEMS])["times"][:, 0]
            for start in range(0, len(items), CHUNK_ITEMS)
        ]
        first = np.concatenate([np.zeros(0, np.float32), *parts])
        return first[first > 0]

    def preview(self, item: dict[str, np.ndarray]) -> PIL.Image.Image:
        return line_plot(item["values"])

    def shape(self) -> dict[str, Any]:
        """`channels`; `steps`: maximum number of steps of a window; `rate`: steps per second, if no channel holds the
        time; `windows`: maximum number of windows, if there can be several."""
        shape = {"channels": self.channels, "steps": self.window_steps, "rate": self.options.sampling_rate}
        return self.windowed_shape(shape)

    state_type = SeriesState

    def save(self, folder: Path) -> dict[str, Any]:
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    def load(self, folder: Path, state: dict[str, Any]) -> None:
        self.mean, self.std = (np.array(state[name]) for name in ("mean", "std"))
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"statistics of {len(self.mean)} and {len(self.std)} channels, not {self.channels}")

    def describe(self) -> str:
        named = self.options.channels
        names = f" ({', '.join(named[:8])})" if isinstance(named, list) else ""
        return f"{self.channels} channels{names}, up to {self.max_steps} steps{self.describe_windows()}"


def _observed(items: dict[str, np.ndarray]) -> np.ndarray:
    """`[items, steps, channels]` bool: within the series, and not a gap."""
    real = np.arange(items["values"].shape[1]) < items["length"][:, None]
    return real[:, :, None] & ~np.isnan(items["values"])
