"""Masked parts of every modality are predicted from the rest; if the rest is unrelated, the monitor reports it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from laws.checkpoints import checkpoint
from laws.samples import INPUTS, network_of, prepare, sample_table, whole_batch
from nn.objectives.planted import MAKERS, at_chance, below_chance, pretrained, spec
from polymodal.core.errors import RecipeError
from polymodal.core.types import Batch
from polymodal.nn.network import Network
from polymodal.nn.objectives.base import ObjectiveBatch, ObjectiveLoss
from polymodal.nn.objectives.masked_modeling import MaskedModeling
from polymodal.nn.objectives.masking.mask_units import MaskUnits, sample_mask
from polymodal.preparation.preparation import Preparation

#: Size of a part of each modality, and the fraction of the baseline loss that training reaches.
PLANTED: dict[str, tuple[dict[str, Any], float]] = {
    "image": ({"patch_size": 8}, 0.8),
    "video": ({"patch_size": 8}, 0.8),
    "audio": ({"patch_size": 4}, 0.7),
    "time_series": ({"patch_size": 3}, 0.2),
    "text": ({}, 0.3),
    "number": ({"mask_ratio": 0.5}, 0.2),
    "category": ({"mask_ratio": 0.5}, 0.2),
}


def model_of(modality: str, shuffled: bool) -> Any:
    generator = np.random.default_rng(1)
    few = modality in ("number", "category")  # where a row has but two mask units, luck chooses among few
    train, valid = (MAKERS[modality](rows, generator, shuffled) for rows in ((500, 1000) if few else (192, 96)))
    objective = {"name": "masked_modeling", "hidden_size": 32, **PLANTED[modality][0]}
    return pretrained(train, valid, {"x": spec(modality, train)}, objective, epochs=5 if few else 10)


@pytest.mark.parametrize("modality", PLANTED)
def test_masked_parts_are_predicted_from_the_rest(modality: str) -> None:
    model = model_of(modality, shuffled=False)
    (ratio,) = below_chance(model).values()
    assert ratio < PLANTED[modality][1]
    assert at_chance(model) == []


@pytest.mark.parametrize("modality", PLANTED)
def test_independent_parts_stay_at_the_baseline(modality: str) -> None:
    model = model_of(modality, shuffled=True)
    (ratio,) = below_chance(model).values()
    assert ratio > 0.98
    assert len(at_chance(model)) == 1


def masked(modality: str, rows: int = 6, **options: Any) -> tuple[Network, MaskedModeling, Batch, Preparation, Any]:
    columns, recipe = sample_table([modality], [], rows=rows)
    for column in recipe["inputs"][f"in_{modality}"]["columns"]:
        columns[column][1] = None
    objective = {"name": "masked_modeling", **options}
    preparation, prepared = prepare(columns, inputs=recipe["inputs"], objectives=[objective])
    network = network_of(preparation).eval()
    (found,) = network.objectives.values()
    return network, found, whole_batch(preparation, prepared), preparation, prepared  # type: ignore[return-value]


def terms(network: Network, batch: Batch) -> list[ObjectiveLoss]:
    (found,) = network.objective_losses(
        ObjectiveBatch(network, batch, network.encode(batch).tokens, lambda: batch)
    ).values()
    return found


@pytest.mark.parametrize("modality", INPUTS)
def test_masked_parts_do_not_reach_the_encoder_and_masking_copies(modality: str) -> None:
    """The corrupted tensors do not depend on the content of a masked part."""
    _, objective, batch, *_ = masked(modality)
    units, data = objective.units[f"in_{modality}"], batch.inputs[f"in_{modality}"].data
    before = {name: tensor.clone() for name, tensor in data.items()}
    mask = units.valid_units(data)
    once = units.apply_mask(data, mask)
    assert all(torch.equal(before[name], data[name]) for name in data)
    again = units.apply_mask({**data, **content(modality, data)}, mask)
    assert any(not torch.equal(once[name], data[name]) for name in data)
    assert all(torch.equal(once[name], again[name]) for name in data if name != "length")


def content(modality: str, data: dict[str, Tensor]) -> dict[str, Tensor]:
    """Other content at the same valid positions."""
    if modality == "text":
        return {"values": torch.where(data["values"] > 0, data["values"] % 7 + 1, 0)}
    if modality == "category":
        return {"ids": torch.where(data["ids"] > 0, 1, 0)}
    if modality in ("number", "datetime"):
        return {"values": torch.where(data["known"], data["values"] + 1, 0.0)}
    if modality == "time_series":
        return {"values": data["values"] + data["observed"]}
    name = "values" if modality == "audio" else "pixels"
    real = data[name] != 0 if modality != "image" else torch.ones_like(data[name], dtype=torch.bool)
    return {name: torch.where(real, data[name].flip(-1), data[name])} if modality == "image" else {}


@pytest.mark.parametrize("modality", INPUTS)
def test_the_loss_of_an_item_does_not_depend_on_its_batch(modality: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same masked units, the loss of a batch is the mean of the losses of its items."""
    network, _, _, preparation, prepared = masked(modality)

    def first(real: Tensor, share: float) -> Tensor:
        """Every part but the first of each item: other symbols are drawn for none, since all are."""
        return real & (real.cumsum(1) > (real.sum(1, keepdim=True) > 1).int())

    monkeypatch.setattr("polymodal.nn.objectives.masked_modeling.sample_mask", first)
    monkeypatch.setattr("polymodal.nn.objectives.masking.text_tokens.MASK_RATE", 1.0)
    rows = np.flatnonzero(prepared.inputs[f"in_{modality}"].index >= 0)
    with torch.no_grad():
        (together,) = terms(network, preparation.batch(prepared, rows))
        items = np.unique(prepared.inputs[f"in_{modality}"].index[rows], return_index=True)[1]
        alone = [term for row in rows[items] for term in terms(network, preparation.batch(prepared, np.array([row])))]
    total = sum(term.num_values for term in alone)
    assert total == together.num_values
    mean = sum(float(term.loss) * term.num_values for term in alone) / total
    assert float(together.loss) == pytest.approx(mean, rel=1e-4)


def test_rows_without_the_input_have_no_loss() -> None:
    network, _, batch, preparation, prepared = masked("number")
    assert terms(network, preparation.batch(prepared, np.array([1, 1]))) == []
    (term,) = terms(network, batch)
    assert term.num_values == 5.0  # one mask cell of each row that has numbers


@pytest.mark.parametrize("modality", INPUTS)
def test_bf16_and_inference_mode(modality: str) -> None:
    network, objective, batch, *_ = masked(modality)
    before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        (term,) = terms(network, batch)
    assert term.loss.dtype == torch.float32
    assert bool(torch.isfinite(term.loss))
    assert all(torch.equal(before[name], tensor) for name, tensor in objective.state_dict().items())
    network.train()
    with torch.autocast("cpu", torch.bfloat16):
        (term,) = terms(network, batch)
    term.loss.backward()
    learned = [p.grad for p in network.encoders()[f"in_{modality}"].parameters() if p.grad is not None]
    assert any(bool(gradient.any()) for gradient in learned)


def test_the_same_random_state_gives_the_same_mask() -> None:
    real = torch.tensor([[True] * 8, [True] * 3 + [False] * 5, [True] + [False] * 7])
    torch.manual_seed(0)
    one = sample_mask(real, 0.5)
    torch.manual_seed(0)
    assert torch.equal(one, sample_mask(real, 0.5))
    assert one.sum(1).tolist() == [4, 2, 1]
    assert not bool((one & ~real).any())
    assert torch.equal(sample_mask(real, 1.0), real)
    assert sample_mask(real, 0.99).sum(1).tolist() == [7, 2, 1]  # something is left to tell it from


def test_tokens_are_replaced_as_in_bert() -> None:
    """80 % mask tokens, 10 % other tokens, 10 % unchanged. A wholly masked text has only mask tokens."""
    columns = {"text": [" ".join(["oak elm fir ash"] * 16)] * 2}
    preparation, prepared = prepare(
        columns, inputs={"text": {"modality": {"name": "text", "max_length": 64}}}, objectives=["masked_modeling"]
    )
    data = whole_batch(preparation, prepared).inputs["text"].data
    data = {name: tensor.repeat(200, *[1] * (tensor.dim() - 1)) for name, tensor in data.items()}
    units = network_of(preparation).objectives["masked_modeling"].units["text"]
    assert isinstance(units, MaskUnits)
    torch.manual_seed(0)
    mask = sample_mask(units.valid_units(data), 0.5)
    shown = units.apply_mask(data, mask)["values"]
    assert torch.equal(shown[~mask], data["values"][~mask])
    masked_share = float((shown[mask] == 0).float().mean())
    same = float((shown[mask] == data["values"][mask]).float().mean())
    assert masked_share == pytest.approx(0.8, abs=0.02)
    assert same == pytest.approx(0.1, abs=0.02)
    assert bool((units.apply_mask(data, units.valid_units(data))["values"] == 0).all())


def test_the_mask_token_of_a_checkpoint_is_used() -> None:
    """Special tokens around a text are never masked."""
    encoder = {"name": "pretrained_text", "checkpoint": checkpoint("text"), "fine_tuning": "full", "max_tokens": None}
    columns, recipe = sample_table(["text"], [], rows=6)
    recipe["inputs"]["in_text"]["encoder"] = encoder
    preparation, prepared = prepare(columns, inputs=recipe["inputs"], objectives=["masked_modeling"])
    network, batch = network_of(preparation), whole_batch(preparation, prepared)
    units, data = network.objectives["masked_modeling"].units["in_text"], batch.inputs["in_text"].data
    tokenizer = preparation.modalities["in_text"].tokenizer  # type: ignore[attr-defined]
    shown = units.apply_mask(data, units.valid_units(data))["values"]
    first = [tokenizer.id_to_token(number) for number in shown[0, : int(data["length"][0])].tolist()]
    assert (first[0], first[-1]) == ("[CLS]", "[SEP]")
    assert set(first[1:-1]) == {"[MASK]"}
    (term,) = terms(network.train(), batch)
    term.loss.backward()


def test_a_frozen_encoder_is_rejected_if_listed_and_left_out_otherwise() -> None:
    encoder = {"name": "pretrained_text", "checkpoint": checkpoint("text")}
    columns, recipe = sample_table(["text", "number"], [], rows=6)
    recipe["inputs"]["in_text"]["encoder"] = encoder
    preparation, _ = prepare(columns, inputs=recipe["inputs"], objectives=["masked_modeling"])
    (objective,) = network_of(preparation).objectives.values()
    assert objective.raw_inputs == ["in_number"]
    named = [{"name": "masked_modeling", "inputs": ["in_text"]}]
    preparation, _ = prepare(columns, inputs=recipe["inputs"], objectives=named)
    with pytest.raises(RecipeError, match=r"in_text.*is frozen"):
        network_of(preparation)
    training = {"param_groups": {"inputs.x": {"freeze": True}}, "epochs": 1}
    train = MAKERS["number"](32, np.random.default_rng(0), False)
    with pytest.raises(RecipeError, match=r"inputs\.x is frozen"):
        pretrained(train, train, {"x": spec("number", train)}, {"name": "masked_modeling"}, **training)


def test_a_patch_must_divide_the_image() -> None:
    columns, recipe = sample_table(["image"], [], rows=6)
    preparation, _ = prepare(
        columns, inputs=recipe["inputs"], objectives=[{"name": "masked_modeling", "patch_size": 5}]
    )
    with pytest.raises(RecipeError, match=r"objectives\.0\.patch_size: 5 does not divide the image of 32 x 32 pixels"):
        network_of(preparation)
