"""Streaming: the chunks of a text join to the whole text, and no chunk is revised."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from generation.table_state import TOKENIZER, Table
from generation.test_sampling_search import text_table
from polymodal.core.errors import RecipeError
from polymodal.generation.config import GenerationConfig
from polymodal.generation.generate import generate
from polymodal.generation.streaming import IncrementalDetokenizer, stream
from polymodal.generation.tokenizer import TextTokenizer


def pieces(
    table: torch.Tensor, config: GenerationConfig, tokenizer: TextTokenizer = TOKENIZER, steps: int = 60
) -> list[str]:
    found = list(stream(Table(table), config, tokenizer, steps))
    ((whole,),) = generate(Table(table), 1, config, tokenizer, steps)
    assert "".join(found) == whole.text
    assert all(found)
    return found


def test_chunks_come_one_by_one_with_whole_characters() -> None:
    found = pieces(text_table("a猫b дё c", TOKENIZER.vocab_size), GenerationConfig())
    assert found == ["a", "猫", "b", " д", "ё", " c"]


def test_what_may_be_a_stop_is_held_back() -> None:
    assert pieces(text_table("ab<-cd<=ef", TOKENIZER.vocab_size), GenerationConfig(stop_strings=["<="])) == [
        "a",
        "b",
        "<-",
        "c",
        "d",
    ]
    assert pieces(text_table("ab<", TOKENIZER.vocab_size), GenerationConfig(stop_strings=["<="])) == ["a", "b", "<"]
    assert pieces(text_table("abcd", TOKENIZER.vocab_size), GenerationConfig(stop_strings=["bc", "cx"])) == ["a"]


def test_a_text_that_ends_inside_a_character_is_streamed_as_generated() -> None:
    for steps in range(1, 12):
        pieces(text_table("a猫b дё", TOKENIZER.vocab_size), GenerationConfig(), steps=steps)


def test_samples_are_streamed_as_generated() -> None:
    table = torch.randn(
        1, 1, TOKENIZER.vocab_size + 1, TOKENIZER.vocab_size, generator=torch.Generator().manual_seed(0)
    )
    table = table.expand(-1, TOKENIZER.vocab_size + 1, -1, -1)
    for seed in range(30):
        pieces(table, GenerationConfig(temperature=1.0, seed=seed, stop_strings=["x", "ab"]), steps=40)


def test_text_under_a_constraint_is_streamed() -> None:
    table = torch.zeros(1, TOKENIZER.vocab_size + 1, TOKENIZER.vocab_size + 1, TOKENIZER.vocab_size)
    assert "".join(pieces(table, GenerationConfig(regex="[0-9]{3}-ab"))).endswith("-ab")


def test_several_texts_are_not_streamed() -> None:
    table = text_table("ab", TOKENIZER.vocab_size)
    for options, key in (
        ({"num_beams": 2}, "num_beams"),
        ({"num_return_sequences": 2, "temperature": 1.0}, "num_return_sequences"),
    ):
        with pytest.raises(RecipeError, match=f"{key}: streaming supports one sequence"):
            stream(Table(table), GenerationConfig(**options), TOKENIZER, 5)


LEARNED = TextTokenizer.train(["the cat sat", "ёлка и кот", "猫が座った"] * 30, 340)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30))
def test_decoding_token_by_token_is_decoding_at_once(text: str) -> None:
    (tokens,) = LEARNED.encode([text])
    decoded, before = IncrementalDetokenizer(LEARNED), ""
    for token in tokens:
        now = decoded.append(token)
        assert now.startswith(before)
        before = now
    assert before == LEARNED.backend.decode(tokens)
