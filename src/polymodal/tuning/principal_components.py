"""Fixed features of several inputs as one matrix that is small enough to learn from."""

from __future__ import annotations

import numpy as np


def reduce_columns(known: np.ndarray, new: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Centred columns, or where there are more than `most` of them their first principal components, from the rows
    `known` alone; the last column, the flag, stays itself."""
    mean = known[:, :-1].mean(0, dtype=np.float64).astype(np.float32)
    x, y = known[:, :-1] - mean, new[:, :-1] - mean
    if x.shape[1] > most:
        axes = _axes(x, most)
        x, y = x @ axes, y @ axes
    return np.column_stack([x, known[:, -1]]), np.column_stack([y, new[:, -1]])


def concatenate_blocks(blocks: list[np.ndarray], new: list[np.ndarray], most: int) -> tuple[np.ndarray, np.ndarray]:
    """All inputs side by side, each of total variance 1, in at most `most` columns and the flags."""
    sides: list[tuple[np.ndarray, np.ndarray]] = []
    for known, unknown in zip(blocks, new, strict=True):
        mean = known[:, :-1].mean(0, dtype=np.float64).astype(np.float32)
        x, y = known[:, :-1] - mean, unknown[:, :-1] - mean
        spread = float(np.sqrt(np.square(x, dtype=np.float64).sum(1).mean())) or 1.0
        sides.append((x / np.float32(spread), y / np.float32(spread)))
    x, y = (np.concatenate(side, axis=1) for side in zip(*sides, strict=True))
    if x.shape[1] > min(most, len(x)):
        axes = _axes(x, most)
        x, y = x @ axes, y @ axes
    flags = [np.stack([one[:, -1] for one in side], axis=1) for side in (blocks, new)]
    shift = flags[0].mean(0)
    return np.concatenate([x, flags[0] - shift], axis=1), np.concatenate([y, flags[1] - shift], axis=1)


def _axes(x: np.ndarray, most: int) -> np.ndarray:
    """The first principal axes `[columns, up to most]` of centred rows."""
    if len(x) > 2000:
        from sklearn.utils.extmath import randomized_svd

        return np.asarray(randomized_svd(x, most, random_state=0)[2].T)
    # Of few rows and many columns, the eigenvectors of the rows' products give the same axes at a fraction of the work.
    value, vector = np.linalg.eigh((x @ x.T).astype(np.float64))
    kept = np.flatnonzero(value > 1e-7 * max(value[-1], 1e-30))[::-1][:most]
    return (x.T @ (vector[:, kept] / np.sqrt(value[kept]))).astype(np.float32)
