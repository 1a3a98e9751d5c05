"""A search tries estimators beside networks: as the best model, and as members of the saved ensemble."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import polymodal
from polymodal.core.errors import RecipeError
from polymodal.core.progress import Progress
from polymodal.experiments.arguments import as_recipe, as_table
from polymodal.experiments.plan import make_plan
from polymodal.tuning.audit import audit_inputs
from polymodal.tuning.baselines import run_baselines
from polymodal.tuning.default_space import default_space
from polymodal.tuning.folds import Folds
from polymodal.tuning.frozen_baselines import FrozenFeatureBaselines
from polymodal.tuning.refit import refit_best
from polymodal.tuning.space import SearchSpace, base_recipe
from polymodal.tuning.study import Study
from polymodal.tuning.trial import TrialRunner
from polymodal.tuning.tune import tune
from tuning.searches import search

RECIPE: dict[str, Any] = {
    "inputs": {"a": {"columns": ["a"], "modality": "number"}, "b": {"columns": ["b"], "modality": "number"}},
    "hidden_size": 8,
    "training": {"epochs": 2, "precision": "fp32", "num_threads": 1},
    "evaluation": {"bootstrap_samples": 20},
}
LINEAR, TREES = [{"name": "linear"}], [{"name": "gradient_boosting"}]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path_factory.mktemp("cache")))


def rows(count: int, seed: int) -> dict[str, list[Any]]:
    """A class that no linear model predicts, and a number that is the sum of both inputs."""
    a, b = np.random.default_rng(seed).uniform(-1, 1, (2, count))
    inside = np.where((np.abs(a) < 0.6) & (np.abs(b) < 0.6), "inside", "outside")
    return {"a": a.tolist(), "b": b.tolist(), "place": inside.tolist(), "total": (a + b).tolist()}


def run(out: Path, target: str, **more: Any) -> Any:
    ignored = [name for name in ("place", "total") if name != target]
    settings = {"data.ignore_columns": ignored}
    given = {"recipe": RECIPE, "settings": settings, "folds": 2, "time_limit": None, **more}
    return tune(rows(200, 0), target, out=out, **given)


def test_the_best_model_of_a_search_may_be_trees_and_is_saved_like_any_other(tmp_path: Path) -> None:
    space = {"members": [LINEAR, [], TREES], "members.0.num_leaves": {"low": 4, "high": 16}, "fusion": ["concat"]}
    found = run(tmp_path, "place", space=space, trials=3)
    tried = {
        entry.overrides["members"][0]["name"] if entry.overrides["members"] else "network": entry.candidate
        for entry in found.entries
        if entry.status == "complete"
    }
    assert set(tried) == {"linear", "network", "gradient_boosting"}
    assert found.best.name == tried["gradient_boosting"].name
    assert tried["gradient_boosting"].score > max(tried["linear"].score, tried["network"].score) + 0.1
    assert tried["linear"].size_mib < tried["gradient_boosting"].size_mib
    assert not found.model.has_network
    assert found.model.recipe.members[0].num_leaves == 10
    new = rows(200, 1)
    loaded = polymodal.load(tmp_path / "best")
    assert np.mean([a == b for a, b in zip(loaded.predict(new), new["place"], strict=True)]) > 0.85
    assert "gradient_boosting" in (tmp_path / "tuning.html").read_text()


def test_estimators_are_members_of_the_saved_ensemble(tmp_path: Path) -> None:
    """Each trial reads one of two numbers, whose sum is the target, so only their average is good."""
    members = [[{"name": "linear", "inputs": [name]}] for name in ("a", "b")]
    found = run(
        tmp_path / "search",
        "total",
        space={"members": members},
        trials=2,
        settings={"data.ignore_columns": ["place"], "network": False},
    )
    assert found.ensemble is not None
    assert found.selection.score > found.best.score + 0.05
    assert {one.recipe.members[0].inputs[0] for one in found.ensemble.members} == {"a", "b"}
    new = rows(50, 1)
    loaded = polymodal.load(tmp_path / "search/ensemble")
    np.testing.assert_allclose(loaded.predict(new), found.ensemble.predict(new), rtol=1e-6)
    _check_what_is_left_out_after_the_limit(found, tmp_path)


def _check_what_is_left_out_after_the_limit(found: Any, folder: Path) -> None:
    """The best model is trained in any case; an ensemble, baselines and the audit are not."""
    quiet = Progress(False)
    best, ensemble = refit_best(
        found.folds, found.best, found.selection, out=folder / "late", progress=quiet, deadline=time.time() - 1
    )
    assert best.recipe.members == found.model.recipe.members
    assert ensemble is None
    models = FrozenFeatureBaselines(found.folds, progress=quiet)
    left = run_baselines(found.folds, progress=quiet, models=models, deadline=0.0)
    assert [one.name for one in left] == ["constant"]
    audited = audit_inputs([found.best], found.folds, progress=quiet, models=models)
    assert audited.outputs == {}
    assert audited.notes[-1] == "the time limit left no time for the audit of the inputs"


def test_the_default_space_begins_with_a_linear_model_and_a_network() -> None:
    table = as_table(rows(100, 0), None)
    assert table is not None

    def points(**more: Any) -> list[dict[str, Any]]:
        given = as_recipe({**RECIPE, "data": {"ignore_columns": ["total"]}, **more}, None)
        plan = make_plan(table, given, ["place"], estimators=bool(given.members)).recipe
        space = default_space(given, plan, 100, 60.0)
        return SearchSpace.read(space, base_recipe(given, plan, space)).initial_points(5)

    first, second, third, fourth, fifth = points()
    assert first == {"members": '[{"name": "linear"}]'}
    assert second["members"] == fifth["members"] == "[]"
    assert "fusion" in second
    assert second["fusion"] != fifth["fusion"]
    assert set(third) == {"members", "members.0.num_leaves", "members.0.learning_rate"}
    assert fourth == {"members": '[{"name": "kernel"}]'}
    assert all("members" not in point for point in points(members=[]))
    assert all(point["members"] != "[]" and len(point) <= 3 for point in points(network=False))
    named = points(members=["linear", "gradient_boosting"], network=False)
    assert set(named[0]) == {"members.1.num_leaves", "members.1.learning_rate"}


def test_a_search_tries_the_members_itself(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="quality: a search tries the members itself"):
        run(tmp_path / "out", "place", settings={"quality": "fast"}, space=None, trials=1)
    assert not (tmp_path / "out").exists()


def test_a_trial_is_stopped_in_the_middle_of_its_training_at_the_time_limit(tmp_path: Path) -> None:
    study, folds = search(tmp_path / "out", {"training.epochs": [2, 1_000_000]})
    study.enqueue_initial(None)
    said: list[str] = []

    def work(study: Study, folds: Folds, most: int, deadline: float | None) -> None:
        runner = TrialRunner(folds, tmp_path / "bench")
        study.run(runner, max_trials=most, deadline=deadline, log=said.append, parent=None)

    work(study, folds, 1, None)
    (first,) = study.records()
    study.study.enqueue_trial({"training.epochs": "1000000"})
    spent = study._seconds()[0]
    work(study, folds, 2, time.time() + 2 * spent + 0.5)
    statuses = {one.overrides["training.epochs"]: one.status for one in study.records()}
    assert first.status == "complete"
    assert statuses == {2: "complete", 1_000_000: "unfinished"}
    assert any("stopped at the time limit" in line for line in said)


def test_the_first_trial_has_the_epochs_that_fit(tmp_path: Path) -> None:
    study, folds = search(tmp_path / "out", {"training.epochs": [1_000_000, 2]})
    study.enqueue_initial(1)
    said: list[str] = []
    study.run(TrialRunner(folds, tmp_path), max_trials=1, deadline=time.time() + 1, log=said.append, parent=None)
    (only,) = study.records()
    assert only.status == "complete"
    assert any("of 1000000 epochs" in line for line in said)
