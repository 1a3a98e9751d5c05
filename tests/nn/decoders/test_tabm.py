"""The decoder of several members: their losses, their mean, and what it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from laws.samples import trained
from polymodal.core.types import FusionOutput, LossTerm, OutputShape, Space, TargetBatch, Tokens
from polymodal.datasets.planted import make_exclusive_or
from polymodal.nn.decoders.tabm import TabM
from polymodal.tasks.classification import ClassificationTask
from polymodal.training.loss import mean_loss

WIDTH, CLASSES, MEMBERS = 8, 3, 4


def fused(rows: int = 5) -> FusionOutput:
    vector, present = torch.randn(rows, WIDTH), torch.ones(rows, dtype=torch.bool)
    return FusionOutput("joint", Tokens(vector.unsqueeze(1), present.unsqueeze(1), present), vector, present.float())


def decoder(space: Space = "categorical", **options: float) -> TabM:
    torch.manual_seed(0)
    chosen = TabM.Options.model_validate({"num_members": MEMBERS, **options})
    return TabM(chosen, width=WIDTH, shape=OutputShape(CLASSES, space)).eval()


@pytest.mark.parametrize("space", ["categorical", "binary", "real"])
def test_the_prediction_is_the_mean_of_the_members(space: Space) -> None:
    ensemble, row = decoder(space), fused()
    members, values = ensemble.members(row), ensemble(row)
    assert members.shape == (MEMBERS, 5, CLASSES)
    assert not torch.allclose(members[0], members[1], atol=1e-2)
    if space == "categorical":
        assert torch.allclose(values.softmax(-1), members.softmax(-1).mean(0), atol=1e-6)
    elif space == "binary":
        assert torch.allclose(values.sigmoid(), members.sigmoid().mean(0), atol=1e-6)
    else:
        assert torch.allclose(values, members.mean(0), atol=1e-6)


def test_members_share_their_matrices() -> None:
    few, many = (decoder(num_members=count, hidden_size=64) for count in (2, 16))
    sizes = [sum(parameter.numel() for parameter in one.layers[1].linear.parameters()) for one in (few, many)]
    assert sizes[0] == sizes[1] == 64 * 64


def test_every_member_has_its_own_loss_and_weights_of_rows_count() -> None:
    task = ClassificationTask(ClassificationTask.Options(), columns=["y"])
    task.load({"labels": ["a", "b", "c"], "rows": [1, 1, 1]})
    members, truth = torch.randn(MEMBERS, 5, CLASSES), torch.tensor([0, 2, 1, 1, 0])
    present, weight = torch.tensor([True, True, False, True, True]), torch.tensor([1.0, 2.0, 1.0, 0.5, 1.0])
    term = LossTerm("joint", torch.zeros(5, CLASSES), torch.ones(5), members=members)
    found = mean_loss(task, term, TargetBatch(truth, present), weight)
    single = [
        mean_loss(task, LossTerm("joint", one, torch.ones(5)), TargetBatch(truth, present), weight) for one in members
    ]
    assert torch.allclose(found, torch.stack(single).mean(), atol=1e-6)


@pytest.mark.parametrize("fusion", ["concat", "late"])
def test_it_learns_from_the_losses_of_its_members(tmp_path: Path, fusion: str) -> None:
    """An exclusive-or of two inputs, which only the joint branch of `concat` can solve: a sum of two branches is
    right for at most three of the four pairs of bits."""
    columns = {"train": make_exclusive_or(320, seed=1), "validation": make_exclusive_or(80, seed=2)}
    model = trained(
        columns,
        tmp_path,
        inputs={one: {"modality": "number", "columns": [f"{one}{i}" for i in range(4)]} for one in "ab"},
        fusion=fusion,
        outputs={"target": {"task": "classification", "decoder": {"name": "tabm", "num_members": 4, "num_layers": 1}}},
        training={"modality_dropout": 0.05, "epochs": 10, "batch_size": 32, "learning_rate": 0.01},
    )
    test = make_exclusive_or(200, seed=3)
    accuracy = float(np.mean([one == other for one, other in zip(model.predict(test), test["target"], strict=True)]))
    assert (accuracy >= 0.85) if fusion == "concat" else (accuracy <= 0.8), accuracy
    ensemble = model.network.decoders["target"]["joint" if fusion == "concat" else "a"]
    assert not torch.equal(ensemble.layers[0].scale_out[0], ensemble.layers[0].scale_out[1])
