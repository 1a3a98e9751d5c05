"""Next-token prediction: a text is predicted from another input, or from its own beginning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from laws.checkpoints import checkpoint
from laws.samples import network_of, prepare, sample_table, whole_batch
from nn.objectives.planted import MAKERS, WORDS, at_chance, below_chance, pretrained, spec
from nn.objectives.test_masked_modeling import terms
from nn.objectives.test_masked_multimodal_modeling import repeated_in_text
from polymodal.core.errors import RecipeError


def model_of(shuffled: bool, **objective: Any) -> Any:
    generator = np.random.default_rng(3)
    train, valid = (repeated_in_text(rows, generator, shuffled) for rows in (384, 192))
    labels = {name: cells for name, cells in train.items() if name != "text"}
    inputs = {"text": spec("text", {"text": []}), "labels": spec("category", labels)}
    return pretrained(train, valid, inputs, {"name": "next_token", "num_layers": 1, **objective}, epochs=10)


def test_a_text_is_predicted_from_another_input() -> None:
    model = model_of(False)
    assert below_chance(model)["next_token.text"] < 0.3
    assert at_chance(model) == []


def test_shuffled_texts_stay_at_the_baseline() -> None:
    """The words are independent, and the tower of the text, which encodes all words, is not read."""
    model = model_of(True)
    assert below_chance(model)["next_token.text"] > 0.95
    assert len(at_chance(model)) == 1
    assert below_chance(model_of(False, context_inputs=[]))["next_token.text"] > 0.95


def test_a_text_is_predicted_from_its_previous_words() -> None:
    generator = np.random.default_rng(3)
    train, valid = (MAKERS["text"](rows, generator, False) for rows in (256, 96))
    model = pretrained(train, valid, {"x": spec("text", train)}, {"name": "next_token", "num_layers": 1})
    (ratio,) = below_chance(model).values()
    assert ratio == pytest.approx(1 / 6, abs=0.08)  # nothing tells the first of six words, which tells the others
    assert at_chance(model) == []


def test_no_token_attends_to_itself_or_later_tokens() -> None:
    """The loss of the first tokens does not depend on the later tokens."""
    columns = {"text": [" ".join([*WORDS[:2], last]) for last in WORDS]}
    preparation, prepared = prepare(
        columns, inputs={"text": "text"}, objectives=["next_token"], training={"precision": "fp32"}
    )
    network, batch = network_of(preparation).eval(), whole_batch(preparation, prepared)
    decoder = network.objectives["next_token"].decoders["text"]
    kept: list[torch.Tensor] = []
    decoder.norm.register_forward_hook(lambda module, given, result: kept.append(result.detach()))
    with torch.no_grad():
        (term,) = terms(network, batch)
        states = kept[0].view(4, -1, kept[0].shape[-1])
    length = batch.inputs["text"].data["length"]
    assert term.num_values == float(length.sum())
    first = int(length.min()) - 1
    torch.testing.assert_close(states[:, :first], states[:1, :first].expand_as(states[:, :first]))


def test_the_loss_of_a_row_does_not_depend_on_its_batch() -> None:
    columns, recipe = sample_table(["text", "time_series"], [], rows=6)
    columns["text"][1] = columns["time_series"][2] = None
    preparation, prepared = prepare(columns, inputs=recipe["inputs"], objectives=["next_token"])
    network = network_of(preparation).eval()
    with torch.no_grad():
        (together,) = terms(network, whole_batch(preparation, prepared))
        alone = [term for row in range(6) for term in terms(network, preparation.batch(prepared, np.array([row])))]
    assert len(alone) == 5
    total = sum(term.num_values for term in alone)
    assert total == together.num_values
    assert float(together.loss) == pytest.approx(sum(float(t.loss) * t.num_values for t in alone) / total, rel=1e-5)


def test_the_embedding_is_shared_with_the_encoder() -> None:
    columns, recipe = sample_table(["text", "number"], [], rows=6)
    preparation, prepared = prepare(columns, inputs=recipe["inputs"], objectives=["next_token"])
    network, batch = network_of(preparation), whole_batch(preparation, prepared)
    (term,) = terms(network, batch)
    term.loss.backward()
    assert bool(network.encoders()["in_text"].embedding.weight.grad.any())
    assert not any(".embedding." in name for name, _ in network.objectives.named_parameters())


def test_an_objective_that_would_train_nothing_is_rejected() -> None:
    columns, recipe = sample_table(["text", "number"], [], rows=6)
    recipe["inputs"]["in_text"]["encoder"] = {"name": "pretrained_text", "checkpoint": checkpoint("text")}
    for objective, message in (
        ({"context_inputs": []}, r"objectives\.0\.inputs: 'in_text' is predicted only from itself"),
        ({"context_inputs": ["in_image"]}, r"objectives\.0\.context_inputs: there is no input 'in_image'"),
    ):
        with pytest.raises(RecipeError, match=message):
            network_of(prepare(columns, inputs=recipe["inputs"], objectives=[{"name": "next_token", **objective}])[0])
