"""Where a long sound can be cut: in its pauses."""

from __future__ import annotations

import numpy as np

#: Seconds of a frame, and of what is kept of the quiet on both sides of what is loud.
FRAME, MARGIN = 0.02, 0.2
#: A frame is loud within this many dB of the loud frames of the sound (the 95th percentile), and above this many dB
#: of full scale.
BELOW, FLOOR = 40.0, -60.0
#: Frames over which the quietest place is searched where there is no pause.
SMOOTH = 5


def levels(samples: np.ndarray, rate: int) -> np.ndarray:
    """The level of each frame of `samples [samples]` int16 in dB of full scale, `[frames]`; the last frame may be
    shorter."""
    size = max(1, round(FRAME * rate))
    starts = np.arange(0, len(samples), size)
    power = np.add.reduceat(np.square(samples.astype(np.float64) / 32_768), starts) if len(samples) else np.zeros(0)
    counts = np.diff(np.append(starts, len(samples)))
    found: np.ndarray = 10 * np.log10(np.maximum(power / np.maximum(counts, 1), 1e-12))
    return found


def stretches(samples: np.ndarray, rate: int, window: float) -> list[tuple[float, float]]:
    """Parts of a sound of at most `window` seconds, in order, which together hold everything loud: starts and ends in
    seconds.

    A part that would be longer is cut in the middle of the longest pause of its second half, else at the quietest
    place there. At the ends of a part, quiet beyond `MARGIN` seconds is left out.
    """
    level = levels(samples, rate)
    if not len(level):
        return []
    loud = level > max(FLOOR, float(np.percentile(level, 95)) - BELOW)
    size = max(1, round(FRAME * rate))
    most, margin = max(1, int(window * rate / size)), round(MARGIN * rate / size)
    found: list[tuple[float, float]] = []
    at, total = 0, len(level)
    while True:
        ahead = np.flatnonzero(loud[at:])
        if not len(ahead):
            return found
        start = max(at, at + int(ahead[0]) - margin)
        end = total if total - start <= most else _cut(level, loud, start, start + most)
        heard = start + np.flatnonzero(loud[start:end])
        if len(heard):
            last = min(end, int(heard[-1]) + 1 + margin)
            found.append((start * size / rate, min(last * size, len(samples)) / rate))
        at = end


def _cut(level: np.ndarray, loud: np.ndarray, start: int, end: int) -> int:
    """The frame before which to cut, in the second half of `start` to `end`."""
    half = start + max(1, (end - start) // 2)
    quiet = np.flatnonzero(~loud[half:end])
    if len(quiet):
        runs = np.split(quiet, np.flatnonzero(np.diff(quiet) > 1) + 1)
        longest = max(runs, key=len)
        return half + int(longest[len(longest) // 2])
    beside = np.pad(level[half:end], SMOOTH // 2, mode="edge")
    return half + int(np.convolve(beside, np.ones(SMOOTH) / SMOOTH, mode="valid").argmin())
