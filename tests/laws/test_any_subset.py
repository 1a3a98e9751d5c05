"""Law 3: every fusion trains and predicts with every subset of its inputs present."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from laws.samples import (
    TEXT_DECODERS,
    light,
    network_of,
    predicted_width,
    prepare,
    sample_table,
    table_of,
    total_loss,
    whole_batch,
)
from polymodal.core.registry import components
from polymodal.data.table.cell_errors import CellErrors
from polymodal.preparation.preparation import Preparation, PreparedTable

ROWS = 8
PRESENT = torch.tensor(list(product([True, False], repeat=3)))  # the last subset has nothing
TASKS = ["classification", "multilabel_classification", "regression", "metric_learning", "text_generation"]


def assert_trains_and_predicts(
    preparation: Preparation, prepared: PreparedTable, hidden: dict[str, torch.Tensor]
) -> None:
    network, batch = network_of(preparation), whole_batch(preparation, prepared)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    network.train()
    loss = total_loss(preparation, network, batch, hidden)
    assert torch.isfinite(loss)
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    optimizer.step()
    for name, parameter in network.named_parameters():
        assert torch.isfinite(parameter).all(), name
    network.eval()
    with torch.no_grad():
        for name, decided in network(batch, hidden).items():
            assert decided.values.shape == (ROWS, predicted_width(preparation, name))
            assert torch.isfinite(decided.values).all(), name


@pytest.mark.parametrize("fusion", components("fusion"))
def test_of_three_inputs(fusion: str) -> None:
    """Each subset in a batch of its own, and all subsets in one batch."""
    columns, recipe = sample_table(["text", "number", "category"], TASKS, rows=ROWS)
    preparation, prepared = prepare(columns, **recipe, fusion=fusion)
    names = list(recipe["inputs"])
    for subset in [row.expand(ROWS, 3) for row in PRESENT] + [PRESENT]:
        hidden = {name: ~subset[:, place] for place, name in enumerate(names)}
        assert_trains_and_predicts(preparation, prepared, hidden)


@pytest.mark.parametrize("fusion", ["attention", "concat", "late"])
@pytest.mark.parametrize("decoder", TEXT_DECODERS)
def test_of_three_inputs_and_a_generated_text(decoder: str, fusion: str) -> None:
    columns, recipe = sample_table(["text", "number", "category"], ["text_generation"], rows=ROWS)
    recipe["outputs"]["y_text_generation"]["decoder"] = light({"name": decoder})
    preparation, prepared = prepare(columns, **recipe, fusion=fusion)
    hidden = {name: ~PRESENT[:, place] for place, name in enumerate(recipe["inputs"])}
    assert_trains_and_predicts(preparation, prepared, hidden)


@pytest.mark.parametrize("fusion", components("fusion"))
def test_of_one_input(fusion: str) -> None:
    columns, recipe = sample_table(["text"], TASKS, rows=ROWS)
    preparation, prepared = prepare(columns, **recipe, fusion=fusion)
    for absent in (torch.zeros(ROWS), torch.ones(ROWS), torch.arange(ROWS) % 2):
        assert_trains_and_predicts(preparation, prepared, {"in_text": absent.bool()})


@pytest.mark.parametrize("fusion", components("fusion"))
def test_a_batch_without_any_cell_of_a_column(fusion: str) -> None:
    """Then the input's encoder has no item to encode."""
    columns, recipe = sample_table(["text", "category"], TASKS, rows=2 * ROWS)
    columns["text"][:ROWS] = [None] * ROWS
    preparation, prepared = prepare(columns, **recipe, fusion=fusion)
    network = network_of(preparation)
    batch = preparation.batch(prepared, torch.arange(ROWS).numpy())
    assert not batch.inputs["in_text"].present.any()
    loss = total_loss(preparation, network, batch)
    loss.backward()
    assert torch.isfinite(loss)
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("fusion", components("fusion"))
def test_a_missing_input_has_no_effect(fusion: str) -> None:
    """The cell of a hidden input does not matter: a hidden input equals a missing one."""
    columns, recipe = sample_table(["text", "number"], TASKS, rows=ROWS)
    columns["skewed"][0] = columns["plain"][0] = 3.0
    preparation, prepared = prepare(columns, **recipe, fusion=fusion)
    network = network_of(preparation).eval()
    lacking = {**columns, "text": [None, *columns["text"][1:]]}
    with torch.no_grad():
        hidden = network(whole_batch(preparation, prepared), {"in_text": torch.arange(ROWS) == 0})
        block = next(iter(preparation.blocks(table_of(lacking), CellErrors(), targets=True)))
        absent = network(whole_batch(preparation, preparation.prepare_block(block, targets=True)))
    for name in hidden:
        torch.testing.assert_close(hidden[name].values, absent[name].values, atol=1e-5, rtol=0)
