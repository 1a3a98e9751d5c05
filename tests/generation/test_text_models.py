"""Text models from rows to texts: neither the cache nor the batch changes the result."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import polymodal
from polymodal.core.errors import DataError, RecipeError
from polymodal.generation.config import GenerationConfig
from polymodal.model.model import Model
from polymodal.tasks.generative import generative_task
from polymodal.tasks.text_generation import TextGenerationTask

WORDS = ["red", "green", "blue", "dark", "pale", "round", "small"]


def rows(count: int) -> list[dict[str, Any]]:
    draw = random.Random(0)
    found = []
    for _ in range(count):
        words = draw.sample(WORDS, draw.randint(1, 4))
        found.append({"colour": words[0], "question": " ".join(words), "answer": "it is " + " and ".join(words)})
    return found


ROWS = rows(160)
RECIPE = {
    "inputs": {"colour": "category"},
    "outputs": {
        "answer": {
            "task": {"name": "text_generation", "prompt": "{question}:", "vocab_size": 300, "max_target_length": 40}
        }
    },
    "hidden_size": 32,
    "training": {"batch_size": 16, "precision": "fp32", "num_threads": 1},
    "evaluation": {"bootstrap_samples": 20, "unimodal_scores": "none"},
}


@pytest.fixture(scope="module")
def model() -> Model:
    return polymodal.fit(ROWS, "answer", recipe=RECIPE, settings=["training.epochs=6"])


@pytest.fixture(scope="module")
def untrained() -> Model:
    return polymodal.fit(ROWS[:40], "answer", recipe=RECIPE, settings=["training.epochs=0"])


def uncached(model: Model, row: dict[str, Any], steps: int) -> tuple[list[int], list[float]]:
    """Greedy decoding with only the loss: each step computes all tokens again and takes that with the lowest loss."""
    task = generative_task(model.tasks, "answer")
    (block,) = model.preparation.blocks(model.open(row), polymodal.data.table.cell_errors.CellErrors())
    prepared = model.preparation.prepare_block(block)
    batch = model.preparation.batch(prepared, np.arange(1))
    (decoder,) = model.network.all_decoders()
    (view,) = model.network.encode_and_fuse(batch)
    tokens: list[int] = []
    scores = []
    vocabulary = task.tokenizer.vocab_size
    many = type(view.tokens)(
        view.tokens.features.expand(vocabulary, -1, -1),
        view.tokens.mask.expand(vocabulary, -1),
        view.tokens.present.expand(vocabulary),
    )
    wide = type(view)(view.name, many, view.pooled.expand(vocabulary, -1), view.weight.expand(vocabulary))
    prompt = batch.prompts["answer"].expand(vocabulary, -1)
    before = 0.0
    while len(tokens) < steps:
        tried = torch.cat(
            [torch.tensor(tokens, dtype=torch.int64).expand(vocabulary, -1), torch.arange(vocabulary).unsqueeze(1)], 1
        )
        cost = decoder.target_nll(wide, prompt, tried)[:, 0]  # type: ignore[operator]
        best = int(cost.argmin())
        scores.append(before - float(cost[best]))
        before = float(cost[best])
        if best == task.tokenizer.eos_id:
            break
        tokens.append(best)
    return tokens, scores


def test_cached_writing_is_uncached_writing_to_the_token(model: Model) -> None:
    for row in ROWS[:2]:
        ((one,),) = model.generate([row], max_new_tokens=20)
        with torch.inference_mode():
            tokens, scores = uncached(model, row, 20)
        assert one.tokens == tokens
        assert one.token_log_probabilities == pytest.approx(scores, abs=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_beams": 3, "num_return_sequences": 2},
        {"temperature": 0.7, "num_return_sequences": 2},
        {"regex": "it is [a-z ]{5,30}"},
    ],
    ids=["greedy", "beams", "draws", "held"],
)
def test_a_batch_of_eight_is_eight_singles(model: Model, options: dict[str, Any]) -> None:
    together = model.generate(ROWS[:8], **options)
    config = GenerationConfig(**options)
    for number, row in enumerate(ROWS[:8]):
        (block,) = model.preparation.blocks(model.open([row]), polymodal.data.table.cell_errors.CellErrors())
        prepared = model.preparation.prepare_block(block)
        (alone,) = model.predictor.generate(prepared, "answer", config, row_numbers=np.array([number]))
        assert [one.tokens for one in alone] == [one.tokens for one in together[number]]


def test_predictions_are_the_greedy_texts_and_streams_too(model: Model) -> None:
    found = [texts[0].text for texts in model.generate(ROWS[:6])]
    assert model.predict(ROWS[:6]) == found
    for row, text in zip(ROWS[:3], found[:3], strict=True):
        pieces = list(model.stream_tokens(row))
        assert "".join(pieces) == text
        assert len(pieces) > 1


def test_a_stream_leaves_the_caller_as_it_was(model: Model) -> None:
    stream = model.stream_tokens(ROWS[0])
    next(stream)
    assert not torch.is_inference_mode_enabled()
    assert torch.ones(1, requires_grad=True).mul(2).requires_grad


def test_json_of_an_untrained_model_meets_its_schema(untrained: Model) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"type": "string"}, "parts": {"type": "array", "items": {"type": "integer"}}},
        "required": ["colour", "parts"],
        "additionalProperties": False,
    }
    for options in ({}, {"num_beams": 2}, {"temperature": 1.5, "num_return_sequences": 2}):
        for texts in untrained.generate(ROWS[:4], json_schema=schema, max_new_tokens=48, **options):
            for one in texts:
                read = json.loads(one.text)
                assert set(read) == {"colour", "parts"}
                assert isinstance(read["colour"], str)
                assert all(isinstance(part, int) for part in read["parts"])
    assert json.loads("".join(untrained.stream_tokens(ROWS[0], json_schema=schema, max_new_tokens=48)))


def test_ten_thousand_tokens_are_generated(untrained: Model) -> None:
    """The decoder from scratch has no limit; an end that is never likely does not stop it early."""
    ((one,),) = untrained.generate([ROWS[0]], max_new_tokens=10_000, regex="[a-z]{300}", repetition_penalty=1.1)
    assert len(one.text) == 300
    assert one.finish_reason == "end"


def test_a_stop_of_the_recipe_holds_for_predictions(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    again = Model.load(tmp_path)
    task = again.tasks["answer"]
    assert isinstance(task, TextGenerationTask)
    task.options.generation = GenerationConfig(stop_strings=[" and"])
    stopped = again.predict(ROWS[:6])
    assert stopped == [text.split(" and")[0] for text in model.predict(ROWS[:6])]
    assert stopped != model.predict(ROWS[:6])


def test_errors_name_the_key_and_come_before_generation(model: Model) -> None:
    for options, message in (
        ({"regex": "("}, r"outputs\.answer\.task\.generation\.regex: unclosed group"),
        ({"json_schema": {"type": "x"}}, r"outputs\.answer\.task\.generation\.json_schema: Invalid type"),
        (
            {"choices": ["green and blue"], "max_new_tokens": 1},
            r"outputs\.answer\.task\.generation\.choices: the shortest",
        ),
        ({"num_beems": 3}, r"outputs\.answer\.task\.generation\.num_beems: .* did you mean 'num_beams'"),
    ):
        with pytest.raises(RecipeError, match=message):
            model.generate(ROWS[:2], **options)
        with pytest.raises(RecipeError, match=message):
            model.stream_tokens(ROWS[0], **options)
    with pytest.raises(DataError, match="streaming needs exactly one row, and the data has 2"):
        model.stream_tokens(ROWS[:2])
    with pytest.raises(RecipeError, match="streaming supports one sequence"):
        model.stream_tokens(ROWS[0], num_beams=2)


def test_an_empty_prompt_and_no_rows(model: Model) -> None:
    ((one,),) = model.generate([{"colour": "red", "question": ""}])
    assert one.text
    with pytest.raises(DataError, match="the table has no rows"):
        model.generate({"colour": [], "question": []})


def test_samples_do_not_depend_on_blocks(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row numbers are those of the table, whatever the size of the blocks."""

    def sample(seed: int) -> list[str]:
        return [texts[0].text for texts in model.generate(ROWS[:6], temperature=1.0, seed=seed)]

    whole = sample(0)
    monkeypatch.setattr("polymodal.model.text_generation.PREDICTION_BATCH_SIZE", 2)
    assert sample(0) == whole
    assert sample(1) != whole
