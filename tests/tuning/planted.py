"""Tables in which it is known what each input is worth."""

from __future__ import annotations

from typing import Any

import numpy as np

from polymodal.experiments.arguments import as_recipe, as_table
from polymodal.experiments.plan import make_plan
from polymodal.tuning.folds import Folds


def numbers(columns: dict[str, np.ndarray], target: list[Any], *settings: str, folds: int = 3, **more: Any) -> Folds:
    """Folds of a table of inputs of numbers `[rows, n]`; `more` are further columns."""
    names = {name: [f"{name}{place}" for place in range(values.shape[1])] for name, values in columns.items()}
    data: dict[str, Any] = {
        column: values[:, place].tolist()
        for name, values in columns.items()
        for place, column in enumerate(names[name])
    }
    data |= more | {"target": target}
    recipe = {"inputs": {name: {"columns": one, "modality": "number"} for name, one in names.items()}}
    table = as_table(data, None)
    assert table is not None
    plan = make_plan(table, as_recipe(recipe, ["evaluation.bootstrap_samples=300", *settings]), ["target"])
    return Folds(table, plan.recipe, folds)


def vector(bit: np.ndarray, noise: float, draw: np.random.Generator) -> np.ndarray:
    """A bit of each row along a fixed direction, `[rows, 4]`, and noise."""
    return np.outer(2 * bit - 1, [1, -1, 1, -1]) + noise * draw.normal(size=(len(bit), 4))


def all_kinds(rows: int, seed: int, names: str = "abcde") -> Folds:
    """Those of five inputs that are named: `a` tells a bit of the class, `b` is a noisy copy of `a`, `c` is noise, and
    `d` and `e` tell the other bit, but only together (an exclusive or)."""
    draw = np.random.default_rng(seed)
    bits = draw.integers(0, 2, (3, rows))
    a = vector(bits[0], 1.2, draw)
    inputs = {
        "a": a,
        "b": a + 1.5 * draw.normal(size=a.shape),
        "c": draw.normal(size=(rows, 4)),
        "d": vector(bits[1], 0.3, draw),
        "e": vector(bits[2], 0.3, draw),
    }
    target = 2 * bits[0] + (bits[1] ^ bits[2])
    if "d" not in names:
        target = bits[0]
    elif "a" not in names:
        target = bits[1] ^ bits[2]
    return numbers({name: inputs[name] for name in names}, [f"k{one}" for one in target])
