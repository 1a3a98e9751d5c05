"""Named modules: any string is a valid name and round-trips."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from laws.samples import sample_table, trained
from polymodal.model.model import Model
from polymodal.nn.layers.named_modules import NamedModules, module_key

HOSTILE = [
    "a.b",
    "keys",
    "items",
    "forward",
    "type",
    "training",
    "_modules",
    "图片",
    " ",
    "",
    ".",
    "%",
    "%2E",
    "%6Beys",
]


def names() -> st.SearchStrategy[list[str]]:
    return st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=8)), unique=True, max_size=6)


def of(found: list[str]) -> NamedModules[nn.Linear]:
    return NamedModules({name: nn.Linear(1, 1) for name in found})


@given(names())
def test_names_round_trip_in_order(found: list[str]) -> None:
    modules = of(found)
    assert list(modules) == found
    assert len(modules) == len(found)
    assert all(modules[name] is one for name, one in zip(found, modules.children(), strict=True))
    assert all(name in modules for name in found)


@given(names())
def test_the_state_dict_round_trips(found: list[str]) -> None:
    modules, others = of(found), of(found)
    others.load_state_dict(modules.state_dict())
    assert all(torch.equal(modules[name].weight, others[name].weight) for name in found)
    assert all(torch.equal(modules[name].weight, copy.deepcopy(modules)[name].weight) for name in found)


@given(names())
def test_torch_finds_each_by_its_path(found: list[str]) -> None:
    """`get_submodule` and other path lookups read attributes, dot by dot."""
    whole = nn.Sequential()
    whole.add_module("towers", of(found))
    paths: Iterator[str] = (path for path, one in whole.named_modules() if isinstance(one, nn.Linear))
    assert all(whole.get_submodule(path) is one for path, one in zip(paths, whole[0].children(), strict=True))


@pytest.mark.parametrize("name", ["photo", "in_text", "a b", "图片", "contrastive"])
def test_most_names_are_their_own_keys(name: str) -> None:
    assert module_key(name) == name


@given(st.text())
def test_a_key_is_an_encoded_name(name: str) -> None:
    assert "." not in module_key(name)
    assert module_key(name) == "%" or unquote(module_key(name)) == name


def test_inputs_and_outputs_of_any_name_train_and_round_trip(tmp_path: Path) -> None:
    columns, recipe = sample_table(["number", "category"], ["regression"])
    inputs = dict(zip(["a.b", "keys"], recipe["inputs"].values(), strict=True))
    columns["type"] = columns.pop("y_regression")
    parts: Any = {"train": columns, "validation": columns}
    model = trained(
        parts, tmp_path, inputs=inputs, outputs={"type": "regression"}, fusion="late", training={"epochs": 1}
    )
    loaded = Model.load(model.save(tmp_path / "model"))
    assert {"towers.a%2Eb.missing", "towers.%6Beys.missing"} <= set(loaded.network.state_dict())
    assert np.array_equal(loaded.predict(columns), model.predict(columns))
