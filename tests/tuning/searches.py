"""A small search for the tests: two inputs that only together tell the target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polymodal.datasets.planted import make_exclusive_or
from polymodal.experiments.arguments import as_recipe, as_table
from polymodal.experiments.plan import make_plan
from polymodal.tuning.folds import Folds
from polymodal.tuning.space import SearchSpace, base_recipe
from polymodal.tuning.storage import StudyStorage
from polymodal.tuning.study import Study

RECIPE: dict[str, Any] = {
    "inputs": {
        "a": {"columns": ["a0", "a1", "a2", "a3"], "modality": "number"},
        "b": {"columns": ["b0", "b1", "b2", "b3"], "modality": "number"},
    },
    "outputs": {"target": "classification"},
    "hidden_size": 16,
    "training": {"epochs": 16, "batch_size": 32, "learning_rate": 0.03, "modality_dropout": 0.0},
    "evaluation": {"bootstrap_samples": 50},
}
ROWS = 160


def data(rows: int = ROWS) -> dict[str, Any]:
    return make_exclusive_or(rows, seed=0)


def search(
    folder: Path,
    choices: dict[str, Any],
    *,
    folds: int = 2,
    optimize: list[str] | None = None,
    recipe: dict[str, Any] = RECIPE,
    storage: StudyStorage | None = None,
) -> tuple[Study, Folds]:
    """A study of `choices` in `folder` without trials, and its folds."""
    folder.mkdir(parents=True, exist_ok=True)
    table, given = as_table(data(), None), as_recipe(recipe, None)
    assert table is not None
    plan = make_plan(table, given).recipe
    space = SearchSpace.read(choices, base_recipe(given, plan, choices))
    study = Study(folder, space, optimize or ["score"], 0, storage=storage)
    return study, Folds(table, plan, folds)
