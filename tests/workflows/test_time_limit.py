"""The time limit of a run: fewer epochs, which still end with a learning rate of 0, and fewer members."""

from __future__ import annotations

import json
import re
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

import polymodal
from polymodal.core.errors import RecipeError
from polymodal.datasets.planted import make_exclusive_or
from polymodal.estimators.gradient_boosting import GradientBoosting
from polymodal.estimators.linear import LinearModel
from polymodal.experiments.time_limit import TimeLimitWarning

SETTINGS = ["hidden_size=8", "training.num_threads=1", "training.precision=fp32", "training.batch_size=8"]
SETTINGS += ["evaluation.bootstrap_samples=0", "evaluation.unimodal_scores=none"]
NUMBERS: dict[str, Any] = {
    "inputs": {side: {"columns": [f"{side}{i}" for i in range(4)], "modality": "number"} for side in "ab"},
    "outputs": {"target": "classification"},
}


def test_a_network_is_trained_for_the_epochs_that_the_limit_allows(tmp_path: Path) -> None:
    settings = [*SETTINGS, "training.epochs=100000", "training.early_stopping_patience=100000"]
    settings += ["training.logging_steps=1"]
    model = polymodal.fit(
        make_exclusive_or(96), recipe=NUMBERS, settings=settings, time_limit=3.0, out=tmp_path / "model"
    )
    (notice,) = [one for one in model.run.notices if "time limit allows" in one]
    assert f"allows {len(model.run.history)} of 100000 epochs" in notice
    lines = [json.loads(line) for line in (tmp_path / "model" / "log.jsonl").read_text().splitlines()]
    rates = [line["rate"] for line in lines if line["event"] == "step"]
    assert rates[-1] < 0.01 * max(rates)


def test_a_limit_that_is_long_enough_changes_nothing() -> None:
    settings = [*SETTINGS, "training.epochs=3"]
    free = polymodal.fit(make_exclusive_or(96), recipe=NUMBERS, settings=settings)
    limited = polymodal.fit(make_exclusive_or(96), recipe=NUMBERS, settings=settings, time_limit=600)
    assert limited.metrics == free.metrics


def test_members_that_come_last_are_left_out_and_named() -> None:
    model = polymodal.fit(make_exclusive_or(96), "target", quality="fast", settings=SETTINGS[-2:], time_limit=1e-6)
    assert [row.member for row in model.leaderboard()] == ["linear"]
    assert any("left no time for gradient_boosting" in notice for notice in model.run.notices)


def test_a_member_that_would_end_after_the_limit_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boosted trees that need 20 ms for each row and fold: all rows take longer than the limit, a sample does not."""
    whole, fitted = GradientBoosting.cross_fit, list[int]()

    def slow(self: GradientBoosting, features: Any, target: Any, folds: Any) -> Any:
        fitted.append(len(target) * len(folds))
        time.sleep(0.02 * fitted[-1])
        return whole(self, features, target, folds)

    monkeypatch.setattr(GradientBoosting, "cross_fit", slow)
    rows = make_exclusive_or(200)
    model = polymodal.fit(rows, "target", quality="fast", settings=SETTINGS[-2:], time_limit=8.0)
    assert max(fitted) < 100, "it was timed on some rows alone"
    assert any("left no time for gradient_boosting" in notice for notice in model.run.notices)
    assert "gradient_boosting" not in [row.member for row in model.leaderboard()]


def test_after_the_limit_there_is_no_network_beside_a_member_and_no_model_of_one_input() -> None:
    recipe = {**NUMBERS, "members": ["linear"], "network": True, "training": {"epochs": 2}}
    settings = ["evaluation.bootstrap_samples=0", "evaluation.unimodal_scores=train", "hidden_size=8"]
    model = polymodal.fit(make_exclusive_or(96), recipe=recipe, settings=settings, time_limit=0.01)
    assert [row.member for row in model.leaderboard()] == ["linear"]
    said = " ".join(model.run.notices)
    assert "left no time for network" in said
    assert "left no time to score a and b alone" in said
    assert (
        len(model.predict({name: cells[:3] for name, cells in make_exclusive_or(96).items() if name != "target"})) == 3
    )


def test_a_limit_that_one_member_exceeds_is_told_before_it_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, told = LinearModel.cross_fit, list[int]()

    def slow(self: LinearModel, features: Any, target: Any, folds: Any) -> Any:
        told.append(sum(one.category is TimeLimitWarning for one in caught))
        time.sleep(0.005 * len(target) * len(folds))
        return whole(self, features, target, folds)

    monkeypatch.setattr(LinearModel, "cross_fit", slow)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        polymodal.fit(make_exclusive_or(60), "target", quality="fast", settings=SETTINGS[-2:], time_limit=0.5)
    assert told[:2] == [0, 1], "the first fit is that of a sample"
    (warning,) = [one for one in caught if one.category is TimeLimitWarning]
    assert re.search(r"the member linear takes about \d+\.\d s .*, and \d\.\d s are left", str(warning.message))


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_a_limit_is_positive(limit: float) -> None:
    with pytest.raises(RecipeError, match="positive"):
        polymodal.fit(make_exclusive_or(96), "target", time_limit=limit)
