"""Splitting long audio at silence."""

from __future__ import annotations

import numpy as np

#: Duration of a frame, and of the silence that is kept on both sides of a segment, in seconds.
FRAME, MARGIN = 0.02, 0.2
#: A frame is loud if its level is within this many dB of the 95th percentile, and above this level in dB of full scale.
RELATIVE_THRESHOLD, ABSOLUTE_THRESHOLD = 40.0, -60.0
#: Number of frames over which levels are averaged to find the quietest frame if there is no silence.
SMOOTH = 5


def frame_levels(samples: np.ndarray, sampling_rate: int) -> np.ndarray:
    """The level of each frame of `samples [samples]` int16 in dB of full scale, `[frames]`; the last frame may be
    shorter."""
    size = max(1, round(FRAME * sampling_rate))
    starts = np.arange(0, len(samples), size)
    power = np.add.reduceat(np.square(samples.astype(np.float64) / 32_768), starts) if len(samples) else np.zeros(0)
    counts = np.diff(np.append(starts, len(samples)))
    levels: np.ndarray = 10 * np.log10(np.maximum(power / np.maximum(counts, 1), 1e-12))
    return levels


def split_on_silence(samples: np.ndarray, sampling_rate: int, max_seconds: float) -> list[tuple[float, float]]:
    """Segments of at most `max_seconds` seconds, in order, that cover all loud frames: (start, end) in seconds.

    A longer segment is cut in the middle of the longest silence of its second half, or else at the quietest frame
    there. At the ends of a segment, silence beyond `MARGIN` seconds is removed.

    Example:
        >>> tone = (8_000 * np.sin(np.arange(16_000))).astype(np.int16)  # one second
        >>> audio = np.concatenate([tone, np.zeros(32_000, np.int16), tone])
        >>> split_on_silence(audio, 16_000, 3.0)
        [(0.0, 1.2), (2.8, 4.0)]
    """
    level = frame_levels(samples, sampling_rate)
    if not len(level):
        return []
    loud = level > max(ABSOLUTE_THRESHOLD, float(np.percentile(level, 95)) - RELATIVE_THRESHOLD)
    size = max(1, round(FRAME * sampling_rate))
    longest, margin = max(1, int(max_seconds * sampling_rate / size)), round(MARGIN * sampling_rate / size)
    segments: list[tuple[float, float]] = []
    position, total = 0, len(level)
    while True:
        ahead = np.flatnonzero(loud[position:])
        if not len(ahead):
            return segments
        start = max(position, position + int(ahead[0]) - margin)
        end = total if total - start <= longest else _cut(level, loud, start, start + longest)
        audible = start + np.flatnonzero(loud[start:end])
        if len(audible):
            last = min(end, int(audible[-1]) + 1 + margin)
            segments.append((start * size / sampling_rate, min(last * size, len(samples)) / sampling_rate))
        position = end


def _cut(level: np.ndarray, loud: np.ndarray, start: int, end: int) -> int:
    """The frame before which to cut, in the second half of `start` to `end`."""
    half = start + max(1, (end - start) // 2)
    quiet = np.flatnonzero(~loud[half:end])
    if len(quiet):
        runs = np.split(quiet, np.flatnonzero(np.diff(quiet) > 1) + 1)
        longest = max(runs, key=len)
        return half + int(longest[len(longest) // 2])
    padded = np.pad(level[half:end], SMOOTH // 2, mode="edge")
    return half + int(np.convolve(padded, np.ones(SMOOTH) / SMOOTH, mode="valid").argmin())
