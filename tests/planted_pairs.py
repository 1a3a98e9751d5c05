"""Planted pairs: pictures of two things in ten numbers and captions that name both, and models that aligned them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch

from polymodal import pretrain
from polymodal.model.model import Model

Columns = dict[str, list[Any]]

torch.set_num_threads(1)

COLOURS = ["red", "blue", "green", "black", "white"]
SHAPES = ["ball", "cube", "cone", "ring", "star"]
PAIRS = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
#: Each colour and each shape once: they are seen in training, together they are not.
HELD_OUT = [PAIRS[place] for place in (0, 6, 12, 18, 24)]
SEEN = [pair for pair in PAIRS if pair not in HELD_OUT]
PICTURE = [f"n{place}" for place in range(10)]
TEMPLATES = ["a picture of {}", "we see {}"]


def planted_pairs(pairs: list[str], rows: int, seed: int, noise: float = 0.15) -> Columns:
    """`rows` rows of these pairs in turn, with the pair in the column `what`."""
    draw = np.random.default_rng(seed)
    what = [pairs[row % len(pairs)] for row in range(rows)]
    known = np.array([[word in pair.split() for word in COLOURS + SHAPES] for pair in what], dtype=np.float64)
    numbers = known + draw.normal(0, noise, known.shape)
    captions = [str(draw.choice([*TEMPLATES, "{} here"])).replace("{}", pair) for pair in what]
    columns: Columns = {name: numbers[:, place].tolist() for place, name in enumerate(PICTURE)}
    return {**columns, "caption": captions, "what": what}


@cache
def aligned(shuffled: bool = False) -> Model:
    """A model that aligned pictures with captions of seen pairs; `shuffled`: with captions of other rows."""
    train, valid = planted_pairs(SEEN, 400, seed=0), planted_pairs(SEEN, 80, seed=1)
    if shuffled:
        train["caption"] = np.random.default_rng(2).permutation(train["caption"]).tolist()
    recipe = {
        "inputs": {"picture": {"modality": "number", "columns": PICTURE}, "caption": "text"},
        "objectives": [{"name": "contrastive"}],
        "hidden_size": 32,
        "training": {"epochs": 10, "batch_size": 64, "learning_rate": 0.005, "num_threads": 1, "precision": "fp32"},
        "evaluation": {"bootstrap_samples": 100},
    }
    return pretrain(train, recipe=recipe, validation=valid)
