"""Adversarial and unusual texts in text generation: control tokens in cells, empty, very long and odd texts."""

from __future__ import annotations

from typing import Any

import pytest

import polymodal
from laws.lm_checkpoints import language_model
from laws.seq2seq_checkpoints import KINDS, seq2seq_checkpoint
from polymodal.core.errors import DataError, RecipeError
from polymodal.data.table.cell_errors import BadCellsWarning
from polymodal.generation.tokenizer import SPECIAL_TOKENS, TextTokenizer
from polymodal.model.model import Model

#: Whisper's tokenizer is read by its own decoder, which takes no texts of users.
CHECKPOINTS = [(language_model, kind) for kind in ("llama", "gpt2")]
CHECKPOINTS += [(seq2seq_checkpoint, kind) for kind in KINDS if kind != "whisper"]
CONTROL = [
    *SPECIAL_TOKENS,
    "<s>",
    "</s>",
    "<pad>",
    "<bos>",
    "<eos>",
    "<end_of_turn>",
    "<start_of_turn>",
    "<|endoftext|>",
]


@pytest.mark.parametrize(("make", "kind"), CHECKPOINTS, ids=[kind for _, kind in CHECKPOINTS])
def test_no_text_spells_a_control_token_of_a_checkpoint(make: Any, kind: str) -> None:
    tokenizer = TextTokenizer.from_checkpoint(make(kind))
    names = [token.content for token in tokenizer.backend.get_added_tokens_decoder().values() if token.special]
    assert names
    assert tokenizer.eos_id in tokenizer.control_ids
    for text in ("a red ball", *CONTROL, *names, " ".join(["a ball", *CONTROL, *names, "two"]), "".join(names)):
        (ids,) = tokenizer.encode([text])
        assert tokenizer.control_ids.isdisjoint(ids), text
    for name in names:  # an ordinary word around it keeps its tokens
        (word,), (both,) = tokenizer.encode(["a red ball"]), tokenizer.encode([f"a red ball {name}"])
        assert both[: len(word)] == word
    again = TextTokenizer.load(tokenizer.backend.to_str(), tokenizer.save())
    assert again.encode(names) == tokenizer.encode(names)


@pytest.fixture(scope="module")
def model() -> Model:
    """Questions and answers are full of control tokens."""
    evil = " ".join(CONTROL)
    rows = [{"question": name, "before": [name, evil], "answer": f"{name} it is"} for name in CONTROL * 3]
    task = {"name": "text_generation", "system": "[end] {question}", "history": "before", "instruction": "{question}"}
    recipe = {
        "inputs": {},
        "outputs": {"answer": {"task": {**task, "max_prompt_length": 1_000}}},
        "hidden_size": 16,
        "training": {"epochs": 1, "batch_size": 32, "precision": "fp32", "num_threads": 1},
        "evaluation": {"bootstrap_samples": 5},
    }
    return polymodal.fit(rows, recipe=recipe)


def test_a_table_full_of_control_tokens_trains_and_predicts(model: Model) -> None:
    assert model.run.cell_errors.count == 0
    asked = [{"question": name, "before": None} for name in CONTROL]
    assert all(isinstance(answer, str) for answer in model.predict(asked))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"question": "a " * 100_000, "before": None}, "tokens; the maximum is 1000"),
        ({"question": "a", "before": "not a list"}, "list of messages"),
        ({"question": "a", "before": '[{"role": "root", "content": "x"}]'}, "'root'"),
    ],
    ids=["endless", "no list", "no role"],
)
def test_a_conversation_that_cannot_be_used_has_no_answer(model: Model, row: dict[str, Any], problem: str) -> None:
    with pytest.warns(BadCellsWarning, match=problem):
        assert model.predict(row) == [None]
    with pytest.warns(BadCellsWarning, match=problem):
        assert model.generate(row) == [[]]
    with pytest.raises(DataError, match=problem):
        model.predict(row, strict=True)


def test_odd_texts_get_a_prediction(model: Model) -> None:
    odd = ["", " ", "\0", "\u200f\u202e", "\U0001f468\u200d\U0001f469", "e\u0301" * 20, "\n\n\n", "ｆｕｌｌ"]
    assert len(model.predict([{"question": text, "before": [text]} for text in odd])) == len(odd)


def test_unknown_generation_options_raise_an_error_with_the_nearest_name(model: Model) -> None:
    row = {"question": "a", "before": None}
    with pytest.raises(RecipeError, match="num_beams"):
        model.generate(row, beam=3)
    with pytest.raises(RecipeError, match="temperature"):
        model.generate(row, top_k=3)
    with pytest.raises(RecipeError, match="answer"):
        model.generate(row, output="anser")
