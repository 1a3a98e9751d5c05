"""Models that write texts, from table to directory and back, beside everything that is built on models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import polymodal
from polymodal.applications.compression import compress
from polymodal.core.errors import RecipeError
from polymodal.model.ensemble import ensemble
from polymodal.model.model import Model
from polymodal.tuning.tune import tune
from polymodal.workflows.model_comparison import compare

COLOURS, ANIMALS = ["red", "green", "blue", "white"], ["dog", "cat", "bird"]
QUICK = {"epochs": 6, "batch_size": 16, "num_threads": 1, "precision": "fp32", "modality_dropout": 0}


def table(rows: int = 240, seed: int = 0) -> dict[str, list[Any]]:
    """A text says the colour and a category the animal: a caption needs both."""
    draw = np.random.default_rng(seed)
    colour, animal = draw.integers(0, 4, rows), draw.integers(0, 3, rows)
    return {
        "hint": [f"the colour here is number {number}" for number in colour],
        "kind": [f"k{number}" for number in animal],
        "caption": [f"a {COLOURS[c]} {ANIMALS[a]} is running" for c, a in zip(colour, animal, strict=True)],
    }


def recipe(**more: Any) -> dict[str, Any]:
    base = {
        "inputs": {"hint": "text", "kind": "category"},
        "outputs": {"caption": "text_generation"},
        "hidden_size": 32,
    }
    return base | {"training": QUICK, "evaluation": {"unimodal_scores": "none", "bootstrap_samples": 50}} | more


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    longer = recipe(fusion="concat", training={**QUICK, "epochs": 20, "learning_rate": 0.005})
    return polymodal.fit(table(), "caption", recipe=longer, out=tmp_path_factory.mktemp("run") / "model")


def test_captions_that_need_both_inputs_are_written(model: Model) -> None:
    rows = table(60, seed=1)
    written = model.predict({"hint": rows["hint"], "kind": rows["kind"]})
    right = np.mean([text == truth for text, truth in zip(written, rows["caption"], strict=True)])
    assert right >= 0.9
    assert model.evaluate(rows)["caption"]["exact_match"]["value"] == pytest.approx(right)


def test_the_constant_text_is_the_floor(model: Model) -> None:
    score = model.metrics["test"]["caption"]["exact_match"]
    assert 0 < score["baseline"] < 0.3 < score["value"]


def test_a_saved_model_writes_the_same(model: Model, tmp_path: Path) -> None:
    rows = table(20, seed=2)
    again = Model.load(model.save(tmp_path / "again"))
    assert again.generate(rows) == model.generate(rows)
    assert again.predict(rows) == model.predict(rows) == [texts[0].text for texts in model.generate(rows)]


def test_draws_depend_on_the_row_and_not_on_its_block() -> None:
    task = {"name": "text_generation", "generation": {"temperature": 1.0, "max_new_tokens": 4}}
    made = polymodal.fit(table(40), recipe=recipe(outputs={"caption": {"task": task}}, training={**QUICK, "epochs": 1}))
    many = {"hint": ["the colour here is number 1"] * 1_100, "kind": ["k1"] * 1_100}  # more than one block
    written = made.predict(many)
    assert written == [texts[0].text for texts in made.generate(many)]
    assert written[1_024:] != written[: 1_100 - 1_024]


def test_a_row_may_lack_any_input(model: Model) -> None:
    written = model.predict([{"hint": None, "kind": "k1"}, {"hint": "the colour here is number 2", "kind": None}])
    assert all(isinstance(text, str) for text in written)


@pytest.mark.parametrize("fusion", ["late", "hybrid", "quality", "concat"])
def test_every_level_of_fusion_writes(fusion: str) -> None:
    made = polymodal.fit(table(48), "caption", recipe=recipe(fusion=fusion, training={**QUICK, "epochs": 1}))
    assert all(len(texts) == 1 for texts in made.generate(table(5)))


def test_a_text_alone_makes_a_language_model() -> None:
    texts = {"caption": table(200)["caption"]}
    longer = {**QUICK, "epochs": 20, "learning_rate": 0.005}
    made = polymodal.fit(texts, "caption", recipe=recipe(inputs={}, training=longer))
    assert not made.recipe.inputs
    chance = made.tasks["caption"].baseline_loss()
    assert made.run.history[-1].validation_loss["caption"] < 0.5 * chance
    assert made.generate({"row": [1, 2]})[0][0].text in set(texts["caption"])


def test_no_epoch_leaves_the_network_as_it_was_made() -> None:
    made = polymodal.fit(table(40), "caption", recipe=recipe(training={**QUICK, "epochs": 0}))
    assert made.run.steps == 0
    assert made.metrics["test"]["caption"]["exact_match"]["value"] == 0


def test_models_that_write_are_cross_validated_compared_and_compressed(model: Model) -> None:
    folds = polymodal.cross_validate(table(60), "caption", recipe=recipe(training={**QUICK, "epochs": 1}), folds=2)
    assert set(folds.scores["caption"]) == {"token_f1", "exact_match"}
    weak = polymodal.fit(table(60), "caption", recipe=recipe(training={**QUICK, "epochs": 0}))
    found = compare(model, weak, table(60, seed=3))["caption"]["token_f1"]
    assert found["low"] > 0
    assert compress(model, table(30, seed=4)).to_dict()["metric"] == "token_f1"


def test_epochs_are_compared_by_what_is_written_where_the_task_says_so() -> None:
    task = {"name": "text_generation", "select_best_by": "metric", "metrics": ["exact_match"]}
    made = polymodal.fit(table(60), "caption", recipe=recipe(outputs={"caption": {"task": task}}))
    history = made.run.history
    assert all({"caption.exact_match", "caption.perplexity"} == set(epoch.validation) for epoch in history)
    best = max(epoch.validation["caption.exact_match"] for epoch in history)
    assert next(epoch for epoch in reversed(history) if epoch.best).validation["caption.exact_match"] == best


def test_robustness_of_texts(model: Model) -> None:
    found = model.robustness(table(30, seed=5))["caption"]
    assert found.model_dump()


def test_what_has_no_meaning_for_texts_is_refused_by_name(model: Model, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"outputs\.caption: ensembles do not support text outputs"):
        ensemble([model, model])
    with pytest.raises(RecipeError, match=r"outputs\.caption\.task: a search does not support texts"):
        tune(table(30), "caption", recipe=recipe(), out=tmp_path / "search")
    folder = model.save(tmp_path / "teacher")
    taught = {**QUICK, "distillation": {"teacher": str(folder)}}
    with pytest.raises(
        RecipeError, match=r"training\.distillation\.teacher: distillation does not support the text output caption"
    ):
        polymodal.fit(table(30), "caption", recipe=recipe(training=taught))
    inputs = {"hint": "text", "kind": {"modality": "category", "privileged": True}}
    with pytest.raises(RecipeError, match=r"inputs\.kind\.privileged"):
        polymodal.fit(table(30), "caption", recipe=recipe(inputs=inputs))
    with pytest.raises(RecipeError, match=r"outputs\.caption\.decoder: 'mlp' does not generate texts.*transformer"):
        polymodal.fit(
            table(30), "caption", recipe=recipe(outputs={"caption": {"task": "text_generation", "decoder": "mlp"}})
        )
    with pytest.raises(RecipeError, match=r"outputs\.kind\.decoder: 'transformer' generates texts"):
        polymodal.fit(table(30), recipe={"outputs": {"kind": {"task": "classification", "decoder": "transformer"}}})
    with pytest.raises(RecipeError, match=r"outputs\.caption\.task\.generation\.beems.*'num_beams'"):
        model.generate(table(2), beems=2)
    with pytest.raises(RecipeError, match="has no such text output"):
        model.generate(table(2), output="captoin")


@pytest.mark.parametrize(
    ("writing", "problem"),
    [
        ({"regex": "(a"}, r"outputs\.caption\.task\.generation\.regex: "),
        ({"regex": "a{200}", "max_new_tokens": 3}, r"outputs\.caption\.task\.generation\.regex: .*max_new_tokens"),
        ({"json_schema": {"type": "nothing"}}, r"outputs\.caption\.task\.generation\.json_schema: "),
    ],
)
def test_what_no_text_can_meet_is_told_before_training(writing: dict[str, Any], problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        polymodal.fit(
            table(30), recipe=recipe(outputs={"caption": {"task": {"name": "text_generation", "generation": writing}}})
        )
