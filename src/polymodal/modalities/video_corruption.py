"""Corruptions of videos, for robustness tests."""

from __future__ import annotations

import numpy as np


def frame_loss(frames: np.ndarray, strength: float, draw: np.random.Generator) -> np.ndarray:
    """Frames `[n, ...]` of one video, each except the first lost with probability `strength` and replaced by the
    previous frame."""
    lost = draw.random(len(frames)) < strength
    source = np.where(lost, 0, np.arange(len(frames)))
    return frames[np.maximum.accumulate(source)]


def shuffle(frames: np.ndarray, strength: float, draw: np.random.Generator) -> np.ndarray:
    """Frames `[n, ...]` of one video, a random fraction `strength` of them shuffled."""
    chosen = np.sort(draw.choice(len(frames), round(strength * len(frames)), replace=False))
    mixed = frames.copy()
    mixed[chosen] = frames[draw.permutation(chosen)]
    return mixed
