"""Warm start of a captioner from a trained language model: at first both give the same texts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from laws.samples import Columns, network_of, prepare, sample, trained, whole_batch
from polymodal.core.errors import RecipeError
from polymodal.model.make_network import make_network
from polymodal.model.model import Model
from polymodal.training.decoder_weights import load_initial_weights

TEXTS = {"target": [f"{text} of all" for text in sample("task", "text_generation")["target"]]}


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language")
    training = {"epochs": 2, "learning_rate": 0.01}
    model = trained(
        {"train": TEXTS, "validation": TEXTS}, folder, outputs={"target": "text_generation"}, training=training
    )
    return model.save(folder / "model")


def captioner(start: Path, **decoder: Any) -> tuple[Any, Any]:
    columns: Columns = TEXTS | sample("modality", "category")
    written = {"name": "transformer", "init_from": str(start), "dropout": 0.0, **decoder}
    inputs = {"in_category": {"modality": "category", "columns": ["often", "some"]}}
    return prepare(columns, inputs=inputs, outputs={"target": {"task": "text_generation", "decoder": written}})


def test_it_starts_as_the_language_model_and_learns_to_use_its_inputs(language_model: Path) -> None:
    preparation, prepared = captioner(language_model)
    saved = Model.load(language_model)
    torch.manual_seed(0)
    network = make_network(preparation.recipe, preparation, pretrained=True).eval()
    batch = whole_batch(preparation, prepared)
    own, bare = prepare(
        TEXTS, outputs={"target": {"task": {"name": "text_generation", "tokenizer": str(language_model)}}}
    )
    with torch.no_grad():
        found = network(batch)["target"].values
        wanted = saved.network(whole_batch(own, bare))["target"].values
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-5)

    optimiser = torch.optim.AdamW(network.parameters(), 1e-2)
    for _ in range(2):
        optimiser.zero_grad()
        network(batch)["target"].values[:, 0].sum().backward()
        optimiser.step()
    gradients = [parameter.grad for parameter in network.towers.parameters() if parameter.grad is not None]
    assert any(bool((gradient != 0).any()) for gradient in gradients)


def test_a_writer_with_inputs_hands_on_all_of_its_decoder(language_model: Path, tmp_path: Path) -> None:
    """Cross-attention to the memory is loaded too."""
    columns: Columns = TEXTS | sample("modality", "category")
    inputs = {"in_category": {"modality": "category", "columns": ["often", "some"]}}
    parts = {"train": columns, "validation": columns}
    first = trained(parts, tmp_path, inputs=inputs, outputs={"target": "text_generation"}, training={"epochs": 1})
    folder = first.save(tmp_path / "model")
    preparation, _ = captioner(folder)
    network = make_network(preparation.recipe, preparation, pretrained=True)
    ours, theirs = network.decoders.state_dict(), first.network.decoders.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_saved_captioner_has_no_need_of_it(language_model: Path, tmp_path: Path) -> None:
    moved = tmp_path / "language"
    shutil.copytree(language_model, moved)
    preparation, prepared = captioner(moved)
    network = make_network(preparation.recipe, preparation, pretrained=True).eval()
    folder = Model(preparation.recipe, preparation, network).save(tmp_path / "model")
    shutil.rmtree(moved)
    loaded = Model.load(folder)
    batch = whole_batch(preparation, prepared)
    with torch.no_grad():
        assert torch.equal(loaded.network(batch)["target"].values, network(batch)["target"].values)


@pytest.mark.parametrize(("option", "value"), [("num_layers", 1), ("num_heads", 2)])
def test_another_shape_is_rejected(option: str, value: int, language_model: Path) -> None:
    preparation, _ = captioner(language_model, **{option: value})
    with pytest.raises(RecipeError, match=f"has {option}"):
        make_network(preparation.recipe, preparation, pretrained=True)


def test_a_folder_without_such_a_decoder_is_rejected(language_model: Path, tmp_path: Path) -> None:
    preparation, _ = captioner(language_model)
    decoder: Any = network_of(preparation).all_decoders()[0]
    decoder.options.init_from = str(tmp_path)
    with pytest.raises(RecipeError, match="not a model directory"):
        load_initial_weights(decoder)
