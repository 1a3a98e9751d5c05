"""GenerationConfig: each option changes the generated texts, and conflicting options are rejected."""

from __future__ import annotations

from typing import Any

import pytest

from generation.table_state import TOKENIZER, Table, random_table
from polymodal.core.errors import RecipeError
from polymodal.generation.config import GenerationConfig, override_config
from polymodal.generation.generate import generate

DRAW = {"temperature": 1.0}
#: For each option: the options around it, and two values of it that must not give the same.
CASES: dict[str, tuple[dict[str, Any], Any, Any]] = {
    "max_new_tokens": ({}, 3, 5),
    "num_beams": ({}, 1, 8),
    "length_penalty": ({"num_beams": 8}, 0.0, 3.0),
    "temperature": ({}, 0.0, 1.0),
    "top_k": (DRAW, 2, 200),
    "top_p": (DRAW, 0.1, 1.0),
    "min_p": (DRAW, 0.9, 0.01),
    "repetition_penalty": ({}, 1.0, 2.0),
    "stop_strings": ({}, [], ["a", "e", "i", "x", " "]),
    "num_return_sequences": (DRAW, 1, 3),
    "seed": (DRAW, 0, 1),
    "choices": ({}, ["ab"], ["cd", "ef"]),
    "regex": ({}, "[ab]{5}", "[0-9]{3}"),
    "json_schema": ({}, {"type": "integer"}, {"type": "boolean"}),
}


def test_every_option_changes_the_generated_texts() -> None:
    assert set(CASES) == set(GenerationConfig.model_fields)
    table = random_table(4, 24, seed=0)
    padded = table.new_full((4, TOKENIZER.vocab_size + 1, TOKENIZER.vocab_size + 1, TOKENIZER.vocab_size), -9.0)
    known = [*range(64, 88), TOKENIZER.vocab_size]  # letters
    for first, i in enumerate(known):
        for second, j in enumerate(known):
            padded[:, i, j, 64:88] = table[:, first, second]
            padded[:, i, j, TOKENIZER.eos_id] = 1.0
    for name, (around, *values) in CASES.items():
        texts = []
        for value in values:
            config = GenerationConfig(**around, **{name: value})
            found = generate(Table(padded), 4, config, TOKENIZER, config.max_new_tokens or 8)
            texts.append([[one.text for one in row] for row in found])
        assert texts[0] != texts[1], name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 5}, "top_k requires sampling"),
        ({"min_p": 0.5}, "min_p requires sampling"),
        ({"num_beams": 2, "temperature": 0.5}, "beam search does not sample"),
        ({"num_return_sequences": 2}, "num_return_sequences exceeds num_beams"),
        ({"num_return_sequences": 5, "num_beams": 4}, "num_return_sequences exceeds num_beams"),
        ({"length_penalty": 2.0}, "length_penalty requires beam search"),
        ({"choices": []}, "choices is empty"),
        ({"choices": ["a"], "regex": "b"}, "choices, regex and json_schema exclude"),
        ({"regex": "b", "stop_strings": ["x"]}, "stop_strings cannot be combined"),
        ({"stop_strings": [""]}, r"stop_strings\.0: "),
        ({"stop_strings": "x"}, "stop_strings: "),
        ({"max_new_tokens": 0}, "max_new_tokens: "),
        ({"temperature": -1}, "temperature: "),
        ({"top_p": 0, **DRAW}, "top_p: "),
        ({"top_p": 1.5, **DRAW}, "top_p: "),
        ({"repetition_penalty": 0}, "repetition_penalty: "),
        ({"num_beams": 0}, "num_beams: "),
        ({"seed": -1}, "seed: "),
        ({"num_beems": 3}, r"num_beems: there is no such key; did you mean 'num_beams'\?"),
        ({"json_schema": "x"}, "json_schema: "),
    ],
)
def test_conflicting_options_are_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as raised:
        override_config(GenerationConfig(), options, "outputs.caption.task.generation")
    assert raised.value.path.startswith("outputs.caption.task.generation")


def test_changes_are_on_top_of_the_recipe() -> None:
    own = GenerationConfig(num_beams=4, length_penalty=2.0)
    assert override_config(own, {"num_beams": 2}, "") == GenerationConfig(num_beams=2, length_penalty=2.0)
    assert own.num_beams == 4
