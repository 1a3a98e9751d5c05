"""The scores of parts on models whose values are known."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch

from polymodal import Model, fit
from polymodal.core.errors import RecipeError
from polymodal.explanation.faithfulness import gains_over_random, measure_faithfulness

QUICK: dict[str, Any] = {
    "hidden_size": 8,
    "training.num_threads": 1,
    "training.precision": "fp32",
    "training.epochs": 2,
    "evaluation.bootstrap_samples": 0,
    "evaluation.unimodal_scores": "none",
}


def table(rows: int, seed: int = 0) -> dict[str, list[Any]]:
    draw = np.random.default_rng(seed)
    numbers = draw.normal(size=(rows, 3))
    words = draw.choice(["river", "stone", "cloud", "light"], (rows, 5))
    return {
        **{f"n{at}": numbers[:, at].tolist() for at in range(3)},
        "text": [" ".join(one) for one in words],
        "y": (numbers @ [1.0, -2.0, 0.5] + (words == "river").sum(axis=1)).tolist(),
    }


@pytest.fixture(scope="module")
def network() -> Model:
    return fit(table(60), "y", settings={**QUICK, "members": []})


@pytest.fixture(scope="module")
def linear() -> Model:
    return fit(table(120), "y", settings={"members": ["linear"], "evaluation.bootstrap_samples": 0})


def test_shapley_values_of_numbers_equal_an_exact_enumeration(network: Model) -> None:
    rows = table(3, 1)
    names = ["n0", "n1", "n2"]
    expected = np.zeros((3, 3))
    for order in permutations(range(3)):
        cells = {**rows, **{name: [None] * 3 for name in names}}
        before = np.array(network.predict(cells))
        for at in order:
            cells[names[at]] = rows[names[at]]
            after = np.array(network.predict(cells))
            expected[:, at] += (after - before) / 6
            before = after
    found = network.explain(rows, input="numbers", method="shapley")
    assert np.allclose([one.scores for one in found], expected, atol=1e-5)
    assert max(one.completeness_gap for one in found) < 1e-5


def test_occlusion_of_a_word_is_the_prediction_without_it(network: Model) -> None:
    rows = table(1, 2)
    (found,) = network.explain(rows, input="text")
    words = rows["text"][0].split()
    assert found.labels == tuple(words)
    whole = network.predict(rows)[0]
    for at, score in enumerate(found.scores):
        shorter = {**rows, "text": [" ".join(words[:at] + words[at + 1 :])]}
        assert np.isclose(score, whole - network.predict(shorter)[0], atol=1e-5)


def test_a_linear_member_is_explained_by_its_terms(linear: Model) -> None:
    """A linear model has no interactions, so occlusion, Shapley values and its terms are the same."""
    rows = table(10, 3)
    occluded = np.array([one.scores for one in linear.explain(rows, input="numbers", method="occlusion")])
    shapley = np.array([one.scores for one in linear.explain(rows, input="numbers", method="shapley")])
    assert np.allclose(occluded, shapley, atol=1e-4)
    terms = np.array([rows[f"n{at}"] for at in range(3)]).T * [1.0, -2.0, 0.5]
    assert np.allclose(occluded, terms, atol=0.35)


def test_a_long_text_is_sampled_with_standard_errors(network: Model) -> None:
    rows = {**table(1, 4), "text": [" ".join(["river", "stone"] * 100)]}
    (found,) = network.explain(rows, input="text", method="shapley")
    assert found.scores.shape == (64,)
    assert found.standard_errors is not None
    assert found.completeness_gap < 1e-4


def test_rows_without_the_input_are_left_out(network: Model) -> None:
    rows = table(4, 5)
    rows["text"][1] = None
    assert [one.row for one in network.explain(rows, input="text")] == [0, 2, 3]


@dataclass
class Additive:
    """The sum of the weights of the parts."""

    weights: np.ndarray

    def __call__(self, kept: np.ndarray) -> np.ndarray:
        return kept @ self.weights


def test_random_scores_are_no_better_than_random() -> None:
    draw = np.random.default_rng(0)
    rows, good = [], []
    for seed in range(40):
        weights = draw.normal(size=12)
        value = Additive(weights)
        rows.append([measure_faithfulness(value, draw.normal(size=12), "blank", seed)])
        good.append([measure_faithfulness(value, weights, "blank", seed)])
    assert gains_over_random(rows)[0].better is False
    assert gains_over_random(good)[0].better is True


def test_a_method_that_is_no_better_than_random_says_so(network: Model) -> None:
    """A model that ignores the text: all words have a score of 0."""
    ignoring = Model(network.recipe, network.preparation, copy.deepcopy(network.network))
    with torch.no_grad():
        for parameter in ignoring.network.parameters():
            parameter.zero_()
    found = ignoring.explain(table(10, 6), input="text")
    assert found.gains[0].better is False
    assert "no better than a random order" in found.notes[0]


def test_wrong_methods_and_inputs_are_errors(network: Model, linear: Model) -> None:
    rows = table(2, 7)
    with pytest.raises(RecipeError, match="input: the model has several inputs"):
        network.explain(rows)
    with pytest.raises(RecipeError, match="did you mean 'text'"):
        network.explain(rows, input="texts")
    with pytest.raises(RecipeError, match="one network"):
        linear.explain(rows, input="numbers", method="integrated_gradients")
    with pytest.raises(RecipeError, match="have no gradient"):
        network.explain(rows, input="text", method="integrated_gradients")


@pytest.mark.parametrize("method", ["occlusion", "shapley"])
@pytest.mark.parametrize("kind", ["network", "linear"])
def test_rows_are_explained_together_in_two_predictions(
    kind: str, method: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that the scores read and one that judges them, whatever the lengths of the texts; with the scores of each row
    alone."""
    model: Model = request.getfixturevalue(kind)
    rows = table(16, 3)
    rows["text"] = [" ".join(text.split()[: 1 + at % 5]) for at, text in enumerate(rows["text"])]
    alone = [
        model.explain({name: cells[at : at + 1] for name, cells in rows.items()}, input="text", method=method)
        for at in range(16)
    ]
    calls: list[int] = []
    kind_of_predictor = type(model.row_predictor)
    predict = kind_of_predictor.predict

    def counting(self: Any, split: Any, **options: Any) -> Any:
        calls.append(len(split))
        return predict(self, split, **options)

    monkeypatch.setattr(kind_of_predictor, "predict", counting)
    together = model.explain(rows, input="text", method=method)
    assert len(calls) <= 2
    for one, (other,) in zip(together, alone, strict=True):
        assert np.allclose(one.scores, other.scores, atol=1e-5)
        assert one.num_predictions == other.num_predictions
        assert one.completeness_gap == pytest.approx(other.completeness_gap, abs=1e-5)
