"""What outputs gain by sharing one body: a planted gain is found, and the models alone are what `fit` makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from polymodal.cli.commands import app
from polymodal.core.errors import DataError, PolymodalError, RecipeError
from polymodal.datasets.planted import make_exclusive_or
from polymodal.model.model import Model
from polymodal.workflows.fit import fit
from polymodal.workflows.multitask_gain import multitask_gain

SIDES = {side: {"columns": [f"{side}{i}" for i in range(4)], "modality": "number"} for side in "ab"}
RECIPE: dict[str, Any] = {
    "inputs": SIDES,
    "outputs": {"rare": "classification", "common": "classification"},
    "hidden_size": 16,
    "data": {"split": {"column": "part"}},
    "training": {"num_threads": 1, "precision": "fp32", "epochs": 20, "batch_size": 32, "learning_rate": 0.02},
    "evaluation": {"bootstrap_samples": 200, "unimodal_scores": "none"},
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path / "cache"))


def planted(labelled: int) -> dict[str, Any]:
    """Both targets are the same exclusive-or of two inputs; only `labelled` training rows have `rare`."""
    columns = make_exclusive_or(600, seed=0, noise=0.8)
    truth = columns.pop("target")
    part = ["train"] * 340 + ["validation"] * 60 + ["test"] * 200
    rare = [answer if row >= 340 or row < labelled else None for row, answer in enumerate(truth)]
    return columns | {"rare": rare, "common": list(truth), "part": part}


def test_a_rare_target_gains_from_a_common_one(tmp_path: Path) -> None:
    found = multitask_gain(planted(12), recipe=RECIPE, out=tmp_path / "out")
    rare, common = (found.outputs[name]["accuracy"] for name in ("rare", "common"))
    assert rare["multitask"] > 0.85
    assert rare["low"] > 0.1
    assert rare["difference"] == pytest.approx(rare["multitask"] - rare["single_task"])
    assert common["low"] <= 0 <= common["high"]
    assert found.single_task["rare"]["steps"] < found.single_task["common"]["steps"]
    assert found.rows["with_target"]["rare"] == {"train": 12, "validation": 60, "test": 200}
    alone = sum(one["parameters"] for one in found.single_task.values())
    assert alone / 2 < found.multitask["parameters"] < 0.8 * alone
    written = json.loads((tmp_path / "out" / "multitask_gain.json").read_text())
    assert written["outputs"]["rare"]["accuracy"]["low"] == pytest.approx(rare["low"])
    rows = {name: cells[400:] for name, cells in planted(12).items()}
    for place, name, key in (
        ("multitask", "rare", "multitask"),
        ("single-task-1", "rare", "single_task"),
        ("single-task-2", "common", "single_task"),
    ):
        model = Model.load(tmp_path / "out" / place)
        answers = model.predict(rows)
        answers = answers[name] if isinstance(answers, dict) else answers
        right = np.mean([one == other for one, other in zip(answers, rows[name], strict=True)])
        assert right == pytest.approx(found.outputs[name]["accuracy"][key])
    with pytest.raises(PolymodalError, match="not empty"):
        multitask_gain(planted(12), recipe=RECIPE, out=tmp_path / "out")


def test_a_model_alone_is_the_one_that_fit_makes() -> None:
    data = planted(340)
    found = multitask_gain(data, recipe=RECIPE, settings=["training.epochs=3"])
    single = fit(
        data,
        recipe={**RECIPE, "outputs": {"common": "classification"}},
        settings=["training.epochs=3"],
    )
    scores = single.metrics["test"]["common"]
    for metric, one in found.outputs["common"].items():
        assert one["single_task"] == pytest.approx(scores[metric]["value"]), metric


def test_what_is_refused() -> None:
    with pytest.raises(RecipeError, match="two or more outputs"):
        multitask_gain(planted(340), recipe={**RECIPE, "outputs": {"common": "classification"}})
    taught = {**RECIPE, "inputs": {**SIDES, "a": {**SIDES["a"], "privileged": True}}}
    with pytest.raises(RecipeError, match="teacher"):
        multitask_gain(planted(340), recipe=taught)
    data = planted(340)
    data["rare"][400:] = [None] * 200
    with pytest.raises(DataError, match="test split"):
        multitask_gain(data, recipe=RECIPE)


def test_the_command_takes_several_tables(tmp_path: Path) -> None:
    """Each target stands in a table of its own."""
    columns = planted(340)
    for name, rows in (("rare", slice(0, 120)), ("common", slice(120, 600))):
        kept = [column for column in columns if column not in ("part", {"rare": "common", "common": "rare"}[name])]
        pd.DataFrame({column: columns[column][rows] for column in kept}).to_csv(tmp_path / f"{name}.csv", index=False)
    words = ["multitask-gain", "rare.csv", "--additional-data", "common.csv", "-t", "rare", "-t", "common", "--json"]
    words = [str(tmp_path / word) if word.endswith(".csv") else word for word in words]
    settings = [f"training.{key}" for key in ("epochs=2", "num_threads=1", "precision=fp32")] + [
        "evaluation.bootstrap_samples=20"
    ]
    ran = CliRunner().invoke(
        app, [*words, *(one for key in settings for one in ("-s", key)), "-o", str(tmp_path / "o")]
    )
    assert ran.exit_code == 0, ran.output
    said = json.loads(ran.stdout)
    assert said["rows"]["with_target"]["rare"] == {"train": 96, "validation": 12, "test": 12}
    assert said["rows"]["with_target"]["common"] == {"train": 384, "validation": 48, "test": 48}
    assert set(said["outputs"]) == {"rare", "common"}
