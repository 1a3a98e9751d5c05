"""Scores of each data set of a run on several tables."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from polymodal.datasets.planted import make_exclusive_or
from polymodal.report.score_table import model_score_table
from polymodal.workflows.fit import fit

RECIPE: dict[str, Any] = {
    "inputs": {side: {"columns": [f"{side}{i}" for i in range(4)], "modality": "number"} for side in "ab"},
    "hidden_size": 16,
    "training": {"num_threads": 1, "precision": "fp32", "epochs": 15, "batch_size": 16, "learning_rate": 0.02},
    "evaluation": {"bootstrap_samples": 50, "unimodal_scores": "none"},
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path / "cache"))


def turned(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Every second answer is false, whatever the inputs say."""
    answers = [("no" if one == "yes" else "yes") if row % 2 else one for row, one in enumerate(columns["target"])]
    return columns | {"target": answers}


def test_each_data_set_has_scores_of_its_own(tmp_path: Path) -> None:
    """One data set can be learned, half of the other's answers are wrong: the mean of both tells neither."""
    good, bad = make_exclusive_or(300, seed=0), turned(make_exclusive_or(160, seed=1))
    good["more"] = good["a0"]
    tests = {"good": make_exclusive_or(90, seed=2), "bad": turned(make_exclusive_or(60, seed=3))}
    outputs = {"target": "classification", "more": "regression"}
    model = fit({"good": good, "bad": bad}, recipe={**RECIPE, "outputs": outputs}, test=tests, out=tmp_path / "m")
    found = model.run.data_sets["test"]
    assert list(found) == ["target"]  # `more` is in no table of the test part
    scores = {name: one.scores["accuracy"] for name, one in found["target"].items()}
    assert {name: one.rows for name, one in found["target"].items()} == {"good": 90, "bad": 60}
    assert scores["good"].low > 0.85
    assert scores["bad"].high < 0.75
    overall = model.metrics["test"]["target"]["accuracy"]["value"]
    assert overall == pytest.approx((90 * scores["good"].value + 60 * scores["bad"].value) / 150)
    out = StringIO()
    Console(file=out, width=120).print(model_score_table(model))
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert ["good", f"{scores['good'].value:.3f}"] in [line[:2] for line in lines]


def test_one_table_has_none() -> None:
    model = fit(make_exclusive_or(80, seed=0), "target", recipe={**RECIPE, "training": {"epochs": 1}})
    assert model.run.data_sets == {}
