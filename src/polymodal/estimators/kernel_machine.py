"""Kernel ridge regression with the Gaussian kernel, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve


@dataclass(frozen=True)
class KernelMachine:
    """The function s(x) = sum_i a_i exp(-width |x - x_i|^2) of fitted rows.

    rows: `[n, columns]` float32; factors: `[n, size]` float32
    """

    rows: np.ndarray
    factors: np.ndarray
    width: float

    def __call__(self, new: np.ndarray) -> np.ndarray:
        """The scores `[rows, size]` float64 of new rows `[rows, columns]`."""
        return gaussian_kernel(new, self.rows, self.width) @ self.factors


def gaussian_kernel(left: np.ndarray, right: np.ndarray, width: float) -> np.ndarray:
    """exp(-width |x - y|^2) `[left, right]` float64."""
    return np.asarray(np.exp(-width * squared_distances(left, right)))


def squared_distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The squared distances of rows `[left, right]` float64."""
    left, right = left.astype(np.float64), right.astype(np.float64)
    product = left @ right.T
    return np.asarray(((left**2).sum(1)[:, None] + (right**2).sum(1) - 2 * product).clip(0))


def fit_kernel_machine(
    rows: np.ndarray, outcomes: np.ndarray, weight: np.ndarray, width: float, penalty: float
) -> KernelMachine:
    """a = (K + penalty W^-1)^-1 y for centered outcomes `[rows, size]` (Saunders, Gammerman and Vovk, "Ridge Regression
    Learning Algorithm in Dual Variables", 1998). A row of weight 2 counts as two rows."""
    root = np.sqrt(weight)[:, None]
    system = gaussian_kernel(rows, rows, width) * root * root.T
    system[np.diag_indices_from(system)] += penalty
    factors = root * cho_solve(cho_factor(system, lower=True, overwrite_a=True), root * outcomes)
    return KernelMachine(rows, factors.astype(np.float32), width)


def score_path(
    sides: tuple[np.ndarray, np.ndarray],
    outcomes: np.ndarray,
    weight: np.ndarray,
    width: float,
    penalties: Sequence[float],
) -> list[np.ndarray]:
    """The scores of held-out rows for all penalties, by one eigendecomposition.

    sides: the training rows and the held-out rows
    """
    rows, new = sides
    root = np.sqrt(weight)[:, None]
    value, vector = np.linalg.eigh(gaussian_kernel(rows, rows, width) * root * root.T)
    right, left = vector.T @ (root * outcomes), gaussian_kernel(new, rows, width) @ (root * vector)
    return [left @ (right / (value.clip(0) + penalty)[:, None]) for penalty in penalties]
