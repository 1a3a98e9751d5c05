"""SigLIP: the loss by hand, its baseline, and planted pairs."""

from __future__ import annotations

import math

import pytest
import torch

from nn.objectives.pairs import chance_notices, pretrained, recall
from nn.objectives.steps import bare, reads, step
from polymodal.nn.objectives.siglip import SigLIP, entropy

ONE = torch.tensor([[1.0, 0.0], [0.0, 1.0]])


def siglip(**options: float) -> SigLIP:
    found: SigLIP = bare(SigLIP(SigLIP.Options(embedding_dim=2, **options), inputs=reads("a", "b"), width=2))
    return found


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def test_the_loss_by_hand() -> None:
    """Scale 10 and bias -10: positives have the logit 0, all other pairs -10."""
    (term,) = siglip()(step({"a": ONE, "b": ONE}))
    assert float(term.loss.detach()) == pytest.approx(-(2 * log_sigmoid(0) + 2 * log_sigmoid(10)) / 2, abs=1e-6)


def test_several_positives() -> None:
    """Both rows share an item, so that all four pairs are positives."""
    (term,) = siglip()(step({"a": ONE, "b": ONE}, index={"b": [0, 0]}))
    assert float(term.loss.detach()) == pytest.approx(-(2 * log_sigmoid(0) + 2 * log_sigmoid(-10)) / 2, abs=1e-5)
    assert term.baseline == 0


def test_the_baseline_is_the_best_constant_prediction() -> None:
    """Without similarities, no bias has a lower loss, and the best bias reaches the baseline."""
    vectors = {"a": torch.tensor([[1.0, 0.0]] * 4), "b": torch.tensor([[0.0, 1.0]] * 4)}
    objective = siglip()
    losses = []
    for bias in torch.linspace(-4, 2, 601).tolist():
        with torch.no_grad():
            objective.bias.fill_(bias)
        (term,) = objective(step(vectors))
        losses.append(float(term.loss.detach()))
    assert term.baseline == pytest.approx(4 * entropy(0.25), abs=1e-9)
    assert min(losses) == pytest.approx(term.baseline, abs=1e-4)


def test_scale_and_bias_start_as_published() -> None:
    objective = siglip()
    assert float(objective.logit_scale) == pytest.approx(10)
    assert float(objective.bias) == -10
    assert float(siglip(initial_bias=-3).bias) == -3


def test_planted_pairs_are_found() -> None:
    model = pretrained({"name": "siglip"})
    assert recall(model) > 0.35
    assert recall(model, by="numbers", wanted="text") > 0.35
    assert chance_notices(model) == []


def test_shuffled_pairs_stay_at_the_baseline_and_the_monitor_reports_it() -> None:
    model = pretrained({"name": "siglip"}, shuffled=True, training={"epochs": 6})
    assert recall(model) < 0.2
    assert len(chance_notices(model)) == 1
