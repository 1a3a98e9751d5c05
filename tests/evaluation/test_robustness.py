"""Robustness finds what a model leans on: planted data in which one input decides and another is idle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from polymodal import fit
from polymodal.evaluation.robustness import STRENGTHS, Robustness, count_passes
from polymodal.model.model import Model
from polymodal.report.robustness import write_robustness

RECIPE = {
    "hidden_size": 16,
    "inputs": {"decides": "number", "idle": "number", "word": "text"},
    "training": {"epochs": 12, "num_threads": 1, "precision": "fp32", "modality_dropout": 0.1},
    "evaluation": {"bootstrap_samples": 50, "unimodal_scores": "none"},
}


def rows(count: int, seed: int) -> dict[str, list[object]]:
    draw = np.random.default_rng(seed)
    decides = draw.normal(size=count)
    return {
        "decides": decides.tolist(),
        "idle": draw.normal(size=count).tolist(),
        "word": draw.choice(["one small word", "another little word"], count).tolist(),
        "target": np.where(decides > 0, "up", "down").tolist(),
    }


@pytest.fixture(scope="module")
def model() -> Model:
    return fit(rows(300, 0), "target", recipe=RECIPE)


@pytest.fixture(scope="module")
def found(model: Model) -> Robustness:
    return model.robustness(rows(300, 1))["target"]


def test_the_input_that_decides_is_found(found: Robustness) -> None:
    assert found.value is not None
    assert found.value >= 0.9
    assert found.removed["decides"].drop is not None
    assert found.removed["decides"].drop > 0.3
    assert abs(found.removed["idle"].drop or 0.0) < 0.05
    assert abs(found.removed["word"].drop or 0.0) < 0.05


def test_curves_start_at_the_whole_score_and_fall_where_damage_hurts(found: Robustness) -> None:
    noise = found.corrupted["decides"]["noise"]
    assert len(noise.scores) == len(STRENGTHS)
    assert noise.scores[0] == found.value
    assert noise.scores[-1] is not None
    assert found.value is not None
    assert noise.scores[-1] < found.value - 0.05
    assert noise.area == pytest.approx(np.trapezoid(noise.scores, STRENGTHS))
    gaps = found.corrupted["decides"]["gaps"].scores
    assert gaps[-1] == pytest.approx(found.removed["decides"].value, abs=0.1)
    assert min(found.corrupted["idle"]["noise"].scores) > found.value - 0.05
    assert set(found.corrupted["word"]) == {"typing_errors", "dropped_words", "shuffled_words"}


def test_the_same_rows_give_the_same_curves_and_the_model_is_left_alone(model: Model, found: Robustness) -> None:
    before = model.predict_proba(rows(50, 2))
    assert model.robustness(rows(300, 1))["target"] == found
    assert np.array_equal(model.predict_proba(rows(50, 2)), before)


def test_every_pass_is_counted(model: Model) -> None:
    assert count_passes(model.preparation) == 1 + 3 + 5 * (2 + 2 + 3)


def test_the_page_has_every_number(found: Robustness, tmp_path: Path) -> None:
    write_robustness(tmp_path / "new", {"target": found}, table="rows.csv", rows=300)
    read = json.loads((tmp_path / "new" / "robustness.json").read_text())
    assert Robustness(**read["outputs"]["target"]) == found
    page = (tmp_path / "new" / "robustness.html").read_text()
    assert page.count("<polyline") == 2 + 2 + 3
    for text in ("decides", "typing errors", "Without one input", f"{found.removed['decides'].value:.3f}"):
        assert text in page
