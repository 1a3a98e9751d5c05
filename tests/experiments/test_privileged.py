"""Privileged inputs: what only the training rows have teaches a model that does without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from polymodal import cross_validate, fit, load
from polymodal.core.errors import DataError, RecipeError
from polymodal.inference.predictions import Predictions
from polymodal.recipe.training import DistillationOptions
from polymodal.training.distillation import TeacherTargets

WIDE = 12
TRAINING = {"epochs": 40, "batch_size": 16, "num_threads": 1, "precision": "fp32", "early_stopping_patience": 40}


def rows(count: int, seed: int, privileged: bool = True) -> dict[str, list[object]]:
    """The score that decides is a noisy sum over `x0`..; the label adds noise to it, `score` (privileged) is clean."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(count, WIDE))
    score = x @ np.linspace(-1, 1, WIDE)
    label = np.where(score + 1.5 * draw.normal(size=count) > 0, "yes", "no")
    columns: dict[str, list[object]] = {f"x{i}": x[:, i].tolist() for i in range(WIDE)}
    columns["target"] = label.tolist()
    return columns | ({"score": score.tolist()} if privileged else {})


def recipe(weight: float = 0.9, **spec: object) -> dict[str, object]:
    return {
        "hidden_size": 16,
        "inputs": {
            "x": {"modality": "number", "columns": [f"x{i}" for i in range(WIDE)]},
            "score": {"modality": "number", **spec},
        },
        "training": {**TRAINING, "distillation": {"weight": weight}},
        "evaluation": {"bootstrap_samples": 0, "unimodal_scores": "none"},
    }


def test_the_model_needs_no_privileged_column_and_learns_from_its_teacher() -> None:
    """With few noisy labels the teacher, which sees the clean score, makes better targets than the labels."""
    losses: dict[float, list[float]] = {0.0: [], 0.9: []}
    test = rows(2000, 99, privileged=False)
    truth = np.array(test["target"]) == "yes"
    for seed in range(3):
        for weight, found in losses.items():
            model = fit(rows(120, seed), "target", recipe=recipe(weight, privileged=True))
            assert list(model.recipe.inputs) == ["x"]
            p = model.predict_proba(test)[:, 1].clip(1e-6, 1 - 1e-6)
            found.append(float(-np.where(truth, np.log(p), np.log(1 - p)).mean()))
    assert np.mean(losses[0.9]) < np.mean(losses[0.0]) - 0.01


def test_the_test_table_may_lack_the_column_and_the_run_is_recorded(tmp_path: Path) -> None:
    options = recipe(privileged=True) | {"training": {**TRAINING, "epochs": 2}}
    test = rows(30, 1, privileged=False)
    model = fit(rows(60, 0), "target", recipe=options, test=test, out=tmp_path / "model")
    assert model.run.teacher.privileged == ("score",)
    assert "privileged: true" in (tmp_path / "model" / "teacher" / "recipe.yaml").read_text()
    assert not list(tmp_path.rglob("checkpoint.safetensors"))
    again = load(tmp_path / "model")
    data = rows(10, 3, privileged=False)
    assert np.array_equal(again.predict_proba(data), model.predict_proba(data))
    repeated = fit(rows(60, 0), "target", recipe=tmp_path / "model" / "teacher" / "recipe.yaml", test=test)
    assert np.array_equal(repeated.predict_proba(data), model.predict_proba(data))


def test_what_cannot_be_taught_is_refused() -> None:
    with pytest.raises(DataError, match=r"column 'score'.*privileged"):
        fit(rows(60, 0), "target", recipe=recipe(privileged=True), validation=rows(20, 1, privileged=False))
    alone = {"inputs": {"score": {"modality": "number", "privileged": True}}}
    with pytest.raises(RecipeError, match=r"inputs\.score\.privileged.*one input"):
        fit(rows(60, 0), "target", recipe=alone)


def test_a_lesson_is_zero_only_for_the_teachers_own_answer() -> None:
    taught = torch.randn(5, 3)
    teacher_targets = TeacherTargets.from_predictions(
        {"y": Predictions(taught, {}, {})}, np.array([7, 3, 1, 9, 4]), DistillationOptions()
    )
    order = torch.tensor([9, 7, 4, 1, 3])
    own = taught[[3, 0, 4, 2, 1]]
    for space in ("categorical", "binary", "real"):
        assert teacher_targets.loss("y", space, own, order).abs().max() < 1e-5  # type: ignore[arg-type]
        assert (teacher_targets.loss("y", space, own + torch.tensor([1.0, 0.0, -1.0]), order) > 0.01).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("singles", ["train", "mask"])
def test_folds_are_scored_without_the_privileged_input(singles: str) -> None:
    columns = rows(80, 0)
    options = recipe(privileged=True)
    options["inputs"] = {"a": {"modality": "number", "columns": ["x0", "x1"]}, **options["inputs"]}  # type: ignore[dict-item]
    settings = [f"evaluation.unimodal_scores={singles}", "training.epochs=1"]
    found = cross_validate(columns, "target", recipe=options, settings=settings, folds=2)
    assert set(found.scores["target"]["accuracy"]["unimodal"]) == {"a", "x"}
