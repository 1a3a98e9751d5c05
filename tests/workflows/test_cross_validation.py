"""Cross-validation scores every row once, by a model that never saw it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polymodal.core.errors import DataError, PolymodalError, RecipeError
from polymodal.core.progress import Progress
from polymodal.data.partition import make_fold_splits
from polymodal.data.store.store import MediaStore
from polymodal.datasets.planted import make_exclusive_or, make_planted_images, make_planted_table
from polymodal.experiments.arguments import as_recipe, as_table
from polymodal.experiments.plan import make_plan
from polymodal.workflows.cross_validation import CrossValidation, _run_fold, cross_validate
from setting_lists import replaced

TINY = ["hidden_size=16", "training.num_threads=1", "training.precision=fp32", "evaluation.bootstrap_samples=100"]
TWO_INPUTS = {
    "inputs": {
        "a": {"columns": ["a0", "a1", "a2", "a3"], "modality": "number"},
        "b": {"columns": ["b0", "b1", "b2", "b3"], "modality": "number"},
    }
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path / "cache"))


def run(data: dict[str, Any], target: str, *settings: str, recipe: Any = None, **more: Any) -> CrossValidation:
    return cross_validate(data, target, recipe=recipe, settings=replaced(TINY, *settings), **more)


def test_the_full_model_beats_single_inputs_where_both_are_needed(tmp_path: Path) -> None:
    found = run(
        make_exclusive_or(240, seed=0),
        "target",
        "training.epochs=25",
        "training.learning_rate=0.02",
        recipe=TWO_INPUTS,
        folds=3,
        out=tmp_path / "cv",
    )
    accuracy = found.scores["target"]["accuracy"]
    assert accuracy["value"] > 0.9
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert all(alone < 0.65 for alone in accuracy["unimodal"].values())
    test = found.comparison["target"]["metrics"]["accuracy"]
    best = found.comparison["target"]["best_input"]
    assert test["difference"] == pytest.approx(accuracy["value"] - accuracy["unimodal"][best])
    assert test["low"] > 0
    assert test["p_value"] < 0.05
    assert test["mcnemar"] < 0.01
    assert json.loads((tmp_path / "cv" / "cross_validation.json").read_text()) == found.to_dict()


def test_pooled_scores_are_those_of_the_kept_distributions() -> None:
    data = make_planted_table(90, seed=1)
    found = run(
        data, "grade", "training.epochs=3", "data.ignore_columns=[price]", "evaluation.unimodal_scores=none", folds=3
    )
    decided = found.distributions["grade"]
    assert decided.shape == (90, 2)
    np.testing.assert_allclose(decided.sum(1), 1)
    answers = np.array(found.classes["grade"])[decided.argmax(1)]
    right = answers == np.array(data["grade"])
    scores = found.scores["grade"]["accuracy"]
    assert scores["value"] == pytest.approx(right.mean())
    by_fold = [right[found.fold_of == fold].mean() for fold in range(3)]
    assert [fold["scores"]["grade"]["accuracy"]["value"] for fold in found.folds] == pytest.approx(by_fold)
    assert scores["fold_mean"] == pytest.approx(np.mean(by_fold))
    assert [fold["rows"]["test"] for fold in found.folds] == [30, 30, 30]
    assert all(fold["rows"]["validation"] > 0 and sum(fold["rows"].values()) == 90 for fold in found.folds)
    assert not found.comparison
    assert not found.unimodal


def test_groups_stay_in_one_fold_and_widen_the_interval() -> None:
    """Six rows of one person say the same: they are no six independent rows."""
    generator = np.random.default_rng(0)
    person = np.repeat(np.arange(30), 6)
    answer = np.where(generator.integers(0, 2, 30), "yes", "no")[person].tolist()
    data = {
        "who": [f"p{one}" for one in person],
        "position": (person + 0.01 * generator.normal(size=180)).tolist(),
        "answer": answer,
    }
    found = run(data, "answer", "training.epochs=3", "data.split.group_column=who", folds=5)
    for one in range(30):
        assert len(set(found.fold_of[person == one])) == 1
    free = run({key: cells for key, cells in data.items() if key != "who"}, "answer", "training.epochs=3", folds=5)
    grouped, loose = (one.scores["answer"]["accuracy"] for one in (found, free))
    assert grouped["high"] - grouped["low"] > 1.3 * (loose["high"] - loose["low"])


def test_no_group_is_on_two_sides_in_any_fold_and_statistics_are_those_of_its_training_rows() -> None:
    data = make_planted_table(80, seed=0)
    who = np.arange(80) % 16
    data["who"] = [f"p{one}" for one in who]
    table = as_table(data, None)
    assert table is not None
    settings = [
        *TINY,
        "inputs.numbers.modality={name: number, transform: none}",
        "data.split.group_column=who",
        "data.ignore_columns=[price]",
        "training.epochs=1",
        "evaluation.unimodal_scores=none",
    ]
    plan = make_plan(table, as_recipe(None, settings), ["grade"])
    means = set()
    for parts in make_fold_splits(plan.recipe, table, 4):
        rows = [parts[name].rows for name in ("train", "validation", "test")]
        assert sorted(np.concatenate(rows)) == list(range(80))
        people = [set(who[part]) for part in rows]
        assert all(people)
        assert not people[0] & people[1] | people[0] & people[2] | people[1] & people[2]
        fold = _run_fold(plan.with_schedule(len(rows[0])), parts, Progress(False))
        learned = fold.preparation.modalities["numbers"].statistics[0]["center"]  # type: ignore[attr-defined]
        assert learned == pytest.approx(np.array(data["length"])[rows[0]].mean())
        means.add(learned)
    assert len(means) == 4


def test_images_are_decoded_once_for_all_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    stored: list[bytes] = []
    real = MediaStore.add
    monkeypatch.setattr(MediaStore, "add", lambda self, keys, items: stored.extend(keys) or real(self, keys, items))
    data = make_planted_images(24, seed=0)
    del data["shape"]
    run(data, "color", "training.epochs=1", "inputs.image=image", folds=3)
    assert len(stored) == len(set(stored)) == 24


def test_a_class_that_a_fold_never_trained_on_is_scored_as_wrong() -> None:
    data = make_planted_table(60, seed=0)
    data["grade"][7] = "huge"
    found = run(data, "grade", "training.epochs=2", "data.ignore_columns=[price]", "data.split.stratify=false", folds=3)
    assert found.classes["grade"] == ["huge", "large", "small"]
    assert found.distributions["grade"][7, 0] == 0
    assert not np.isnan(found.distributions["grade"]).any()
    assert found.cell_errors.errors == []


def test_numbers_are_scored_in_their_own_units() -> None:
    data = make_planted_table(120, seed=2)
    found = run(
        data,
        "price",
        "training.epochs=30",
        "training.learning_rate=0.02",
        "data.ignore_columns=[grade]",
        "evaluation.unimodal_scores=mask",
        folds=3,
    )
    price = np.array(data["price"])
    rmse = float(np.sqrt(((found.distributions["price"][:, 0] - price) ** 2).mean()))
    score = found.scores["price"]["rmse"]
    assert score["value"] == pytest.approx(rmse, rel=1e-5)
    assert score["value"] < 0.5 * score["baseline"]
    assert score["baseline"] > price.std()  # each row's mean is that of other rows
    assert set(score["unimodal"]) == {"numbers", "maker"}
    assert score["unimodal"]["maker"] > score["value"]
    assert not found.comparison


def test_two_runs_are_the_same() -> None:
    data = make_planted_table(60, seed=0)
    first, second = (
        run(data, "grade", "training.epochs=2", "data.ignore_columns=[price]", folds=2).distributions["grade"]
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_what_cannot_be_done_is_refused(tmp_path: Path) -> None:
    data = make_planted_table(20, seed=0)
    with pytest.raises(DataError, match="folds"):
        run(data, "grade", folds=21)
    data["part"] = ["train"] * 10 + ["validation"] * 10
    with pytest.raises(RecipeError, match=r"data\.split\.column"):
        run(data, "grade", "data.split.column=part")
    (tmp_path / "cross_validation.json").write_text("{}")
    with pytest.raises(PolymodalError, match="already exists"):
        run(data, "grade", out=tmp_path)
