"""Deep CCA: the loss by hand, comparison with the linear solution, and planted pairs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nn.objectives.pairs import chance_notices, pretrained, recall
from nn.objectives.steps import bare, reads, step
from polymodal.nn.objectives.cca import DeepCCA


def cca(size: int = 2, **options: Any) -> DeepCCA:
    found: DeepCCA = bare(DeepCCA(DeepCCA.Options(embedding_dim=size, **options), inputs=reads("a", "b"), width=size))
    return found


SQUARE = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])


@pytest.mark.parametrize(
    ("other", "loss"),
    [
        (SQUARE, 0.0),
        (SQUARE @ torch.tensor([[2.0, 1.0], [0.0, 3.0]]), 0.0),  # any lower triangular mixture is whitened away
        (-SQUARE, 2.0),
        (SQUARE * torch.tensor([1.0, -1.0]), 1.0),
        (SQUARE.flip(1), 1.0),
    ],
)
def test_the_loss_by_hand(other: Tensor, loss: float) -> None:
    (term,) = cca(regularization=1e-6)(step({"a": SQUARE, "b": other}))
    assert float(term.loss) == pytest.approx(loss, abs=1e-3)
    assert term.baseline == 1


def test_linear_heads_reach_the_canonical_correlations() -> None:
    """The loss of trained linear heads against the closed form: singular values of S_a^-1/2 S_ab S_b^-1/2."""
    torch.manual_seed(0)
    hidden = torch.randn(400, 2)
    a = torch.cat([hidden + 0.5 * torch.randn(400, 2), torch.randn(400, 1)], 1) @ torch.randn(3, 3)
    b = torch.cat([hidden + 0.5 * torch.randn(400, 2), torch.randn(400, 1)], 1) @ torch.randn(3, 3)
    roots = [torch.linalg.cholesky(torch.cov(x.T)) for x in (a, b)]
    across = torch.cov(torch.cat([a, b], 1).T)[:3, 3:]
    whitened = torch.linalg.solve(roots[0], across) @ torch.linalg.inv(roots[1]).T
    best = 1 - torch.linalg.svdvals(whitened)[:2].mean()
    objective = DeepCCA(
        DeepCCA.Options(embedding_dim=2, regularization=1e-6, momentum=0), inputs=reads("a", "b"), width=3
    )
    for name in "ab":
        objective.heads.add_module(name, torch.nn.Linear(3, 2))
    optimiser = torch.optim.Adam(objective.parameters(), 0.05)
    for _ in range(150):
        (term,) = objective(step({"a": a, "b": b}))
        optimiser.zero_grad()
        term.loss.backward()
        optimiser.step()
    assert float(term.loss.detach()) == pytest.approx(float(best), abs=0.01)


def test_unrelated_inputs_have_the_baseline_loss_in_validation() -> None:
    """Covariances of the batch itself, as in training, find correlations in noise; running covariances find none."""
    torch.manual_seed(0)
    objective = cca(size=8)
    for _ in range(3):
        objective(step({"a": torch.randn(200, 8), "b": torch.randn(200, 8)}))
        objective.after_step(None)
    objective.eval()
    (term,) = objective(step({"a": torch.randn(2000, 8), "b": torch.randn(2000, 8)}))
    assert float(term.loss) == pytest.approx(1, abs=0.03)


def test_validation_uses_the_means_and_covariances_of_training() -> None:
    torch.manual_seed(0)
    objective = cca(momentum=0.5)
    mixed = torch.randn(300, 2) @ torch.tensor([[2.0, 0.0], [1.0, 0.5]]) + 3
    objective(step({"a": mixed, "b": mixed}))
    objective.after_step(None)
    torch.testing.assert_close(objective.covariance[0], torch.cov(mixed.T))
    objective(step({"a": mixed + 2, "b": mixed}))
    objective.after_step(None)
    torch.testing.assert_close(objective.mean[0], mixed.mean(0) + 1)


def test_planted_pairs_are_found() -> None:
    model = pretrained({"name": "cca", "embedding_dim": 6})
    assert recall(model) > 0.25
    assert recall(model, by="numbers", wanted="text") > 0.25
    assert chance_notices(model) == []


def test_shuffled_pairs_stay_at_the_baseline_and_the_monitor_reports_it() -> None:
    model = pretrained({"name": "cca", "embedding_dim": 16}, shuffled=True, valid=800, training={"epochs": 6})
    assert recall(model) < 0.1
    assert len(chance_notices(model)) == 1
