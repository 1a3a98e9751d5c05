"""Text generation: training, cell errors, generated texts, scores, and saving."""

from __future__ import annotations

import csv
import json
import math
import random
import warnings
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

import polymodal
from laws.lm_checkpoints import language_model
from laws.samples import prepare, table_of
from polymodal.checkpoint.output_file import OutputFile
from polymodal.core.errors import RecipeError
from polymodal.core.registry import components
from polymodal.data.table.cell_errors import BadCellsWarning, CellErrors
from polymodal.data.table.sample import ColumnSample
from polymodal.model.model import Model
from polymodal.model.prediction_files import write_predictions
from polymodal.preparation.preparation import Preparation
from polymodal.recipe.recipe import Recipe
from polymodal.tasks.text_generation import TextGenerationTask

COLORS = ["red", "green", "blue", "dark grey"]


def said(colour: str, question: str) -> str:
    return f"it is {colour}" if question == "what colour" else f"we have {colour}"


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        colour, question = draw.choice(COLORS), draw.choice(["what colour", "what"])
        found.append({"colour": colour, "question": question, "answer": said(colour, question)})
    return found


def recipe(**task: Any) -> dict[str, Any]:
    """The answer needs the prompt and the input."""
    options = {"name": "text_generation", "prompt": "{question}:", "max_prompt_length": 40, **task}
    return {
        "inputs": {"colour": "category"},
        "outputs": {"answer": {"task": options}},
        "hidden_size": 32,
        "training": {"epochs": 14, "batch_size": 16, "precision": "fp32", "num_threads": 1},
        "evaluation": {"bootstrap_samples": 20, "unimodal_scores": "none"},
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    """A model whose training rows have one answer that is too long, one that is no text, and one prompt too long."""
    table = rows(240)
    table[0]["answer"] = "it is " + "very " * 30 + "red"
    table[1]["question"] = "what " * 60
    table[2]["answer"] = ""
    folder = tmp_path_factory.mktemp("text") / "run"
    return polymodal.fit(table, recipe=recipe(max_target_length=20), test=rows(60, seed=1), out=folder), folder


def test_answers_follow_from_prompt_and_input(run: tuple[Model, Path]) -> None:
    model, _ = run
    scores = model.metrics["test"]["answer"]
    assert scores["exact_match"]["value"] >= 0.95
    assert scores["exact_match"]["baseline"] < 0.5
    assert [role.role for role in model.run.roles] == ["input", "prompt", "target"]
    written = model.generate({"colour": "blue", "question": "what"})[0][0]
    assert (written.text, written.finish_reason) == ("we have blue", "end")
    assert math.exp(written.log_probability / (len(written.tokens) + 1)) > 0.5


def test_truncated_answers_and_cell_errors_are_reported_after_fit_and_loading(run: tuple[Model, Path]) -> None:
    model, folder = run
    facts = json.loads((folder / "run.json").read_text())
    assert facts["task_notes"] == {"answer": ["targets of more than 20 tokens, which are truncated: 1"]}
    assert facts["task_notes"]["answer"][0] in (folder / "report.html").read_text()
    faults = [json.loads(line) for line in (folder / "cell_errors.jsonl").read_text().splitlines()]
    assert [(one["row"], one["column"]) for one in faults] == [(1, "question")]
    assert Model.load(folder).tasks["answer"].notes == model.tasks["answer"].notes  # type: ignore[attr-defined]


def test_a_saved_model_generates_the_same_texts(run: tuple[Model, Path]) -> None:
    model, folder = run
    asked = rows(20, seed=3)
    assert Model.load(folder).predict(asked) == model.predict(asked)


def test_the_report_shows_generated_texts_with_their_prompts(run: tuple[Model, Path]) -> None:
    report = (run[1] / "report.html").read_text()
    shown = report.split("Generated texts</h3>")[1].split("<h3>")[0]
    assert shown.count("<article>") == 6
    assert shown.count("<dt>question</dt>") == 6
    assert "correct" in shown
    card = (run[1] / "README.md").read_text()
    assert "texts of at most 20 tokens" in card
    assert "`generate`" in card
    assert "`predict_proba`" not in card


def test_a_prompt_that_is_too_long_gives_no_answer_in_any_output(run: tuple[Model, Path], tmp_path: Path) -> None:
    model, _ = run
    asked = [{"colour": "red", "question": "what " * 60}, {"colour": "red", "question": "what"}]
    with pytest.warns(BadCellsWarning, match="row 0, column 'question': the prompt has .* maximum is 40"):
        assert model.predict(asked) == [None, "we have red"]
    table = model.open(asked * 3)
    for suffix in (".csv", ".jsonl", ".parquet"):
        faults, path = CellErrors(), tmp_path / f"out{suffix}"
        assert write_predictions(model, table, faults, OutputFile(path), probabilities=False) == 6
        assert len(faults.errors) == 3
        if suffix == ".csv":
            with path.open(newline="") as file:
                found = [row["answer"] for row in csv.DictReader(file)]
            assert found == ["", "we have red"] * 3
        elif suffix == ".jsonl":
            assert [json.loads(line)["answer"] for line in path.open()] == [None, "we have red"] * 3
        else:
            assert pyarrow.parquet.read_table(path)["answer"].to_pylist() == [None, "we have red"] * 3


def test_no_answer_in_the_first_block_still_makes_a_column_of_texts(run: tuple[Model, Path], tmp_path: Path) -> None:
    model, _ = run
    none, some = {"colour": "red", "question": "what " * 60}, {"colour": "red", "question": "what"}
    count = 1_024  # rows of a block of predictions
    out = OutputFile(tmp_path / "out.parquet")
    write_predictions(model, model.open([none] * count + [some]), CellErrors(), out, probabilities=False)
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet")["answer"].to_pylist()[-2:] == [None, "we have red"]


def test_no_answer_is_scored_as_an_empty_text(run: tuple[Model, Path]) -> None:
    model, _ = run
    asked = [row for row in rows(40, seed=4) if row["question"] == "what"][:10]
    assert model.evaluate(asked)["answer"]["exact_match"]["value"] == 1
    asked[0] = {**asked[0], "question": "what " * 60}
    with pytest.warns(BadCellsWarning):
        scores = model.evaluate(asked)["answer"]
    assert scores["exact_match"]["value"] == pytest.approx(0.9)
    assert math.isfinite(scores["perplexity"]["value"])


def test_perplexity_is_that_of_the_generated_tokens(run: tuple[Model, Path]) -> None:
    """If the generated text is the target, the perplexity follows from the probabilities of its tokens."""
    model, _ = run
    asked = rows(12, seed=5)
    written = [one[0] for one in model.generate(asked)]
    right = [(row, one) for row, one in zip(asked, written, strict=True) if one.text == row["answer"]]
    nats = -sum(one.log_probability for _, one in right)
    tokens = sum(len(one.tokens) + 1 for _, one in right)
    score = model.evaluate([row for row, _ in right])["answer"]["perplexity"]
    assert score["value"] == pytest.approx(math.exp(nats / tokens), rel=1e-4)
    assert score["low"] <= score["value"] <= score["high"]
    assert score["baseline"] > score["value"]


def task_of(columns: dict[str, list[Any]], **options: Any) -> tuple[TextGenerationTask, Preparation, Any, CellErrors]:
    preparation, _ = prepare(columns, inputs={}, outputs={"answer": {"task": {"name": "text_generation", **options}}})
    faults = CellErrors()
    prepared = preparation.prepare(table_of(columns), faults, folder=None, cache=None)
    task = preparation.tasks["answer"]
    assert isinstance(task, TextGenerationTask)
    return task, preparation, prepared.targets["answer"], faults


def test_of_several_references_the_first_is_learned_and_all_are_truth() -> None:
    task, _, (value, present), faults = task_of({"answer": [["one"], ["two", "a pair"], None, ["", " "]] * 3})
    assert present.tolist() == [True, True, False, False] * 3
    assert task.tokenizer.decode([value[1].ids.tolist()]) == ["two"]
    assert value[1].ids[-1] == task.tokenizer.eos_id
    assert task.truth(value)[1] == ("two", "a pair")
    assert not faults.errors


def test_an_answer_that_is_no_text_is_a_cell_error() -> None:
    _, _, (_, present), faults = task_of({"answer": [b"one", b"two", b"\xff\xfe"]})
    assert present.tolist() == [True, True, False]
    assert [(one.row, one.column) for one in faults.errors] == [(2, "answer")]


def test_an_answer_without_tokens_is_a_cell_error_and_still_scored() -> None:
    """Single bytes: the first token of a text is the blank before it."""
    task, preparation, (value, present), faults = task_of(
        {"answer": ["one", "two"] * 4}, token_type="byte", max_target_length=1
    )
    assert present.all()
    assert [len(answer.ids) for answer in value] == [0] * 8
    assert len(faults.errors) == 8
    assert "max_target_length" in faults.errors[0].reason
    assert task.notes == preparation.tasks["answer"].notes != []  # type: ignore[attr-defined]


def test_control_tokens_in_answers_are_text() -> None:
    evil = "a [end] b [pad] </s> [begin] [user]"
    task, _, (value, _), _ = task_of({"answer": [evil, "x"] * 4})
    assert task.tokenizer.control_ids.isdisjoint(value[0].ids[:-1].tolist())
    assert task.tokenizer.decode([value[0].ids.tolist()]) == [evil]


def test_closed_answers_are_stored_once_and_hold_the_writing(run: tuple[Model, Path]) -> None:
    task, _, _, _ = task_of({"answer": ["two", "one", "two"] * 3}, answers="closed")
    assert task.generation_config.choices == ["one", "two"]
    again = TextGenerationTask(task.options, columns=["answer"])
    again._tokenizer = task.tokenizer.backend.to_str()
    again.load(json.loads(json.dumps(task.save())))
    assert again.generation_config == task.generation_config
    assert run[0].tasks["answer"].generation_config.choices is None  # type: ignore[attr-defined]


def test_tokens_of_a_saved_model_are_taken_over(run: tuple[Model, Path]) -> None:
    model, folder = run
    task, _, (value, _), _ = task_of({"answer": ["it is blue", "Жук"] * 3}, tokenizer=str(folder))
    own = model.tasks["answer"]
    assert isinstance(own, TextGenerationTask)
    assert task.tokenizer.vocab_size == own.tokenizer.vocab_size
    assert value[0].ids.tolist() == [*own.tokenizer.encode(["it is blue"])[0], own.tokenizer.eos_id]
    assert task.tokenizer.decode([value[1].ids.tolist()]) == ["Жук"]


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (["yes", "no"] * 20, "classification"),
        (["a red circle on the left", "no circle at all"] * 20, "classification"),
        ([f"a picture of {n} red balls" for n in range(40)], "text_generation"),
        ([f"Строка номер {n} из многих" for n in range(40)], "text_generation"),
        ([f"这是第{n}张红色的照片" for n in range(40)], "text_generation"),
        ([[f"one text number {n}", "another text"] for n in range(40)], "text_generation"),
        (["a|b", "b|c", "a"] * 20, "multilabel_classification"),
        ([f"p{chr(97 + n % 26)}{chr(97 + n // 26)}x" for n in range(40)], "text_generation"),  # nothing repeats
        ([f"p{n:04}" for n in range(40)], None),  # identifiers: the user must say what they are
        ([f"p{n % 30:04}" for n in range(40)], "classification"),
        ([["a", "b"], ["b"], ["c", "a"]] * 20, "multilabel_classification"),
        ([0.5 * n for n in range(40)], "regression"),
        ([n % 3 for n in range(40)], "classification"),
        ([{"start": 0.0, "end": 1.0, "label": "x"}] * 40, None),
    ],
)
def test_text_columns_are_inferred(column: list[Any], kind: str | None) -> None:
    sample = ColumnSample("target", column, None, len(column), len(column), 0, None)
    guesses = {name: component.match_column(sample) for name, component in components("task").items()}
    found = {name: guess.confidence for name, guess in guesses.items() if guess is not None}
    if kind is None:
        assert "text_generation" not in found
    else:
        assert max(found, key=lambda name: found[name]) == kind, found


@pytest.mark.parametrize(
    ("options", "path", "problem"),
    [
        ({"metrics": ["exact_mach"]}, "outputs.answer.task.metrics", "exact_match"),
        ({"metrics": ["fact_f1"]}, "outputs.answer.task.metrics", "function"),
        ({"metrics": []}, "outputs.answer.task.metrics", "at least 1"),
        ({"prompt": "{a}", "history": "b"}, "outputs.answer.task", "instruction"),
        ({"checkpoint": "x", "tokenizer": "y"}, "outputs.answer.task", "remove one"),
        ({"answers": "closed", "generation": {"regex": "a"}}, "outputs.answer.task", "generation.regex"),
        ({"prompt_overflow": "drop"}, "outputs.answer.task.prompt_overflow", "truncate"),
    ],
)
def test_invalid_options_are_rejected_when_the_recipe_is_read(options: dict[str, Any], path: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem) as caught:
        Recipe(outputs={"answer": {"task": {"name": "text_generation", **options}}})
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("options", "path", "problem"),
    [
        ({"prompt": "{qestion}"}, "outputs.answer.task", "question"),
        ({"prompt": "question"}, "outputs.answer.task.prompt", "braces"),
        ({"prompt": "{answer}"}, "outputs.answer.task", "must not use the target"),
        ({"system": "Be brief."}, "outputs.answer.task.system", "instruction"),
        ({"history": "bevore"}, "outputs.answer.task", "no column"),
        ({"tokenizer": "/nowhere"}, "outputs.answer.task.tokenizer", "not a model directory"),
        ({"answers": "closed", "max_target_length": 2}, "outputs.answer.task.max_target_length", "longest"),
    ],
)
def test_options_that_do_not_fit_the_table_are_rejected(options: dict[str, Any], path: str, problem: str) -> None:
    outputs = {"answer": {"task": {"name": "text_generation", **options}}}
    with pytest.raises(RecipeError, match=problem) as caught:
        polymodal.fit(rows(20), recipe={"inputs": {"colour": "category"}, "outputs": outputs})
    assert caught.value.path == path


def test_a_model_without_inputs_and_an_empty_prompt_write(run: tuple[Model, Path], tmp_path: Path) -> None:
    model, _ = run
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answers = model.predict([{"colour": None, "question": None}, {"colour": "", "question": ""}])
    assert all(isinstance(answer, str) for answer in answers)
    bare = {
        **recipe(),
        "inputs": {},
        "hidden_size": 16,
        "data": {"ignore_columns": ["colour"]},
        "training": {"epochs": 1},
    }
    language = polymodal.fit(rows(30), recipe=bare, out=tmp_path / "language")
    assert "From question." in (tmp_path / "language" / "report.html").read_text()
    assert "'question': 'some text'" in (tmp_path / "language" / "README.md").read_text()
    assert isinstance(language.predict([{"question": ""}])[0], str)


def pointed(count: int, seed: int) -> list[dict[str, Any]]:
    """The answer depends on the side that only the history names."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        side, colours = draw.choice(["left", "right"]), [draw.choice(COLORS) for _ in range(2)]
        before = [{"role": "user", "content": f"look {side}"}, {"role": "assistant", "content": "yes"}]
        row = dict(zip(["left", "right"], colours, strict=True))
        found.append({**row, "before": before, "ask": "and now ?", "answer": row[side]})
    return found


def test_without_its_history_a_conversation_is_guessed() -> None:
    def score(history: str | None) -> float:
        task = {"prompt": None, "instruction": "{ask}", "history": history, "metrics": ["exact_match"]}
        said = {**recipe(**task), "inputs": {"left": "category", "right": "category"}, "fusion": "concat"}
        said["training"] |= {"epochs": 14, "modality_dropout": 0}
        model = polymodal.fit(pointed(300, seed=0), recipe=said, test=pointed(80, seed=1))
        return float(model.metrics["test"]["answer"]["exact_match"]["value"])

    assert score("before") >= 0.95
    assert score(None) <= 0.8


def test_only_given_choices_are_generated() -> None:
    """An untrained model also generates nothing else."""
    table = rows(40)
    said = {**recipe(answers="closed"), "training": {**recipe()["training"], "epochs": 0}}
    model = polymodal.fit(table, recipe=said)
    known = {row["answer"] for row in table}
    asked = rows(30, seed=6)
    answers = model.predict(asked)
    assert set(answers) <= known
    freely = [texts[0].text for texts in model.generate(asked, choices=["only this"], max_new_tokens=20)]
    assert set(freely) == {"only this"}


def test_a_language_model_answers_a_conversation_by_its_template() -> None:
    """What ends a reply is the sign of the template, before and after saving."""
    table = [{"ask": f"a red ball {n % 3}", "answer": "two small dogs"} for n in range(12)]
    outputs = {
        "answer": {
            "task": {"name": "text_generation", "instruction": "{ask}", "max_prompt_length": 60},
            "decoder": {"name": "causal_lm", "checkpoint": language_model("llama")},
        }
    }
    said = {
        "inputs": {},
        "outputs": outputs,
        "hidden_size": 16,
        "training": {"epochs": 1, "precision": "fp32", "num_threads": 1},
    }
    model = polymodal.fit(table, recipe={**said, "evaluation": {"bootstrap_samples": 0}})
    task = model.tasks["answer"]
    assert isinstance(task, TextGenerationTask)
    assert task.tokenizer.backend.id_to_token(task.text_shape.eos_id) == "<end_of_turn>"
    again = TextGenerationTask(task.options, columns=["answer"])
    again._tokenizer = task.tokenizer.backend.to_str()
    again.load(json.loads(json.dumps(task.save())))
    assert again.text_shape == task.text_shape
    assert isinstance(model.predict({"ask": "</s> <eos>"})[0], str)


def test_a_prompt_leaves_room_for_the_answer_among_the_positions_of_a_checkpoint() -> None:
    """The tiny model has 128 positions: one for the begin token, and those of the longest answer, are kept free."""
    columns = {"ask": ["a red ball", "a " * 300], "answer": ["two small dogs", "the sea"]}
    task, _, (value, present), faults = task_of(
        {name: cells * 4 for name, cells in columns.items()}, prompt="{ask}", checkpoint=language_model("llama")
    )
    room = 128 - 1 - task.max_new_tokens
    assert task.text_shape.max_prompt_length == task.max_prompt_length == room
    assert {one.reason.split("; ")[1] for one in faults.errors} == {f"the maximum is {room}"}
    assert present.all()
    assert [len(answer.ids) == 0 for answer in value] == [False, True] * 4
