"""Robustness, over the registry: every corruption of every modality changes the items and nothing else."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from laws.samples import network_of, prepare, sample_table
from polymodal.core.registry import components
from polymodal.preparation.preparation import ItemCorruption, Preparation, PreparedTable

PAIRS = [(name, kind) for name, modality in components("modality").items() for kind in modality.corruptions]


@cache
def prepared(name: str) -> tuple[Preparation, PreparedTable]:
    columns, recipe = sample_table([name], ["classification"])
    return prepare(columns, **recipe)


def items_of(name: str) -> tuple[Any, dict[str, np.ndarray]]:
    preparation, table = prepared(name)
    ((_, source),) = table.inputs.items()
    (modality,) = preparation.modalities.values()
    return modality, source.items.take(np.arange(len(source.items)))


def test_every_modality_can_be_damaged() -> None:
    assert {name for name, _ in PAIRS} == set(components("modality"))


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_damage_changes_a_copy_and_grows(name: str, kind: str) -> None:
    modality, items = items_of(name)
    before = {key: array.copy() for key, array in items.items()}
    changed = {}
    for strength in (0.1, 1.0):
        found = modality.corrupt(items, kind, strength, np.random.default_rng(0))
        again = modality.corrupt(items, kind, strength, np.random.default_rng(0))
        assert found.keys() == items.keys()
        for key, array in items.items():
            assert np.array_equal(array, before[key], equal_nan=array.dtype.kind == "f"), "the caller's items changed"
            assert found[key].dtype == array.dtype
            assert len(found[key]) == len(array)
            assert np.array_equal(found[key], again[key], equal_nan=array.dtype.kind == "f"), "the draw decides"
        changed[strength] = sum(distance(found[key], items[key]) for key in items)
    assert changed[1.0] > 0
    assert changed[1.0] >= changed[0.1]


def distance(one: np.ndarray, other: np.ndarray) -> float:
    if one.shape != other.shape:
        return float(abs(one.size - other.size) + max(one.size, other.size))
    unlike = one != other
    if one.dtype.kind == "f":
        unlike &= ~(np.isnan(one) & np.isnan(other))
        return float(np.nan_to_num(np.abs(one - other))[unlike].sum() + unlike.sum())
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64))[unlike].sum())


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_a_network_reads_damaged_items(name: str, kind: str) -> None:
    preparation, table = prepared(name)
    (path,) = preparation.modalities
    network = network_of(preparation).eval()
    corruption = ItemCorruption(path, kind, 1.0, np.random.default_rng(0))
    with torch.inference_mode():
        decided = network(preparation.batch(table, np.arange(table.rows), corruption=corruption))
    assert all(torch.isfinite(one.values).all() for one in decided.values())
