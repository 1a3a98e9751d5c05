"""A masked part that only another input determines is predicted with that input, and not without it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from laws.samples import network_of, prepare, sample_table
from nn.objectives.planted import WORDS, Columns, at_chance, below_chance, pretrained, spec
from polymodal.core.errors import RecipeError


def repeated_in_text(rows: int, draw: np.random.Generator, shuffled: bool) -> Columns:
    """Four independent labels, and a text that repeats them in order (those of another row if shuffled)."""
    drawn = np.array(WORDS)[draw.integers(4, size=(rows, 4))]
    said = drawn[draw.permutation(rows)] if shuffled else drawn
    return {"text": [" ".join(row) for row in said]} | {f"x{column}": drawn[:, column].tolist() for column in range(4)}


def model_of(shuffled: bool, **objective: Any) -> Any:
    generator = np.random.default_rng(3)
    train, valid = (repeated_in_text(rows, generator, shuffled) for rows in (384, 200))
    labels = {name: cells for name, cells in train.items() if name != "text"}
    inputs = {"text": spec("text", {"text": []}), "labels": spec("category", labels)}
    return pretrained(train, valid, inputs, objective, epochs=12 if not shuffled else 3)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_masked_parts_are_predicted_from_the_other_input(share: float) -> None:
    model = model_of(
        False, name="masked_multimodal_modeling", predicted_inputs=["labels"], mask_ratio=share, hidden_size=32
    )
    assert below_chance(model)["masked_multimodal_modeling.labels"] < 0.4
    assert at_chance(model) == []


def test_shuffled_pairs_stay_at_the_baseline() -> None:
    model = model_of(
        True, name="masked_multimodal_modeling", predicted_inputs=["labels"], mask_ratio=0.5, hidden_size=32
    )
    assert below_chance(model)["masked_multimodal_modeling.labels"] > 0.98
    assert len(at_chance(model)) == 1


def test_the_input_by_itself_stays_at_the_baseline() -> None:
    model = model_of(True, name="masked_modeling", inputs=["labels"], mask_ratio=0.5, hidden_size=32)
    assert below_chance(model)["masked_modeling.labels"] > 0.98


def test_only_predicted_inputs_are_read_raw() -> None:
    columns, recipe = sample_table(["text", "number", "category"], [], rows=6)
    some = {"name": "masked_multimodal_modeling", "inputs": ["in_text", "in_number"], "predicted_inputs": ["in_number"]}
    preparation, _ = prepare(columns, inputs=recipe["inputs"], objectives=[some, "masked_multimodal_modeling"])
    one, other = network_of(preparation).objectives.values()
    assert one.raw_inputs == ["in_number"]
    assert other.raw_inputs == ["in_text", "in_number", "in_category"]
    wrong = {
        "name": "masked_multimodal_modeling",
        "inputs": ["in_text", "in_number"],
        "predicted_inputs": ["in_category"],
    }
    preparation, _ = prepare(columns, inputs=recipe["inputs"], objectives=[wrong])
    with pytest.raises(
        RecipeError, match=r"objectives\.0\.predicted_inputs: 'in_category' is not an input of this objective"
    ):
        network_of(preparation)
