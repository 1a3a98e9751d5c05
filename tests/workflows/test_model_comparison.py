"""Two saved models compared on the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polymodal.core.errors import DataError, RecipeError
from polymodal.datasets.planted import make_exclusive_or, make_planted_table
from polymodal.model.model import Model
from polymodal.workflows.fit import fit
from polymodal.workflows.model_comparison import compare
from setting_lists import replaced

TINY = [
    "hidden_size=16",
    "training.num_threads=1",
    "training.precision=fp32",
    "evaluation.bootstrap_samples=200",
    "evaluation.unimodal_scores=none",
]
SIDES = {side: {"columns": [f"{side}{i}" for i in range(4)], "modality": "number"} for side in "ab"}


def trained(data: dict[str, Any], target: str, *settings: str, recipe: Any = None) -> Model:
    return fit(data, target, recipe=recipe, settings=replaced(TINY, *settings))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """`both` sees both sides of an exclusive-or, `half` only one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYMODAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        data = make_exclusive_or(240, seed=0)
        settings = ("training.epochs=30", "training.learning_rate=0.02")
        return {
            "both": trained(data, "target", *settings, recipe={"inputs": SIDES}),
            "half": trained(data, "target", *settings, recipe={"inputs": {"a": SIDES["a"]}}),
        }


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path / "cache"))


def test_the_better_model_is_found(models: dict[str, Model]) -> None:
    rows = make_exclusive_or(200, seed=9)
    found = compare(models["both"], models["half"], rows)["target"]["accuracy"]
    for side, name in (("a", "both"), ("b", "half")):
        right = np.mean([p == t for p, t in zip(models[name].predict(rows), rows["target"], strict=True)])
        assert found[side] == pytest.approx(right)
    assert found["difference"] == pytest.approx(found["a"] - found["b"])
    assert 0 < found["low"] <= found["difference"] <= found["high"]
    assert found["p_value"] < 0.02
    assert found["mcnemar"] < 0.001
    back = compare(models["half"], models["both"], rows)["target"]["accuracy"]
    assert back["difference"] == pytest.approx(-found["difference"])


def test_a_model_does_not_differ_from_itself(models: dict[str, Model]) -> None:
    found = compare(models["both"], models["both"], make_exclusive_or(50, seed=9))
    assert list(found["target"]) == [metric.name for metric in models["both"].preparation.tasks["target"].metrics]
    for scores in found["target"].values():
        assert scores["difference"] == 0
        assert scores["p_value"] == 1
    assert found["target"]["log_loss"]["mcnemar"] is None


def test_rows_without_a_target_do_not_count(models: dict[str, Model]) -> None:
    rows = make_exclusive_or(60, seed=9)
    known = {name: cells[:40] for name, cells in rows.items()}
    rows["target"][40:] = [None] * 20
    less, all_known = (compare(models["both"], models["half"], table)["target"] for table in (rows, known))
    for metric, score in less.items():
        assert score == all_known[metric] | {"left_out": {"missing_target": 20}}
        assert score["rows"] == 40


def test_models_that_decide_different_things_are_refused(models: dict[str, Model]) -> None:
    data = make_planted_table(40, seed=0)
    grade = trained(data, "grade", "training.epochs=1", "data.ignore_columns=[price]")
    with pytest.raises(RecipeError, match="the outputs of the models differ"):
        compare(models["both"], grade, data)
    renamed = make_exclusive_or(40, seed=0)
    renamed["target"] = ["on" if one == "yes" else "off" for one in renamed["target"]]
    other = trained(renamed, "target", "training.epochs=1", recipe={"inputs": SIDES})
    with pytest.raises(RecipeError, match=r"outputs\.target"):
        compare(models["both"], other, renamed)
    with pytest.raises(DataError, match="b0"):
        compare(models["half"], models["both"], {k: v for k, v in renamed.items() if k != "b0"})


def test_columns_in_another_order_are_put_side_by_side() -> None:
    data = make_planted_table(80, seed=0)
    inputs = {"price": "number", "maker": "category"}
    orders = (["length", "weight"], ["weight", "length"])
    models = [
        fit(
            data,
            recipe={"inputs": inputs, "outputs": {"size": {"columns": order, "task": "regression"}}},
            settings=replaced(TINY, "training.epochs=5"),
        )
        for order in orders
    ]
    found = compare(models[0], models[1], data)["size"]["rmse"]
    for side, model in zip("ab", models, strict=True):
        assert found[side] == pytest.approx(model.evaluate(data)["size"]["rmse"]["value"])
