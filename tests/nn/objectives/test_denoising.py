"""Denoising predicts swapped cells if the other cells of the row determine them, and only then."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nn.objectives.planted import MAKERS, at_chance, below_chance, pretrained, spec
from polymodal.model.model import Model
from polymodal.nn.objectives.denoising import swap_cells


def model_of(modality: str, shuffled: bool, epochs: int = 8) -> Model:
    generator = np.random.default_rng(1)
    train, valid = (MAKERS[modality](rows, generator, shuffled) for rows in (500, 800))
    objective = {"name": "denoising", "predict_swapped": True, "hidden_size": 32}
    return pretrained(train, valid, {"x": spec(modality, train)}, objective, epochs=epochs)


@pytest.mark.parametrize("modality", ["number", "category"])
def test_swapped_cells_are_predicted_from_the_other_cells(modality: str) -> None:
    model = model_of(modality, shuffled=False)
    found = below_chance(model)
    assert found["denoising.x"] < 0.5
    if modality == "category":  # which of several numbers is odd, a decoder of one layer learns late
        assert found["denoising.x.changed"] < 0.7
        assert at_chance(model) == []


@pytest.mark.parametrize("modality", ["number", "category"])
def test_independent_cells_stay_at_the_baseline(modality: str) -> None:
    model = model_of(modality, shuffled=True, epochs=4)
    assert below_chance(model)["denoising.x"] > 0.98
    assert any("'denoising.x'" in notice for notice in at_chance(model))


def test_cells_are_swapped_within_their_column() -> None:
    """Each swapped cell has the value and the flag of the same column in another row. The other cells are unchanged."""
    torch.manual_seed(0)
    values = torch.arange(40.0).view(10, 4)
    data = {"values": values, "known": values % 3 > 0}
    before = {name: tensor.clone() for name, tensor in data.items()}
    cells = torch.rand(10, 4) < 0.5
    damaged, changed = swap_cells(data, cells)
    assert all(torch.equal(before[name], data[name]) for name in data)
    assert torch.equal(changed, cells)  # here no two cells of a column are alike
    assert torch.equal(damaged["values"][~cells], values[~cells])
    assert torch.equal(damaged["values"] % 4, values % 4)
    assert torch.equal(damaged["known"], damaged["values"] % 3 > 0)
    alike, same = swap_cells({"ids": torch.ones(10, 4)}, cells)
    assert not bool(same.any())
    assert torch.equal(alike["ids"], torch.ones(10, 4))
