"""Columns of pure noise beside the columns of a set: `penguins+5texts` is `penguins` with five columns of random words.

A good default is not harmed by them: its score stays within a point of the score without them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image

from benchmarks.tables.assets import assets_folder
from benchmarks.tables.dataset import CellType, Columns, Dataset, num_rows

COUNTS = (1, 5, 20)
#: The sets that noise is added to in the full run: numbers with categories, texts, and a mixed table.
BASES = ("penguins", "breast_cancer", "stamps")
VOCABULARY, WORDS_PER_TEXT, IMAGES, PIXELS = 500, 8, 200, 32


def noise_numbers(rng: np.random.Generator, rows: int) -> list[Any]:
    return rng.normal(size=rows).round(4).tolist()


def noise_texts(rng: np.random.Generator, rows: int) -> list[Any]:
    words = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 5)) for _ in range(VOCABULARY)]
    return [" ".join(rng.choice(words, WORDS_PER_TEXT)) for _ in range(rows)]


def noise_images(rng: np.random.Generator, rows: int) -> list[Any]:
    """Paths of random images; a few hundred are written once, and each cell draws one of them."""
    folder = assets_folder() / "made" / "noise"
    paths = [folder / f"{number:04}.png" for number in range(IMAGES)]
    if not paths[-1].is_file():
        folder.mkdir(parents=True, exist_ok=True)
        for number, path in enumerate(paths):
            pixels = np.random.default_rng(number).integers(0, 256, (PIXELS, PIXELS, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    return [paths[one].relative_to(assets_folder()).as_posix() for one in rng.integers(0, IMAGES, rows)]


NOISE: dict[str, tuple[CellType, Callable[[np.random.Generator, int], list[Any]]]] = {
    "numbers": ("number", noise_numbers),
    "texts": ("text", noise_texts),
    "images": ("image", noise_images),
}


def with_noise(dataset: Dataset, kind: str, count: int) -> Dataset:
    """The set with `count` further columns of noise; the same cells in every fold and seed."""
    cell_type, make = NOISE[kind]
    name = f"{dataset.name}+{count}{kind}"
    names = [f"extra_{kind}_{number}" for number in range(count)]

    def build() -> Columns:
        columns = dataset.build()
        rng = np.random.default_rng(crc32(name.encode()))
        return columns | {one: make(rng, num_rows(columns)) for one in names}

    return replace(dataset, name=name, build=build, types=dataset.types | dict.fromkeys(names, cell_type))


def planted_names() -> list[str]:
    """The names of all sets of the full run: each set without noise, and with it."""
    return [*BASES, *(f"{base}+{count}{kind}" for base in BASES for kind in NOISE for count in COUNTS)]
