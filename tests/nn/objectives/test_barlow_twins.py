"""Barlow Twins: the loss by hand, the embedding, two views of one input, and planted pairs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nn.objectives.pairs import chance_notices, pretrained, recall
from nn.objectives.steps import bare, reads, step
from nn.objectives.topics import named, pretrained_on_topics
from polymodal.core.errors import RecipeError
from polymodal.nn.objectives.barlow_twins import BarlowTwins, standardize

SQUARE = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])


def barlow_twins(**options: Any) -> BarlowTwins:
    found: BarlowTwins = bare(
        BarlowTwins(BarlowTwins.Options(embedding_dim=2, **options), inputs=reads("a", "b"), width=2)
    )
    return found


@pytest.mark.parametrize(
    ("other", "loss"),
    [
        (SQUARE, 0.0),  # the same: C is the identity
        (3 * SQUARE + 5, 0.0),  # scale and place do not matter
        (SQUARE.flip(1), (2 + 0.5 * 2) / 2),  # crossed: C is 0 on the diagonal and 1 beside it
        (-SQUARE, (4 + 4) / 2),  # the opposite
        (SQUARE[:, :1].repeat(1, 2), (0 + 1 + 0.5 * 1) / 2),  # the same number twice
    ],
)
def test_the_loss_by_hand(other: torch.Tensor, loss: float) -> None:
    (term,) = barlow_twins(off_diagonal_weight=0.5)(step({"a": SQUARE, "b": other}))
    assert float(term.loss) == pytest.approx(loss, abs=1e-4)
    assert term.baseline == 1


def test_unrelated_numbers_have_the_baseline_loss() -> None:
    torch.manual_seed(0)
    one, other = torch.randn(4000, 2), torch.randn(4000, 2)
    (term,) = barlow_twins()(step({"a": one, "b": other}))
    assert float(term.loss) == pytest.approx(term.baseline, abs=0.05)


def test_embeddings_are_standardized_with_training_statistics() -> None:
    torch.manual_seed(0)
    objective = barlow_twins()
    given = {"a": 4 * torch.randn(500, 2) + 7, "b": torch.randn(500, 2)}
    for _ in range(80):
        objective(step(given))
        objective.after_step(None)
    objective.eval()
    found = objective.embed("a", step(given).tokens["a"])
    torch.testing.assert_close(found, torch.nn.functional.normalize(standardize(given["a"])), atol=0.02, rtol=0)


def test_planted_pairs_are_found() -> None:
    model = pretrained({"name": "barlow_twins", "hidden_size": 64})
    assert recall(model) > 0.3
    assert recall(model, by="numbers", wanted="text") > 0.3
    assert chance_notices(model) == []


def test_shuffled_pairs_stay_at_the_baseline_and_the_monitor_reports_it() -> None:
    model = pretrained({"name": "barlow_twins", "hidden_size": 64}, shuffled=True, valid=512, training={"epochs": 6})
    assert recall(model) < 0.1
    assert len(chance_notices(model)) == 1


TWO_COPIES = {"name": "barlow_twins", "augmentation_strength": 0.3, "off_diagonal_weight": 0.05}


def test_two_views_of_one_input_find_planted_topics() -> None:
    model = pretrained_on_topics(TWO_COPIES, epochs=16)
    assert named(model) > 0.75
    assert model.alignment is not None
    assert model.alignment.input_pairs == []


def test_mixed_topics_are_not_found() -> None:
    assert named(pretrained_on_topics(TWO_COPIES, topical=False, epochs=8), topical=False) < 0.3


def test_an_input_without_augmentations_is_rejected() -> None:
    with pytest.raises(RecipeError, match="'a' cannot be augmented"):
        BarlowTwins(BarlowTwins.Options(), inputs=reads("a", modality="graph"), width=4)
