"""Baselines learn from frozen features, only from the rows of the other folds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from laws.checkpoints import checkpoint
from laws.samples import INPUTS
from polymodal.core.progress import Progress
from polymodal.datasets.planted import make_mixed, make_planted_images, make_planted_table, make_planted_text
from polymodal.experiments.arguments import as_recipe, as_table
from polymodal.experiments.plan import make_plan
from polymodal.tuning.baseline_data import BaselineData
from polymodal.tuning.baseline_models import fit_predict
from polymodal.tuning.baselines import run_baselines
from polymodal.tuning.features import FrozenFeatures
from polymodal.tuning.folds import Folds
from polymodal.tuning.frozen_baselines import FrozenFeatureBaselines
from tuning.planted import numbers, vector

QUIET = Progress(False)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path / "cache"))


def folds_of(data: dict[str, Any], target: str, *settings: str, recipe: Any = None, folds: int = 3) -> Folds:
    table = as_table(data, None)
    assert table is not None
    plan = make_plan(table, as_recipe(recipe, ["evaluation.bootstrap_samples=20", *settings]), [target])
    return Folds(table, plan.recipe, folds)


def scores(folds: Folds) -> dict[str, float]:
    return {one.name: one.score for one in run_baselines(folds, progress=QUIET)}


def test_all_inputs_are_better_than_each_if_both_are_needed() -> None:
    found = scores(folds_of(make_planted_table(150, 0), "grade", "data.ignore_columns=[price]"))
    assert set(found) == {
        "constant",
        *(
            f"{learner}: {inputs}"
            for learner in ("linear", "ridge", "trees")
            for inputs in ("numbers", "maker", "numbers + maker")
        ),
    }
    assert found["linear: numbers + maker"] > max(found["linear: numbers"], found["linear: maker"], found["constant"])
    assert found["trees: numbers"] > found["constant"] + 0.2


def test_numbers_are_predicted_in_the_users_units() -> None:
    folds = folds_of(make_planted_table(150, 0), "price", "data.ignore_columns=[grade]")
    found = {one.name: one for one in run_baselines(folds, progress=QUIET)}
    assert found["linear: numbers"].score > -1.5, "the noise has a deviation of 1, the price one of 38"
    assert found["constant"].score < -30
    assert found["linear: numbers"].metrics["price"]["rmse"]["value"] == pytest.approx(-found["linear: numbers"].score)


def test_labels_are_predicted_one_by_one() -> None:
    draw = np.random.default_rng(0)
    bits = draw.integers(0, 2, (2, 120))
    inputs = {"x": np.concatenate([vector(bit, 0.5, draw) for bit in bits], axis=1)}
    labels = [[name for name, bit in zip("pq", row, strict=True) if bit] for row in bits.T]
    folds = numbers(inputs, labels)
    assert folds.tasks["target"].space == "binary"
    found = scores(folds)
    assert found["linear: x"] > 0.95
    assert found["trees: x"] > 0.9


def test_texts_and_pictures_have_features_without_a_checkpoint() -> None:
    assert scores(folds_of(make_planted_text(90, 0), "topic"))["linear: text"] > 0.9
    shapes = folds_of(make_planted_images(90, 0), "color", "data.ignore_columns=[shape]")
    assert scores(shapes)["linear: image"] > 0.9


def test_a_pretrained_input_has_the_summaries_of_its_checkpoint() -> None:
    words = ["amber", "birch", "cloud", "drift"]
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(words, 3).tolist()) for _ in range(40)]
    data = {"text": [None, *texts[1:]], "target": draw.choice(["p", "q"], 40).tolist()}
    encoder = {"name": "pretrained_text", "checkpoint": checkpoint("text")}
    recipe = {"inputs": {"text": {"columns": ["text"], "modality": "text", "encoder": encoder}}}
    features = FrozenFeatures(folds_of(data, "target", recipe=recipe), progress=QUIET)
    matrix = features.matrix("text", 0)
    assert matrix.shape == (40, 16 + 1)
    assert matrix.dtype == np.float32
    assert matrix[:, -1].tolist() == [0.0] + [1.0] * 39
    assert not matrix[0].any()
    same = [row for row in range(1, 40) if texts[row] == texts[1]]
    assert all((matrix[row] == matrix[1]).all() for row in same)
    assert np.unique(matrix[1:], axis=0).shape[0] == len(set(texts[1:]))


def test_rows_of_the_fold_are_not_used_for_training() -> None:
    """Other cells and targets in the rows of a fold do not change the baseline predictions of an unchanged row."""
    data = make_mixed(90, 0)
    folds = folds_of(data, "answer")
    rows = folds.splits[0]["test"].rows
    first = {one.name: one.distributions["answer"] for one in run_baselines(folds, progress=QUIET)}
    changed = {name: list(column) for name, column in data.items()}
    for row in rows[1:]:
        changed["question"][row] = "quite another text with unheard words"
        changed["score"][row], changed["mode"][row], changed["image"][row] = 1e4, "lenient", None
    table = as_table(changed, None)
    assert table is not None
    folds.table = table
    second = {one.name: one.distributions["answer"] for one in run_baselines(folds, progress=QUIET)}
    for name, distribution in first.items():
        np.testing.assert_allclose(second[name][rows[0]], distribution[rows[0]], atol=1e-5, err_msg=name)


def test_rows_without_a_target_are_skipped() -> None:
    data = make_planted_table(120, 0)
    grades = [None if row % 5 == 0 else grade for row, grade in enumerate(data["grade"])]
    folds = folds_of({**data, "grade": grades}, "grade", "data.ignore_columns=[price]")
    for one in run_baselines(folds, progress=QUIET):
        assert np.isfinite(one.distributions["grade"]).all()
        assert np.isfinite(one.score)


def test_weights_count_as_repeated_rows() -> None:
    draw = np.random.default_rng(0)
    matrix = np.column_stack([draw.normal(size=(60, 3)), np.ones(60)]).astype(np.float32)
    truth = (matrix[:, :3] @ [1.0, -2.0, 0.5])[:, None] + draw.normal(size=(60, 1))
    weight = draw.integers(1, 4, 60)
    groups = np.repeat(np.arange(60), weight)
    weighted = fit_predict(
        "linear", [matrix], [matrix], BaselineData("real", 1, truth, weight.astype(float), np.arange(60), 0)
    )
    repeated = np.repeat(matrix, weight, axis=0)
    repeated_data = BaselineData("real", 1, np.repeat(truth, weight, axis=0), np.ones(len(groups)), groups, 0)
    again = fit_predict("linear", [repeated], [matrix], repeated_data)
    np.testing.assert_allclose(weighted.predictions, again.predictions, atol=0.15)


def test_a_class_of_few_rows_is_aligned_to_the_whole_table() -> None:
    data = make_planted_table(90, 0)
    grades = ["rare" if row == 7 else grade for row, grade in enumerate(data["grade"])]
    folds = folds_of({**data, "grade": grades}, "grade", "data.ignore_columns=[price]")
    rare = folds.tasks["grade"].classes.index("rare")
    for one in run_baselines(folds, progress=QUIET):
        decided = one.distributions["grade"]
        np.testing.assert_allclose(decided.sum(1), 1, atol=1e-6)
        assert (decided[folds.fold_of == folds.fold_of[7], rare] == 0).all(), "its only row was not learned from"


def test_event_detection_is_skipped_with_a_note() -> None:
    draw = np.random.default_rng(0)
    data = {
        "x": draw.normal(size=60).tolist(),
        "target": [[{"start": 0.0, "end": 0.5 + (row % 3) / 4, "label": "tone"}] for row in range(60)],
    }
    folds = folds_of(data, "target", recipe={"inputs": {"x": "number"}, "outputs": {"target": "event_detection"}})
    models = FrozenFeatureBaselines(folds, progress=QUIET)
    assert models.outputs == []
    assert "several predictions per row, so its only baseline is the constant prediction" in models.notes[0]
    assert run_baselines(folds, progress=QUIET, models=models)[0].name == "constant"


@pytest.mark.parametrize("modality", ["audio", "video", "time_series", "image"])
def test_statistics_of_media_do_not_depend_on_other_items(modality: str) -> None:
    """Padding to longer items changes nothing, a missing item is all 0, and equal items are equal rows."""
    draw = np.random.default_rng(0)
    rows = 24
    column, cells = next(iter(INPUTS[modality](rows, draw).items()))
    cells = [None, *cells[1:]]
    target = draw.choice(["p", "q"], rows).tolist()
    recipe = {"inputs": {column: {"columns": [column], "modality": modality}}}
    features = FrozenFeatures(folds_of({column: cells, "target": target}, "target", recipe=recipe), progress=QUIET)
    values, present = features._fold_free[column].values, features._fold_free[column].present
    assert present.tolist() == [False] + [True] * (rows - 1)
    assert np.isfinite(values).all()
    assert np.unique(values[1:], axis=0).shape[0] > 3
    short = {column: [None, *cells[1:4], *cells[1:4]], "target": ["p", "q"] * 3 + ["p"]}
    folds = folds_of(short, "target", recipe=recipe, folds=2)
    few = FrozenFeatures(folds, progress=QUIET)._fold_free[column].values
    np.testing.assert_allclose(few[1:4], values[1:4], atol=1e-4)
    np.testing.assert_array_equal(few[4:], few[1:4])
    matrix = features.matrix(column, 0)
    assert not matrix[0].any()
    assert np.abs(matrix).max() <= 10
