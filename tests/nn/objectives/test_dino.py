"""DINO: the teacher, the views, collapse, and planted topics."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from laws.samples import network_of, prepare, sample_table, whole_batch
from nn.objectives.pairs import chance_notices
from nn.objectives.steps import reads
from nn.objectives.topics import named, pretrained_on_topics
from polymodal.core.errors import RecipeError
from polymodal.nn.network import Network
from polymodal.nn.objectives.augmented_views import AUGMENTATIONS, AugmentedView
from polymodal.nn.objectives.base import ObjectiveBatch
from polymodal.nn.objectives.dino import DINO, EMATeacher, koleo_loss
from polymodal.preparation.preparation import Preparation
from polymodal.training.monitor import Monitor


def made(**options: Any) -> tuple[Network, ObjectiveBatch, DINO, Preparation]:
    columns, recipe = sample_table(["text", "number"], [], rows=12)
    columns["text"][2] = None
    preparation, prepared = prepare(columns, **recipe, objectives=[{"name": "dino", "num_prototypes": 8, **options}])
    network, batch = network_of(preparation), whole_batch(preparation, prepared)
    step = ObjectiveBatch(network, batch, network.encode(batch).tokens, lambda: batch)
    (objective,) = network.objectives.values()
    assert isinstance(objective, DINO)
    return network, step, objective, preparation


def test_the_teacher_is_the_running_average_of_the_student() -> None:
    network, step, objective, _ = made(momentum=0.75)
    objective(step)
    teacher = objective.teachers["in_text"]
    assert isinstance(teacher, EMATeacher)
    place = teacher.names.index("tower.norm.weight")
    with torch.no_grad():
        network.towers["in_text"].norm.weight.fill_(5)
    objective.after_step(network)
    torch.testing.assert_close(getattr(teacher, f"average{place}"), torch.full((16,), 0.75 * 1 + 0.25 * 5))


def test_the_teacher_has_no_gradient_and_is_saved() -> None:
    network, step, objective, _ = made()
    terms = objective(step)
    assert [term.name for term in terms] == ["in_text", "in_number"]
    assert terms[0].baseline == pytest.approx(math.log(8))
    assert [term.num_values for term in terms] == [11, 12]
    torch.stack([term.loss for term in terms]).sum().backward()  # type: ignore[no-untyped-call]
    buffers = {name for name, _ in objective.named_buffers()}
    assert {"teachers.in_text.average0", "center", "is_initialized"} <= buffers <= set(objective.state_dict())
    assert all(one.grad is not None for one in objective.heads.parameters())
    assert network.towers["in_text"].project is not None


def test_the_loss_is_at_least_the_entropy_of_the_teacher() -> None:
    """Student and teacher agree: the loss is at least the entropy of the teacher's predictions, and at least 0."""
    _, step, objective, _ = made(temperature=0.001)
    objective.eval()
    losses = {term.name: float(term.loss.detach()) for term in objective(step)}
    assert losses["in_text"] > 0
    assert 0 <= losses["in_text collapse"] <= math.log(8)


@pytest.mark.parametrize("modality", ["text", "image", "time_series", "audio", "number", "category", "video"])
def test_the_second_view_differs_and_keeps_its_shape(modality: str) -> None:
    """None of these modalities has augmentations of its own here. The batch is not changed."""
    columns, recipe = sample_table([modality], [], rows=6)
    preparation, prepared = prepare(columns, **recipe, objectives=[{"name": "dino"}])
    batch = whole_batch(preparation, prepared).inputs[f"in_{modality}"]
    before = {name: one.clone() for name, one in batch.data.items()}
    torch.manual_seed(0)
    changed = AUGMENTATIONS[modality](batch.data, 0.7)
    assert all(torch.equal(one, batch.data[name]) for name, one in before.items())
    assert changed.keys() == before.keys()
    assert all(changed[name].dtype == one.dtype for name, one in before.items())
    assert all(len(changed[name]) == len(one) for name, one in before.items())
    same = [
        name
        for name in before
        if changed[name].shape == before[name].shape and torch.equal(changed[name], before[name])
    ]
    assert len(same) < len(before)
    weak = AUGMENTATIONS[modality](batch.data, 1e-9)
    if modality in ("text", "number", "category"):
        assert all(torch.equal(weak[name], one) for name, one in before.items())


def test_an_augmented_text_keeps_its_ends_and_its_order() -> None:
    data = {"values": torch.tensor([[5, 6, 7, 8, 9, 0], [1, 2, 3, 4, 5, 6]]), "length": torch.tensor([5, 6])}
    torch.manual_seed(1)
    found = AUGMENTATIONS["text"](data, 1.0)
    for row, (values, length) in enumerate(zip(found["values"].tolist(), found["length"].tolist(), strict=True)):
        kept = values[:length]
        assert kept == sorted(kept)
        assert (kept[0], kept[-1]) == ((5, 9), (1, 6))[row]
        assert values[length:] == [0] * (6 - length)


def test_an_input_without_augmentations_is_rejected() -> None:
    with pytest.raises(RecipeError, match="graph has no augmentations"):
        DINO(DINO.Options(), inputs=reads("a", modality="graph"), width=4)
    assert AugmentedView("a", "text", 0.5).name == "a"


def test_the_koleo_loss_by_hand() -> None:
    """Points at 0, 1 and 3 on a line have their nearest neighbors at 1, 1 and 2."""
    angles = torch.tensor([0.0, 0.2, 0.6])
    points = torch.stack([angles.cos(), angles.sin()], 1)
    chords = [2 * math.sin(gap / 2) for gap in (0.2, 0.2, 0.4)]
    assert float(koleo_loss(points)) == pytest.approx(-sum(map(math.log, chords)) / 3, abs=1e-3)


DINO_RECIPE = {"name": "dino", "momentum": 0.9, "augmentation_strength": 0.3}


def test_planted_topics_are_found_and_the_last_epoch_is_kept() -> None:
    model = pretrained_on_topics(DINO_RECIPE)
    assert named(model) > 0.9
    assert chance_notices(model) == []
    assert [entry.epoch for entry in model.run.history if entry.best][-1] == 12


def test_mixed_topics_are_not_found() -> None:
    assert named(pretrained_on_topics(DINO_RECIPE, topical=False), topical=False) < 0.3


def test_collapse_is_reported() -> None:
    network, step, objective, _ = made()
    objective(step)
    with torch.no_grad():
        objective.center[:, 0] = -100
    objective.eval()
    losses = {term.name: (float(term.loss.detach()), term.baseline) for term in objective(step)}
    assert losses["in_text collapse"] == pytest.approx((math.log(8), math.log(8)), abs=1e-4)
    monitor = Monitor(network, {})
    monitor.check_objectives({"dino.in_text collapse": losses["in_text collapse"]}, 3)
    assert "in_text collapse" in monitor.notices[0]
