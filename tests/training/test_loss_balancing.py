"""Balance between losses and between inputs: the formulas on small numbers, and what they do in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from laws.samples import FIXED, experiment, network_of, prepare, whole_batch
from polymodal.core.errors import RecipeError
from polymodal.core.progress import Progress
from polymodal.experiments.train import train_model
from polymodal.training.gradient_blending import GradientBlending, blending_weights
from polymodal.training.loss_balancing import GradNorm, PCGrad
from polymodal.training.modality_balancing import modulate_gradients, unimodal_scores


def two_losses(weight: nn.Parameter, first: list[float], second: list[float]) -> dict[str, Tensor]:
    """Two losses that are linear in the parameter, with these gradients."""
    return {"one": weight @ torch.tensor(first), "two": weight @ torch.tensor(second)}


def test_pcgrad_takes_off_what_conflicts_and_nothing_else() -> None:
    weight = nn.Parameter(torch.zeros(2))
    PCGrad().backward(two_losses(weight, [1.0, 0.0], [-1.0, 1.0]), [weight], [weight])
    # g1 without its part along g2: (1, 0) + 1/2 (-1, 1); g2 without its part along g1: (0, 1)
    assert weight.grad is not None
    assert torch.allclose(weight.grad, torch.tensor([0.5, 0.5]) + torch.tensor([0.0, 1.0]))
    weight.grad = None
    PCGrad().backward(two_losses(weight, [1.0, 0.0], [1.0, 1.0]), [weight], [weight])
    assert weight.grad is not None
    assert torch.allclose(weight.grad, torch.tensor([2.0, 1.0]))


def test_pcgrad_leaves_the_parameters_of_one_loss_alone() -> None:
    shared, own = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    losses = {"one": (2 * shared).sum(), "two": (-shared).sum() + (5 * own).sum(), "penalty": (3 * own).sum()}
    PCGrad().backward(losses, [shared, own], [shared])
    assert shared.grad is not None
    assert own.grad is not None
    assert float(own.grad) == pytest.approx(8.0)
    assert float(shared.grad) == pytest.approx(0.0)  # in one dimension all of it conflicts


def test_gradnorm_gives_weight_to_the_loss_with_the_small_gradient() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    balancer = GradNorm(["strong", "weak"])
    for _ in range(60):
        weight.grad = None
        balancer.backward({"strong": (10 * weight).sum(), "weak": weight.sum()}, [weight], [weight])
    strong, weak = balancer.weights.tolist()
    assert strong + weak == pytest.approx(2.0, rel=1e-5)
    assert weak > 5 * strong  # weighted gradients end up near each other
    assert 10 * strong == pytest.approx(weak, rel=0.5)


def test_views_are_weighed_by_how_they_generalise() -> None:
    before = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    now = torch.tensor([[0.6, 0.2, 0.5], [0.7, 0.9, 1.2]])
    # gains .3, .1, none; growth of overfitting .1, .7, .7: a view whose validation loss rose has no weight
    found = blending_weights(before, now)
    assert found is not None
    raw = torch.tensor([0.3 / 0.1**2, 0.1 / 0.7**2, 0.0])
    assert torch.allclose(found, raw / raw.mean(), rtol=1e-4)
    assert blending_weights(now, before + 1) is None
    blending = GradientBlending(["y"], ["a", "joint"])
    blending.update({("y", "a"): 1.0, ("y", "joint"): 1.0}, {("y", "a"): 1.0, ("y", "joint"): 1.0})
    assert blending.weights.tolist() == [[1.0, 1.0]]  # there is nothing to compare with yet


def unequal(rows: int, seed: int) -> dict[str, list[Any]]:
    """A target that one number tells almost surely, and a sum of several others tells as well."""
    draw = np.random.default_rng(seed)
    target = draw.integers(0, 2, rows)
    quick = target * 2.0 - 1 + draw.normal(0, 0.4, rows)
    slow = (target * 2.0 - 1)[:, None] * 0.35 + draw.normal(0, 1, (rows, 4))
    columns = {"quick": quick.tolist(), "target": np.where(target, "yes", "no").tolist()}
    return columns | {f"slow{place}": slow[:, place].tolist() for place in range(4)}


INPUTS = {
    "quick": {"modality": "number"},
    "slow": {"modality": "number", "columns": [f"slow{place}" for place in range(4)]},
}


def test_the_input_that_tells_more_is_held_back() -> None:
    preparation, prepared = prepare(unequal(64, 0), inputs=INPUTS, outputs={"target": "classification"})
    network, batch = network_of(preparation), whole_batch(preparation, prepared)
    found = unimodal_scores(network, network.encode(batch), batch, preparation.tasks)
    assert set(found) == {"quick", "slow"}
    assert all(0 < share < 1 for share in found.values())
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    factors = modulate_gradients(network, {"quick": 0.9, "slow": 0.45}, 0.5, noise=False)
    assert factors == {"quick": pytest.approx(1 - np.tanh(1.0)), "slow": 1.0}
    assert all(torch.allclose(p.grad, torch.tensor(factors["quick"])) for p in network.towers["quick"].parameters())
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in network.towers["slow"].parameters())


def run(folder: Path, **training: Any) -> dict[str, Tensor]:
    outputs: dict[str, Any] = {"target": "classification", "level": "regression"}
    columns = unequal(60, 1)
    valid = unequal(30, 2)
    for part in (columns, valid):
        part["level"] = [float(cell) * 3 for cell in part["slow0"]]
    fusion = training.pop("fusion", "concat")
    recipe = {"inputs": INPUTS, "outputs": outputs, "fusion": fusion}
    one = experiment(
        {"train": columns, "validation": valid},
        folder,
        training={**FIXED, "epochs": 6, "batch_size": 20, "learning_rate": 3e-4, **training},
        **recipe,
    )
    return train_model(one, progress=Progress(False)).network.state_dict()


def differ(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return any(not torch.equal(one[name], other[name]) for name in one)


def test_every_balance_trains_and_trains_otherwise(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain")
    for balance in ("uncertainty", "gradnorm", "pcgrad"):
        found = run(tmp_path / balance, loss_balancing=balance)
        assert differ(plain, found), balance
        assert all(bool(torch.isfinite(tensor).all()) for tensor in found.values())
    for method in ("ogm", "ogm_ge"):
        assert differ(plain, run(tmp_path / method, modality_balancing={"method": method})), method
    late = run(tmp_path / "late", fusion="hybrid")
    assert differ(
        late,
        run(
            tmp_path / "blend",
            fusion="hybrid",
            modality_balancing={"method": "gradient_blending", "interval_epochs": 1},
        ),
    )


def test_blending_needs_decisions_of_single_inputs(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"modality_balancing\.method.*hybrid"):
        run(tmp_path, modality_balancing={"method": "gradient_blending"})
