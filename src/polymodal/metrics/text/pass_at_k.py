"""pass@k: would one of k tries solve the problem?"""

from __future__ import annotations

import numpy as np

from polymodal.core.errors import DataError


def pass_at_k(samples: np.ndarray, passed: np.ndarray, k: int) -> np.ndarray:
    """The chance, problem by problem, that at least one of k programs drawn from the samples passes, `[problems]`.

    samples: programs written for each problem, n, `[problems]` int
    passed: those of them that pass, c, `[problems]` int

        pass@k = 1 - C(n - c, k) / C(n, k) = 1 - prod_{i = n - c + 1}^{n} (1 - k / i)

    The estimate is unbiased, while 1 - (1 - c / n)^k is too low. Its mean over the problems is the score of a model.

    Source: Chen et al., "Evaluating Large Language Models Trained on Code", 2021, equation 1.

    Raises:
        DataError: a problem has fewer than k samples, or more passed than were written.
    """
    samples, passed = np.asarray(samples), np.asarray(passed)
    if k < 1:
        raise DataError(f"pass@{k} is not defined: k counts programs and begins at 1")
    for row, (n, c) in enumerate(zip(samples, passed, strict=True)):
        if n < k:
            raise DataError(f"pass@{k} needs at least {k} samples, and there are {n}: write more of them", row=row)
        if not 0 <= c <= n:
            raise DataError(f"{c} of {n} samples cannot have passed", row=row)
    return np.array(
        [
            1.0 if n - c < k else 1 - np.prod(1 - k / np.arange(n - c + 1, n + 1))
            for n, c in zip(samples, passed, strict=True)
        ],
        dtype=np.float64,
    )
