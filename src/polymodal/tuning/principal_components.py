"""Reduce frozen features of several inputs to one small matrix by principal components."""

from __future__ import annotations

import numpy as np


def reduce_columns(known: np.ndarray, new: np.ndarray, max_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Center the columns, and reduce them to their first principal components if there are more than `max_columns`.
    Means and components are fitted on the rows `known`. The last column, the presence flag, is not changed.

    Returns the columns of `known` and of `new`.
    """
    mean = known[:, :-1].mean(0, dtype=np.float64).astype(np.float32)
    x, y = known[:, :-1] - mean, new[:, :-1] - mean
    if x.shape[1] > max_columns:
        axes = _axes(x, max_columns)
        x, y = x @ axes, y @ axes
    return np.column_stack([x, known[:, -1]]), np.column_stack([y, new[:, -1]])


def concatenate_blocks(
    blocks: list[np.ndarray], new: list[np.ndarray], max_columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate all inputs, each scaled to a total variance of 1, reduced to at most `max_columns` columns, plus the
    presence flags."""
    sides: list[tuple[np.ndarray, np.ndarray]] = []
    for known, unknown in zip(blocks, new, strict=True):
        mean = known[:, :-1].mean(0, dtype=np.float64).astype(np.float32)
        x, y = known[:, :-1] - mean, unknown[:, :-1] - mean
        spread = float(np.sqrt(np.square(x, dtype=np.float64).sum(1).mean())) or 1.0
        sides.append((x / np.float32(spread), y / np.float32(spread)))
    x, y = (np.concatenate(side, axis=1) for side in zip(*sides, strict=True))
    if x.shape[1] > min(max_columns, len(x)):
        axes = _axes(x, max_columns)
        x, y = x @ axes, y @ axes
    flags = [np.stack([one[:, -1] for one in side], axis=1) for side in (blocks, new)]
    shift = flags[0].mean(0)
    return np.concatenate([x, flags[0] - shift], axis=1), np.concatenate([y, flags[1] - shift], axis=1)


def _axes(x: np.ndarray, max_columns: int) -> np.ndarray:
    """The first principal axes `[columns, up to max_columns]` of centered rows."""
    if len(x) > 2000:
        from sklearn.utils.extmath import randomized_svd

        return np.asarray(randomized_svd(x, max_columns, random_state=0)[2].T)
    # For few rows and many columns, the eigenvectors of the Gram matrix give the same axes at a fraction of the cost.
    value, vector = np.linalg.eigh((x @ x.T).astype(np.float64))
    kept = np.flatnonzero(value > 1e-7 * max(value[-1], 1e-30))[::-1][:max_columns]
    return (x.T @ (vector[:, kept] / np.sqrt(value[kept]))).astype(np.float32)
