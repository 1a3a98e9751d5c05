"""L-BFGS for large parameter arrays in float32."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

#: The loss and its gradient at a point.
Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]
#: The inner product of two points or gradients.
InnerProduct = Callable[[np.ndarray, np.ndarray], float]


def euclidean(left: np.ndarray, right: np.ndarray) -> float:
    """The sum of the products of all elements."""
    return float(np.dot(left.ravel(), right.ravel()))


def minimize_lbfgs(
    objective: Objective,
    start: np.ndarray,
    *,
    max_steps: int,
    tolerance: float,
    memory: int = 8,
    inner: InnerProduct = euclidean,
) -> np.ndarray:
    """The minimum of a smooth convex function, from `start`.

    Liu and Nocedal, "On the limited memory BFGS method for large scale optimization", 1989, with a backtracking line
    search. It ends when a step decreases the loss by less than `tolerance` times the loss, twice in a row.

    inner: the inner product in which the gradient is one
    """
    point = start
    loss, gradient = objective(point)
    pairs: deque[tuple[np.ndarray, np.ndarray, float]] = deque(maxlen=memory)
    small = 0
    for _ in range(max_steps):
        direction = -_two_loops(gradient, pairs, inner)
        slope = inner(direction, gradient)
        if slope >= 0:
            pairs.clear()
            direction, slope = -gradient, -inner(gradient, gradient)
        if slope == 0:
            break
        step = 1.0 if pairs else min(1.0, 1.0 / np.sqrt(inner(gradient, gradient)))
        while True:
            candidate = point + np.float32(step) * direction
            new_loss, new_gradient = objective(candidate)
            if new_loss <= loss + 1e-4 * step * slope:
                break
            step *= max(0.1, min(0.5, -slope * step / (2 * (new_loss - loss - step * slope))))
            if step < 1e-6:
                return point
        moved, turned = candidate - point, new_gradient - gradient
        curvature = inner(moved, turned)
        if curvature > 1e-10 * inner(turned, turned):
            pairs.append((moved, turned, curvature))
        small = small + 1 if loss - new_loss <= tolerance * abs(new_loss) else 0
        point, loss, gradient = candidate, new_loss, new_gradient
        if small == 2:
            break
    return point


def _two_loops(
    gradient: np.ndarray, pairs: deque[tuple[np.ndarray, np.ndarray, float]], inner: InnerProduct
) -> np.ndarray:
    """The product of the inverse Hessian's approximation with the gradient."""
    result, factors = gradient.copy(), []
    for moved, turned, curvature in reversed(pairs):
        factors.append(inner(moved, result) / curvature)
        result -= np.float32(factors[-1]) * turned
    if pairs:
        _, turned, curvature = pairs[-1]
        result *= np.float32(curvature / inner(turned, turned))
    for (moved, turned, curvature), factor in zip(pairs, reversed(factors), strict=True):
        result += np.float32(factor - inner(turned, result) / curvature) * moved
    return result
