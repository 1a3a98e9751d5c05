"""The time limit of a run: fewer epochs, which still end with a learning rate of 0, and fewer members."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import polymodal
from polymodal.core.errors import RecipeError
from polymodal.datasets.planted import make_exclusive_or

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


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_a_limit_is_positive(limit: float) -> None:
    with pytest.raises(RecipeError, match="positive"):
        polymodal.fit(make_exclusive_or(96), "target", time_limit=limit)
