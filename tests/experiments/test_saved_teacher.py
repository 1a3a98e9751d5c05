"""A saved model or ensemble teaches a smaller one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polymodal import ensemble, fit
from polymodal.core.errors import DataError, RecipeError
from polymodal.model.run_record import TeacherRecord

WIDE = 12
TRAINING = {"epochs": 40, "batch_size": 16, "num_threads": 1, "precision": "fp32", "early_stopping_patience": 40}


def rows(count: int, seed: int, labelled: int | None = None) -> dict[str, list[object]]:
    """A noisy linear label; only the first `labelled` rows have it."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(count, WIDE))
    label = np.where(x @ np.linspace(-1, 1, WIDE) + draw.normal(size=count) > 0, "yes", "no").tolist()
    if labelled is not None:
        label[labelled:] = [None] * (count - labelled)
    return {**{f"x{i}": x[:, i].tolist() for i in range(WIDE)}, "target": label}


def recipe(**distillation: object) -> dict[str, object]:
    return {
        "hidden_size": 16,
        "inputs": {"x": {"modality": "number", "columns": [f"x{i}" for i in range(WIDE)]}},
        "outputs": {"target": "classification"},
        "training": {**TRAINING, "distillation": distillation},
        "evaluation": {"bootstrap_samples": 0, "unimodal_scores": "none"},
    }


def log_loss(model: object, test: dict[str, list[object]]) -> float:
    yes = model.predict_proba(test)[:, 1].clip(1e-6, 1 - 1e-6)  # type: ignore[attr-defined]
    truth = np.array(test["target"]) == "yes"
    return float(-np.where(truth, np.log(yes), np.log(1 - yes)).mean())


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble of two models that saw many labelled rows."""
    folder = tmp_path_factory.mktemp("teacher")
    members = [fit(rows(1500, 1), recipe={**recipe(), "seed": seed}) for seed in range(2)]
    return ensemble(members).save(folder / "ensemble")


def test_a_student_with_few_labels_learns_from_an_ensemble_on_rows_without_any(teacher: Path) -> None:
    test = rows(1500, 99)
    few = rows(600, 5, labelled=40)
    alone = log_loss(fit(few, recipe=recipe()), test)
    student = fit(few, recipe=recipe(teacher=str(teacher), weight=0.9))
    assert log_loss(student, test) < alone - 0.03
    assert student.run.teacher == TeacherRecord(model=str(teacher))


def test_a_teacher_that_is_not_there_or_decides_other_things_is_refused(teacher: Path, tmp_path: Path) -> None:
    few = rows(80, 5)
    with pytest.raises(RecipeError, match=r"training\.distillation\.teacher.*not a model directory"):
        fit(few, recipe=recipe(teacher=str(tmp_path / "nowhere")))
    other = {**few, "target": ["left" if cell == "yes" else "right" for cell in few["target"]]}
    with pytest.raises(RecipeError, match="the teacher predicts classification of"):
        fit(other, recipe=recipe(teacher=str(teacher)))
    without = {name: cells for name, cells in few.items() if name != "x3"}
    small = recipe(teacher=str(teacher))
    small["inputs"] = {"x": {"modality": "number", "columns": ["x0", "x1"]}}
    with pytest.raises(DataError, match="x3"):
        fit(without, recipe=small)
