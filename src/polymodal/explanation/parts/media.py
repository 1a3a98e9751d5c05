"""Parts of images, sounds and time series: an item without some of them is its prepared array, edited."""

from __future__ import annotations

import numpy as np

from polymodal.data.store.items import PreparedInput
from polymodal.explanation.parts.base import MAX_PARTS, Parts, fixed, ragged, spans

#: Rows and columns of the regions of an image, and the spans of a sound.
GRID, SOUND_SPANS = 8, 20


class RegionParts(Parts):
    """The regions of an image, a grid of 8 x 8. A removed region has the mean color of the image. `shape` is
    `(8, 8)`: rows from the top, columns from the left.

    pixels: `[height, width, 3]` uint8
    """

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels
        rows, columns = spans(pixels.shape[0], GRID), spans(pixels.shape[1], GRID)
        self.shape = (len(rows), len(columns))
        self.labels = tuple(f"rows {a}-{b - 1}, columns {c}-{d - 1}" for a, b in rows for c, d in columns)
        self._part = np.zeros(pixels.shape[:2], np.int64)
        for number, (a, b, c, d) in enumerate((*row, *column) for row in rows for column in columns):
            self._part[a:b, c:d] = number

    def keep(self, kept: np.ndarray, donor: RegionParts | None = None) -> PreparedInput:
        other = self.pixels.mean(axis=(0, 1)).astype(np.uint8) if donor is None else donor.pixels
        return fixed({"pixels": np.where(kept[:, self._part][..., None], self.pixels, other)})

    def tensor_parts(self) -> tuple[str, np.ndarray]:
        return "pixels", self._part[None, None]


class SoundParts(Parts):
    """Up to 20 spans of a sound of equal length. A removed span is replaced by the quietest span of the same sound:
    silence within noise would be an event of its own. `shape` is `(spans,)`.

    samples: `[samples, channels]` int16
    """

    def __init__(self, samples: np.ndarray, sampling_rate: int) -> None:
        self.samples = samples
        found = spans(len(samples), SOUND_SPANS)
        self.labels = tuple(f"{a / sampling_rate:.2f}-{b / sampling_rate:.2f} s" for a, b in found)
        self.shape = (len(found),)
        self._part = np.repeat(np.arange(len(found)), [b - a for a, b in found])
        start, end = min(found, key=lambda span: float(np.square(samples[slice(*span)], dtype=np.float64).mean()))
        self._quietest = samples[start:end]

    def keep(self, kept: np.ndarray, donor: SoundParts | None = None) -> PreparedInput:
        other = np.resize(self._quietest, self.samples.shape)
        if donor is not None:
            common = min(len(other), len(donor.samples))
            other[:common] = donor.samples[:common]
        return ragged({"values": np.where(kept[:, self._part][..., None], self.samples, other)})

    def tensor_parts(self) -> tuple[str, np.ndarray]:
        return "values", self._part[None, None]


class SeriesParts(Parts):
    """The steps of a time series; of more than 64 steps, spans of consecutive steps. Up to 8 channels have parts of
    their own. A removed part has the mean of its channel in this series. `shape` is `(spans, channels)`, or
    `(spans, 1)` for more channels.

    values: `[steps, channels]`, NaN in gaps; times: `[steps]` in seconds
    """

    def __init__(self, values: np.ndarray, times: np.ndarray, channels: list[str]) -> None:
        self.values, self.times = values, times
        names = channels if len(channels) <= 8 else ["all channels"]
        found = spans(len(values), MAX_PARTS // len(names))
        self.shape = (len(found), len(names))
        steps = [f"step {a}" if b == a + 1 else f"steps {a}-{b - 1}" for a, b in found]
        self.labels = tuple(f"{step}, {name}" if len(names) > 1 else step for step in steps for name in names)
        span = np.repeat(np.arange(len(found)), [b - a for a, b in found])
        self._part = span[:, None] * len(names) + np.arange(len(names))

    def keep(self, kept: np.ndarray, donor: SeriesParts | None = None) -> PreparedInput:
        known = ~np.isnan(self.values)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, self.values, 0).sum(axis=0) / count
        other = np.where(known, mean, np.nan)
        if donor is not None:
            common = min(len(other), len(donor.values))
            other[:common] = donor.values[:common]
        values = np.where(kept[:, self._part], self.values, other).astype(np.float32)
        return ragged({"values": values, "times": np.tile(self.times, (len(kept), 1))})

    def tensor_parts(self) -> tuple[str, np.ndarray]:
        return "values", self._part[None]
