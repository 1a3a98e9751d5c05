"""Which frames of a clip stand for it. Pure functions on times; nothing here decodes.

Times are whole ticks of the clip's own clock, so that a choice never hangs on how a fraction was rounded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Timeline:
    """When the frames of a clip are shown: frame i from `starts[i]` until the next, the last one until `end`.

    starts: strictly increasing ticks
    tick: seconds of one tick
    """

    starts: Sequence[int]
    end: int
    tick: float

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def seconds(self) -> float:
        return (self.end - self.starts[0]) * self.tick

    def times(self, frames: Sequence[int]) -> np.ndarray:
        """Seconds from the first frame of the clip to each of `frames`, float32."""
        return np.array([(self.starts[frame] - self.starts[0]) * self.tick for frame in frames], np.float32)


def uniform(timeline: Timeline, frames: int) -> list[int]:
    """The frames shown at the middles of `frames` equal parts of the clip, or every frame where there are no more.

    Middle i is at `start + (2 i + 1) (end - start) / (2 frames)`. A frame that is shown for long may be chosen more
    than once.
    """
    if len(timeline) <= frames:
        return list(range(len(timeline)))
    start, parts = timeline.starts[0], 2 * frames
    middles = (start + (2 * part + 1) * (timeline.end - start) // parts for part in range(frames))
    return [bisect_right(timeline.starts, middle) - 1 for middle in middles]


def evenly(items: int, wanted: int) -> list[int]:
    """Up to `wanted` of `items` places: the middles of equal runs."""
    wanted = min(items, wanted)
    return [(2 * part + 1) * items // (2 * wanted) for part in range(wanted)]


def scenes(grey: np.ndarray, timeline: Timeline, frames: int) -> list[int]:
    """Which of the candidates `grey [candidates, height, width]` stand for the longest scenes, in order of time.

    A cut lies where the mean absolute difference of two successive candidates is above the mean of all differences
    by more than their standard deviation: the pair-wise comparison of Zhang, Kankanhalli and Smoliar, "Automatic
    partitioning of full-motion video" (1993), on whole small frames:

        d_i = mean |grey_i+1 - grey_i|,  cut where d_i > mean(d) + std(d)

    Each of the `frames` longest scenes gives the candidate at its middle. With fewer scenes, those that are longest
    for the frames they have so far give one more (highest averages), spread evenly.

    timeline: of the candidates
    """
    count = len(grey)
    if count <= frames:
        return list(range(count))
    change = np.abs(np.diff(grey.astype(np.int16), axis=0)).mean(axis=(1, 2))
    cuts = (np.flatnonzero(change > change.mean() + change.std()) + 1).tolist()
    bounds = [0, *cuts, count]
    edges = [*timeline.starts, timeline.end]
    spans = [(first, last, edges[last] - edges[first]) for first, last in pairwise(bounds)]
    given = [0] * len(spans)
    for _ in range(frames):
        room = [place for place, (first, last, _) in enumerate(spans) if given[place] < last - first]
        unseen = [place for place in room if not given[place]]
        given[max(unseen or room, key=lambda place: (spans[place][2] / (given[place] + 1), -place))] += 1
    chosen = []
    for (first, last, _), share in zip(spans, given, strict=True):
        chosen += [first + place for place in evenly(last - first, share)] if share else []
    return chosen
