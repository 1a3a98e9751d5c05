"""A model teaches one small member: what it learns, what it loses, and what it gains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import polymodal
from polymodal.applications.distillation import distill
from polymodal.cli.commands import app
from polymodal.core.errors import PolymodalError, RecipeError
from polymodal.model.run_record import TeacherRecord

WIDTH = 6
COMPUTE = {"training.num_threads": 1, "training.precision": "fp32", "evaluation.bootstrap_samples": 0}
TARGETS = {"kind": "classification", "tags": "multilabel_classification", "level": "regression"}


def rows(count: int, seed: int, labeled: int | None = None) -> dict[str, list[Any]]:
    """Targets that follow a noisy sum of numbers; only the first `labeled` rows have them."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(count, WIDTH))
    score = x @ np.linspace(-1, 1, WIDTH) + draw.normal(size=count)
    table: dict[str, list[Any]] = {f"x{n}": x[:, n].tolist() for n in range(WIDTH)}
    table["kind"] = np.digitize(score, [-1, 1]).astype(str).tolist()
    table["tags"] = [[name for name, cut in (("p", 0), ("q", 1)) if one > cut] for one in score]
    table["level"] = score.tolist()
    for name in TARGETS if labeled is not None else ():
        table[name][labeled:] = [None] * (count - (labeled or 0))
    return table


def recipe(members: list[Any]) -> dict[str, Any]:
    return {
        "inputs": {"x": {"modality": "number", "columns": [f"x{n}" for n in range(WIDTH)]}},
        "outputs": dict(TARGETS),
        "members": members,
        "network": False,
        "ensemble": {"folds": 3},
    }


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kernel model and trees that saw many labeled rows."""
    folder = tmp_path_factory.mktemp("teacher") / "model"
    polymodal.fit(rows(900, 1), recipe=recipe(["kernel", "gradient_boosting"]), settings=COMPUTE, out=folder)
    return folder


def errors(model: Any, test: dict[str, list[Any]]) -> dict[str, float]:
    """The log loss of classes and labels, and the mean squared error of numbers."""
    found = model.predict_proba(test)
    kind = found["kind"].clip(1e-6)[np.arange(len(test["kind"])), np.array(test["kind"], int)]
    truth = np.array([[name in tags for name in ("p", "q")] for tags in test["tags"]])
    tags = np.where(truth, found["tags"], 1 - found["tags"]).clip(1e-6)
    return {
        "kind": float(-np.log(kind).mean()),
        "tags": float(-np.log(tags).mean()),
        "level": float(np.square(found["level"][:, 0] - test["level"]).mean()),
    }


@pytest.mark.parametrize("member", ["linear", "gradient_boosting"])
def test_a_member_with_few_labels_learns_from_a_teacher_on_rows_without_any(teacher: Path, member: str) -> None:
    few, test = rows(500, 5, labeled=40), rows(1000, 99)
    alone = errors(polymodal.fit(few, recipe=recipe([member]), settings=COMPUTE), test)
    settings = {"training.distillation.weight": 0.9, "training.num_threads": 1}
    found = distill(teacher, few, test, into=member, settings=settings)
    learned = errors(found.model, test)
    assert learned["kind"] < alone["kind"] - 0.02
    assert learned["tags"] < alone["tags"] - 0.02
    assert learned["level"] < 0.95 * alone["level"]
    assert found.model.run.teacher == TeacherRecord(model=str(teacher))
    assert [one.member for one in found.model.leaderboard()] == [member]


def test_the_small_member_is_measured_beside_its_teacher(teacher: Path, tmp_path: Path) -> None:
    for name, table in (("train", rows(300, 1)), ("test", rows(200, 7))):
        lines = [json.dumps({column: cells[n] for column, cells in table.items()}) for n in range(len(table["kind"]))]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    command = ["compress", str(teacher), str(tmp_path / "test.jsonl"), "--out", str(tmp_path / "small")]
    more = ["--into", "linear", "--train", str(tmp_path / "train.jsonl"), "--set", "training.num_threads=1"]
    result = CliRunner().invoke(app, [*command, *more, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["student"]["size_mib"] < 0.1 * found["teacher"]["size_mib"]
    assert found["student"]["rows_per_second"] > found["teacher"]["rows_per_second"]
    assert found["student"]["agreement"] > 0.7
    assert abs(found["student"]["score"] - found["teacher"]["score"]) < 0.1
    assert json.loads((tmp_path / "small/distillation.json").read_text())["student"] == found["student"]
    loaded = polymodal.load(tmp_path / "small")
    assert loaded.recipe.members[0].name == "linear"
    command[-1] = str(tmp_path / "other")
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, PolymodalError)
    assert "--into" in str(refused.exception)
    assert CliRunner().invoke(app, [*command, "--into", "linear"]).exit_code == 2


def test_a_network_learns_from_members(teacher: Path) -> None:
    settings = {"hidden_size": 16, "training.epochs": 6, "training.num_threads": 1, "training.learning_rate": 0.01}
    found = distill(teacher, rows(300, 1), rows(200, 7), settings=settings)
    assert found.member == "network"
    assert found.model.ensemble is None
    assert found.student.agreement > 0.7


def test_members_and_a_network_do_not_learn_together_from_a_teacher(teacher: Path) -> None:
    both = {"network": True, "training": {"distillation": {"teacher": str(teacher)}}}
    with pytest.raises(RecipeError, match="network: false"):
        polymodal.fit(rows(60, 0), recipe=recipe(["linear"]) | both)
    with pytest.raises(RecipeError, match="did you mean 'linear'"):
        distill(teacher, rows(60, 0), rows(60, 1), into="linaer")


def test_a_linear_model_learns_from_a_network_that_reads_a_text(tmp_path: Path) -> None:
    """The network stores no n-grams, which the linear model reads."""
    table = {"said": [f"{word} number {n}" for n in range(30) for word in ("good", "bad")], "kind": ["a", "b"] * 30}
    settings = {**COMPUTE, "members": [], "training.epochs": 1, "hidden_size": 8}
    polymodal.fit(table, "kind", settings=settings, out=tmp_path / "network")
    found = distill(tmp_path / "network", table, table, into="linear")
    assert found.model.predict(table) == table["kind"]
