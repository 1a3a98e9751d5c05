"""Matching: which rows may be exchanged, how negatives are sampled, and planted pairs."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from nn.objectives.pairs import INPUTS, chance_notices, pretrained
from nn.objectives.steps import reads, step
from polymodal.core.errors import RecipeError
from polymodal.core.types import FusionOutput, Tokens
from polymodal.nn.objectives.matching import Matching, negative_mask


class Looks:
    """A network whose fusion concatenates the inputs, and records what it received."""

    def __init__(self, inputs: list[str]) -> None:
        self.inputs, self.objectives, self.shown = inputs, {}, []  # type: ignore[var-annotated]

    def fuse(self, encoded: Any, rows: int, hidden: dict[str, Tensor]) -> list[FusionOutput]:
        pooled = torch.cat([encoded.tokens[name].pooled() for name in self.inputs], 1)
        self.shown.append((pooled, sorted(hidden)))
        there = torch.ones(rows, dtype=torch.bool)
        return [FusionOutput("joint", Tokens(pooled.unsqueeze(1), there.unsqueeze(1), there), pooled, there.float())]


def matching(width: int = 2, **options: Any) -> Matching:
    return Matching(Matching.Options(**options), inputs=reads("a", "b"), width=width)


def test_rows_that_share_an_item_are_no_negatives() -> None:
    given = step({"a": torch.zeros(4, 1), "b": torch.zeros(4, 1)}, index={"a": [0, 1, 0, 2], "b": [0, 1, 2, 1]})
    found = negative_mask(given.batch.inputs, "b", ["a"])
    assert found.tolist() == [
        [False, True, False, True],
        [True, False, True, False],
        [False, True, False, True],
        [True, False, True, False],
    ]


def test_the_loss_by_hand() -> None:
    """The logit of every row is log 3: p = 3/4 for original and for exchanged rows."""
    objective = matching(exchanged_inputs=["b"])
    linear = objective.head[1]
    assert isinstance(linear, torch.nn.Linear)
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.constant_(linear.bias, math.log(3))
    given = step({"a": torch.rand(3, 1), "b": torch.rand(3, 1)}, network=Looks(["a", "b"]))
    (term,) = objective(given)
    assert float(term.loss.detach()) == pytest.approx((-math.log(3 / 4) - math.log(1 / 4)) / 2, abs=1e-6)
    assert (term.name, term.baseline, term.num_values) == ("b", math.log(2), 3)


def test_one_input_is_exchanged_at_a_time_and_other_inputs_are_masked() -> None:
    torch.manual_seed(0)
    network = Looks(["a", "b"])
    a, b = torch.arange(4.0).unsqueeze(1), 10 + torch.arange(4.0).unsqueeze(1)
    given = step({"a": a, "b": b, "c": torch.zeros(4, 1)}, network=network)
    terms = matching()(given)
    assert [term.name for term in terms] == ["a", "b"]
    (true, hidden), (other_a, _), (other_b, _) = network.shown
    assert hidden == ["c"]
    assert torch.equal(true, torch.cat([a, b], 1))
    assert torch.equal(other_a[:, 1], true[:, 1])
    assert not bool((other_a[:, 0] == true[:, 0]).any())
    assert torch.equal(other_b[:, 0], true[:, 0])
    assert not bool((other_b[:, 1] == true[:, 1]).any())


def test_the_most_similar_rows_are_exchanged_at_the_end() -> None:
    """Rows 0 and 1 are nearly equal, and so are rows 2 and 3."""
    near = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    counts = {}
    for progress in (0.0, 1.0):
        network = Looks(["a", "b"])
        given = step({"a": torch.zeros(4, 2), "b": near}, network=network)
        objective = Matching(Matching.Options(exchanged_inputs=["b"], temperature=0.1), inputs=reads("a", "b"), width=4)
        torch.manual_seed(0)
        for _ in range(50):
            objective(SimpleNamespace(**{**vars(given), "progress": progress}))
        drawn = torch.stack([pooled[:, 2:] for pooled, _ in network.shown[1::2]])
        counts[progress] = float((drawn == near[[1, 0, 3, 2]]).all(2).float().mean())
    assert counts[1.0] > 0.95
    assert counts[0.0] < 0.8


def test_rows_without_both_inputs_are_ignored() -> None:
    given = step(
        {"a": torch.rand(4, 1), "b": torch.rand(4, 1)},
        present={"b": [True, True, True, False]},
        network=Looks(["a", "b"]),
    )
    assert [term.num_values for term in matching()(given)] == [3, 3]
    alone = step({"a": torch.rand(2, 1), "b": torch.rand(2, 1)}, present={"a": [True, False], "b": [True, False]})
    assert matching()(alone) == []


def test_an_unknown_input_is_rejected() -> None:
    with pytest.raises(RecipeError, match="exchanged_inputs"):
        matching(exchanged_inputs=["c"])


def test_a_fusion_without_a_joint_representation_is_rejected() -> None:
    with pytest.raises(RecipeError, match="does not combine"):
        pretrained({"name": "matching"}, fusion="late", training={"epochs": 1})


def test_planted_pairs_are_distinguished_from_exchanged_pairs() -> None:
    model = pretrained({"name": "matching", "temperature": 5})
    for name in INPUTS:
        score = model.metrics["validation"][f"matching.{name}"]["loss"]
        assert score["value"] < 0.85 * score["baseline"]
    assert chance_notices(model) == []


def test_shuffled_pairs_stay_at_the_baseline_and_the_monitor_reports_it() -> None:
    model = pretrained({"name": "matching", "temperature": 5}, shuffled=True, valid=512, training={"epochs": 4})
    (notice,) = chance_notices(model)
    assert "'matching.text'" in notice
    assert "'matching.numbers'" in notice


def test_with_an_alignment() -> None:
    """Negatives are sampled by the similarity in the space of the alignment."""
    model = pretrained([{"name": "contrastive"}, {"name": "matching"}])
    assert chance_notices(model) == []
