"""Unimodal candidates: networks of one input, words in addition to a checkpoint, ridge, and their ensemble."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from laws.checkpoints import checkpoint
from polymodal.core.paths import scratch_folder
from polymodal.core.progress import Progress
from polymodal.data.table.table import open_table
from polymodal.experiments.plan import make_plan
from polymodal.recipe.recipe import Recipe
from polymodal.tuning.baseline_data import BaselineData
from polymodal.tuning.baseline_models import fit_predict
from polymodal.tuning.baselines import baseline_inputs, run_baselines
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.folds import Folds
from polymodal.tuning.trial import TrialRunner, run_trial
from polymodal.tuning.unimodal import best_unimodal, run_unimodal

ROWS = 90
TRAINING = {"epochs": 3, "batch_size": 16, "precision": "fp32", "num_threads": 1}


def folds(folder: Path) -> Folds:
    """A number that predicts the class well, and a text with one word that predicts it."""
    draw = np.random.default_rng(3)
    label = draw.integers(0, 2, ROWS)
    words = np.where(draw.random(ROWS) < 0.8, np.where(label, "amber", "birch"), "cloud")
    columns = {
        "x": (label * 1.5 + draw.normal(size=ROWS)).tolist(),
        "text": [f"{word} drift {draw.choice(['frost', 'grove', 'haze'])}" for word in words],
        "y": np.where(label, "yes", "no").tolist(),
    }
    table = open_table(columns, cache=folder / "tables")
    inputs = {"x": "number", "text": {"encoder": {"name": "pretrained_text", "checkpoint": checkpoint("text")}}}
    recipe = Recipe(inputs=inputs, hidden_size=16, training=TRAINING, evaluation={"bootstrap_samples": 20})
    return Folds(table, make_plan(table, recipe, ["y"]).recipe, 3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Folds:
    return folds(tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def baselines(made: Folds) -> dict[str, Candidate]:
    return {one.name: one for one in run_baselines(made, progress=Progress(False))}


def test_a_text_with_a_checkpoint_is_also_read_as_its_words(baselines: dict[str, Candidate]) -> None:
    """A checkpoint with random weights tells little; the words tell all there is."""
    assert baselines["ridge: words of text"].score > 0.8
    assert {"linear: text", "ridge: text", "trees: text", "ridge: x + text"} <= set(baselines)
    assert baseline_inputs("ridge: words of text") == ["text"]
    assert baseline_inputs("linear: x + text") == ["x", "text"]
    assert baseline_inputs("constant") == []


def test_networks_of_one_input_are_run_once_and_the_best_of_each_input_is_a_yardstick(
    made: Folds, baselines: dict[str, Candidate], tmp_path: Path
) -> None:
    said: list[str] = []
    with scratch_folder() as place:
        bench = TrialRunner(made, place)
        settings = [made.recipe.model_copy(update={"hidden_size": width}) for width in (16, 32)]
        trials = [run_trial(bench, one, f"trial {n}", lambda _: None) for n, one in enumerate(settings)]
        first = run_unimodal(trials, bench, tmp_path / "unimodal", deadline=None, log=said.append)
        again = run_unimodal(
            trials, bench, tmp_path / "unimodal", deadline=None, log=lambda _: pytest.fail("ran twice")
        )
        late = run_unimodal(trials, bench, tmp_path / "late", deadline=0.0, log=said.append)
    networks = {f"network {n}: {name}" for n in (1, 2) for name in ("x", "text")}
    assert {one.name for one in first} == {*networks, "adapters 1: text", "adapters 2: text"}
    adapted = next(one for one in first if one.name == "adapters 1: text")
    assert (adapted.recipe or {})["inputs"]["text"]["encoder"]["fine_tuning"] == "lora"
    assert all(one.kind == "unimodal" and len((one.recipe or {})["inputs"]) == 1 for one in first)
    assert [one.score for one in again] == [one.score for one in first]
    assert late == []
    best = {one.name: one for one in best_unimodal([*baselines.values(), *first], made)}
    assert set(best) == {"best of: x", "best of: text"}
    every = [*baselines.values(), *first]
    for name in ("x", "text"):
        own = [one.score for one in every if one.name.split(": ")[-1] in (name, f"words of {name}")]
        assert best[f"best of: {name}"].score >= max(own)


@pytest.mark.parametrize("space", ["categorical", "binary"])
def test_ridge_learns_classes_and_labels_with_calibrated_probabilities(space: str) -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(600, 40)).astype(np.float32)
    score = x[:, :3] @ np.array([[1.5, 0, 0], [0, 1.5, 0], [0, 0, 1.5]])
    if space == "categorical":
        truth = (score + draw.gumbel(size=score.shape)).argmax(1)
    else:
        truth = (score + draw.logistic(size=score.shape) > 0).astype(np.int64)
    flagged = np.column_stack([x, np.ones(600, np.float32)])
    lesson = BaselineData(space, 3, truth[:400], np.ones(400), None, 0)  # type: ignore[arg-type]
    answer = fit_predict("ridge", [flagged[:400]], [flagged[400:]], lesson)
    other = fit_predict("linear", [flagged[:400]], [flagged[400:]], lesson)
    assert answer.inner_score > 0.1
    if space == "categorical":
        np.testing.assert_allclose(answer.predictions.sum(1), 1)
        right = (answer.predictions.argmax(1) == truth[400:]).mean()
        assert right > (other.predictions.argmax(1) == truth[400:]).mean() - 0.05
        sure = answer.predictions.max(1)
        assert abs(sure.mean() - right) < 0.08
    else:
        assert ((answer.predictions > 0.5) == truth[400:]).mean() > 0.64


def test_ridge_gives_a_class_without_rows_no_probability() -> None:
    x = np.column_stack([np.random.default_rng(0).normal(size=(30, 4)), np.ones(30)]).astype(np.float32)
    truth = (x[:, 0] > 0).astype(np.int64)
    answer = fit_predict("ridge", [x], [x], BaselineData("categorical", 3, truth, np.ones(30), None, 0))
    assert (answer.predictions[:, 2] == 0).all()
