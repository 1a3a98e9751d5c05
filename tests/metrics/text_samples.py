"""Texts of many scripts beside their references."""

from __future__ import annotations

import numpy as np

MANY_SCRIPTS = (
    "the a red blue cats sitting sat on under box, doesn't 3.5 2,000 U.S. Кошка спит. на столе «дом» 猫在 桌子上。 "
    "こんにちは हिन्दी naïve — 🙂 & don’t"
)
WORDS = MANY_SCRIPTS.split()
ROWS = 60


def objects(values: list) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def sample(rows: int = ROWS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Texts, some missing, empty or right, and one to five references each, some empty."""
    draw = np.random.default_rng(seed)

    def text(most: int) -> str:
        return " ".join(draw.choice(WORDS, draw.integers(0, most)))

    references = [tuple(text(14) for _ in range(draw.integers(1, 6))) for _ in range(rows)]
    texts: list[str | None] = []
    for several in references:
        kind = draw.random()
        right = str(draw.choice(several))
        texts.append(None if kind < 0.05 else right if kind < 0.3 else right + " cat" if kind < 0.6 else text(14))
    return objects(texts), objects(references)
