"""Contributions of inputs: equal to an exact enumeration, complete, signed, and cheap."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from polymodal import Model, fit
from polymodal.core.errors import RecipeError
from polymodal.nn.towers import Tower

QUICK: dict[str, Any] = {
    "hidden_size": 16,
    "training.num_threads": 1,
    "training.precision": "fp32",
    "evaluation.bootstrap_samples": 0,
    "evaluation.unimodal_scores": "none",
}
INPUTS = {
    "inputs.a": {"modality": "category", "encoder": "embedding"},
    "inputs.b": {"modality": "category", "encoder": "embedding"},
    "inputs.text": {"modality": "text", "encoder": "embedding_bag"},
    "inputs.x": {"modality": "number", "encoder": "linear"},
}


def table(rows: int, seed: int) -> dict[str, list[Any]]:
    """The class is whether `a` and `b` are equal; the number is twice `x`; the text is decisive for nothing."""
    draw = np.random.default_rng(seed)
    a, b, x = draw.integers(0, 2, rows), draw.integers(0, 2, rows), draw.normal(size=rows)
    words = draw.choice(["river", "stone", "cloud"], (rows, 3))
    return {
        "a": ["up" if one else "down" for one in a],
        "b": ["left" if one else "right" for one in b],
        "text": [" ".join(one) for one in words],
        "x": x.tolist(),
        "same": ["yes" if one else "no" for one in a == b],
        "double": (2 * x).tolist(),
    }


@pytest.fixture(scope="module")
def network() -> Model:
    settings = {**QUICK, **INPUTS, "training.epochs": 25, "training.learning_rate": 0.01}
    return fit(table(400, 0), ["same", "double"], settings=settings)


@pytest.fixture(scope="module")
def members() -> Model:
    return fit(
        {name: cells for name, cells in table(100, 1).items() if name != "double"},
        "same",
        quality="balanced",
        settings={"inputs.a": "category", "inputs.x": "number", "evaluation.bootstrap_samples": 0},
    )


def enumerated(model: Model, rows: dict[str, list[Any]], inputs: list[str]) -> np.ndarray:
    """The Shapley values of the probability of `yes` by all orders of the inputs, from predictions of edited tables."""
    yes, count = model.classes.index("yes"), len(rows["a"])
    known: dict[frozenset[str], np.ndarray] = {}

    def value(shown: frozenset[str]) -> np.ndarray:
        if shown not in known:
            cells = {name: rows[name] if name in shown else [None] * count for name in inputs}
            known[shown] = np.asarray(model.predict_proba(cells))[:, yes]
        return known[shown]

    orders = list(permutations(inputs))
    found = np.zeros((count, len(inputs)))
    for order in orders:
        for at, name in enumerate(order):
            before = frozenset(order[:at])
            found[:, inputs.index(name)] += (value(before | {name}) - value(before)) / len(orders)
    return found


def test_contributions_of_members_equal_an_exact_enumeration(members: Model) -> None:
    rows = table(6, 2)
    found = members.contributions(rows, target="yes", scale="probability")
    assert np.allclose(found.values, enumerated(members, rows, list(found.inputs)), atol=1e-5)
    assert found.completeness_gap < 1e-5
    assert any("without a network" in note for note in found.notes)


def test_contributions_sum_to_the_difference_to_no_input(network: Model) -> None:
    rows = table(8, 3)
    found = network.contributions(rows, output="double")
    nothing = {name: [None] * 8 for name in found.inputs}
    assert np.allclose(found.empty, network.predict(nothing)["double"], atol=1e-5)
    assert np.allclose(found.empty + found.values.sum(axis=1), network.predict(rows)["double"], atol=1e-5)
    probabilities = network.contributions(rows, target="yes", scale="probability")
    yes = network.classes["same"].index("yes")
    assert np.allclose(probabilities.predicted, network.predict_proba(rows)["same"][:, yes], atol=1e-5)
    assert probabilities.completeness_gap < 1e-5


def test_the_decisive_inputs_contribute_with_their_sign(network: Model) -> None:
    rows = table(100, 4)
    numbers = network.contributions(rows, output="double")
    assert numbers.means()[0].input == "x"
    assert numbers.means()[0].share > 0.5
    assert np.corrcoef(numbers.values[:, numbers.inputs.index("x")], rows["double"])[0, 1] > 0.9


def test_an_interaction_of_two_inputs_is_found(network: Model) -> None:
    """Whether `a` equals `b` depends on no input alone."""
    found = network.contributions(table(100, 5))
    assert found.interactions is not None
    sizes = np.abs(found.interactions).mean(axis=0)
    a, b = found.inputs.index("a"), found.inputs.index("b")
    assert np.unravel_index(sizes.argmax(), sizes.shape) in ((a, b), (b, a))
    others = sizes.copy()
    others[a, b] = others[b, a] = 0
    assert sizes[a, b] > 2 * others.max()


def test_a_missing_input_contributes_nothing(network: Model) -> None:
    rows = table(5, 6) | {"text": [None] * 5}
    found = network.contributions(rows)
    assert np.abs(found.values[:, found.inputs.index("text")]).max() < 1e-9


def test_1000_rows_with_4_inputs_encode_each_item_once(network: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoders, which cost the most, run as often as in one prediction of blocks of this size."""
    calls: list[int] = []
    forward = Tower.forward

    def counting(tower: Tower, *args: Any, **options: Any) -> Any:
        calls.append(1)
        return forward(tower, *args, **options)

    monkeypatch.setattr(Tower, "forward", counting)
    rows = table(1000, 7)
    found = network.contributions(rows)
    assert found.num_subsets == 16
    contributions = len(calls)
    calls.clear()
    for start in range(0, 1000, 256):
        network.predict({name: cells[start : start + 256] for name, cells in rows.items()})
    assert contributions == len(calls)


def test_wrong_targets_and_scales_are_errors(network: Model) -> None:
    rows = table(2, 8)
    with pytest.raises(RecipeError, match="did you mean 'yes'"):
        network.contributions(rows, target="yess")
    with pytest.raises(RecipeError, match="scale: number does not fit"):
        network.contributions(rows, output="same", scale="number")


def test_a_training_without_dropped_inputs_is_named() -> None:
    settings = {**QUICK, "training.epochs": 1, "training.modality_dropout": 0.0}
    rows = {name: cells for name, cells in table(40, 9).items() if name in ("a", "x", "same")}
    found = fit(rows, "same", settings=settings).contributions(rows)
    assert "modality_dropout is 0" in found.notes[0]
