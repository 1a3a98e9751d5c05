"""Sampling of video frames, as pure functions of their times. Nothing is decoded here.

Times are whole ticks of the video's own clock, so that rounding never changes the choice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class FrameTimeline:
    """When the frames of a video are shown: frame i from `starts[i]` until the next frame, the last frame until `end`.

    starts: strictly increasing ticks
    tick: seconds per tick
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
        """Seconds from the first frame of the video to each of `frames`, float32."""
        return np.array([(self.starts[frame] - self.starts[0]) * self.tick for frame in frames], np.float32)


def uniform_frames(timeline: FrameTimeline, frames: int) -> list[int]:
    """The frames shown at the centers of `frames` equal parts of the video, or all frames if there are no more.

    Center i is at `start + (2 i + 1) (end - start) / (2 frames)`. A frame that is shown for long may be chosen several
    times.
    """
    if len(timeline) <= frames:
        return list(range(len(timeline)))
    start, parts = timeline.starts[0], 2 * frames
    centers = (start + (2 * part + 1) * (timeline.end - start) // parts for part in range(frames))
    return [bisect_right(timeline.starts, middle) - 1 for middle in centers]


def even_positions(items: int, num_frames: int) -> list[int]:
    """Up to `num_frames` of `items` positions: the centers of equal segments."""
    num_frames = min(items, num_frames)
    return [(2 * part + 1) * items // (2 * num_frames) for part in range(num_frames)]


def scene_frames(gray: np.ndarray, timeline: FrameTimeline, frames: int) -> list[int]:
    """The candidates `gray [candidates, height, width]` that represent the longest scenes, in order of time.

    A cut is where the mean absolute difference of two successive candidates exceeds the mean of all differences by more
    than their standard deviation: the pair-wise comparison of Zhang, Kankanhalli and Smoliar, "Automatic partitioning
    of full-motion video" (1993), on whole small frames:

        d_i = mean |gray_i+1 - gray_i|,  cut where d_i > mean(d) + std(d)

    Each of the `frames` longest scenes contributes the candidate at its center. If there are fewer scenes, those that
    are longest relative to their number of frames contribute one more (highest averages), spread evenly.

    timeline: of the candidates
    """
    count = len(gray)
    if count <= frames:
        return list(range(count))
    change = np.abs(np.diff(gray.astype(np.int16), axis=0)).mean(axis=(1, 2))
    cuts = (np.flatnonzero(change > change.mean() + change.std()) + 1).tolist()
    bounds = [0, *cuts, count]
    edges = [*timeline.starts, timeline.end]
    spans = [(first, last, edges[last] - edges[first]) for first, last in pairwise(bounds)]
    given = [0] * len(spans)
    for _ in range(frames):
        room = [position for position, (first, last, _) in enumerate(spans) if given[position] < last - first]
        unseen = [position for position in room if not given[position]]
        given[max(unseen or room, key=lambda position: (spans[position][2] / (given[position] + 1), -position))] += 1
    chosen = []
    for (first, last, _), share in zip(spans, given, strict=True):
        chosen += [first + position for position in even_positions(last - first, share)] if share else []
    return chosen
