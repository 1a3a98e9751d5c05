"""Temperature scaling of logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor
from torch.nn import functional

#: Bounds of the temperature. Without bounds it is undefined if all predictions are correct.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.1, 20.0


def fit_temperature(values: Tensor, target: Tensor) -> float:
    """The temperature T that maximizes the likelihood of softmax(values / T): argmin_T -sum_i log softmax(v_i /
    T)_{y_i} (Guo et al., "On Calibration of Modern Neural Networks", 2017, section 4.2). `values [rows, k]`, `target
    [rows]`."""
    values = values.double()
    return best_temperature(lambda temperature: float(functional.cross_entropy(values / temperature, target)))[0]


def best_temperature(mean_loss: Callable[[float], float]) -> tuple[float, float]:
    """The temperature with the lowest `mean_loss(temperature)`, and this loss."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log: mean_loss(float(np.exp(log))),
        bounds=(np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)),
        method="bounded",
        options={"xatol": 1e-3},
    )
    return float(np.exp(found.x)), float(found.fun)
