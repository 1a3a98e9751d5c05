"""pass@k: probability that one of k samples solves a problem."""

from __future__ import annotations

import numpy as np

from polymodal.core.errors import DataError


def pass_at_k(samples: np.ndarray, passed: np.ndarray, k: int) -> np.ndarray:
    """Unbiased estimate of pass@k for each problem: the probability that at least one of k samples passes,
    `[problems]`.

    samples: number n of generated programs of each problem, `[problems]` int
    passed: number c of those that pass, `[problems]` int

        pass@k = 1 - C(n - c, k) / C(n, k) = 1 - prod_{i = n - c + 1}^{n} (1 - k / i)

    The estimate 1 - (1 - c / n)^k would be too low. The score of a model is the mean over the problems.

    Source: Chen et al., "Evaluating Large Language Models Trained on Code", 2021, equation 1.

    Raises:
        DataError: a problem has fewer than k samples, or more that pass than samples.

    Example:
        >>> import numpy as np
        >>> pass_at_k(np.array([4, 4]), np.array([1, 0]), k=2).tolist()
        [0.5, 0.0]
    """
    samples, passed = np.asarray(samples), np.asarray(passed)
    if k < 1:
        raise DataError(f"pass@{k} is not defined: k must be at least 1")
    for row, (n, c) in enumerate(zip(samples, passed, strict=True)):
        if n < k:
            raise DataError(f"pass@{k} needs at least {k} samples, but there are {n}; generate more", row=row)
        if not 0 <= c <= n:
            raise DataError(f"{c} of {n} samples cannot pass", row=row)
    return np.array(
        [
            1.0 if n - c < k else 1 - np.prod(1 - k / np.arange(n - c + 1, n + 1))
            for n, c in zip(samples, passed, strict=True)
        ],
        dtype=np.float64,
    )
