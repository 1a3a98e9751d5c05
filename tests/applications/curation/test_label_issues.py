"""Wrong labels are found by models that have not seen them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import polymodal
from polymodal.applications.curation.curate import CurationOptions, curate
from polymodal.applications.curation.label_issues import confident_classes
from polymodal.cli.commands import app
from polymodal.core.errors import DataError, RecipeError
from polymodal.model.model import Model

SETTINGS = {
    "training.num_threads": 1,
    "training.precision": "fp32",
    "evaluation.bootstrap_samples": 0,
    "members": ["linear"],
    "network": False,
}
ROWS = 300


def table() -> tuple[dict[str, list[Any]], np.ndarray, np.ndarray]:
    """Three classes and two labels that follow numbers and words; a tenth of the classes, and of the first label, are
    wrong: which, `[rows]` bool each."""
    draw = np.random.default_rng(0)
    x, kind = draw.normal(size=(ROWS, 2)), draw.integers(0, 3, ROWS)
    wrong, wrong_tag = draw.random((2, ROWS)) < 0.1
    given = np.where(wrong, (kind + draw.integers(1, 3, ROWS)) % 3, kind)
    tags = (x > 0) ^ np.stack([wrong_tag, np.zeros(ROWS, bool)], 1)
    words = ["a red apple", "a green pear", "a blue plum"]
    return (
        {
            "a": x[:, 0].tolist(),
            "b": x[:, 1].tolist(),
            "about": [f"{words[one]} number {n % 9}" for n, one in enumerate(kind)],
            "kind": [["apple", "pear", "plum"][one] for one in given],
            "tags": [[name for name, has in zip(("p", "q"), row, strict=True) if has] for row in tags],
        },
        wrong,
        wrong_tag,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    folder = tmp_path_factory.mktemp("curation") / "model"
    outputs = {"kind": "classification", "tags": "multilabel_classification"}
    return polymodal.fit(table()[0], recipe={"outputs": outputs}, settings=SETTINGS, out=folder), folder


def test_planted_wrong_labels_are_flagged(model: tuple[Model, Path], tmp_path: Path) -> None:
    rows, wrong, wrong_tag = table()
    found = curate(model[0], rows, CurationOptions(folds=3), out=tmp_path / "report")
    assert found.duplicates == {}
    kind, tags = found.labels["kind"], found.labels["tags"]
    flagged = kind.rows[kind.flagged]
    assert wrong[flagged].mean() > 0.9, "chance is 0.1"
    assert np.isin(np.flatnonzero(wrong), flagged).mean() > 0.9
    assert abs(kind.error_rate - wrong.mean()) < 0.03
    truth = np.array(["apple", "pear", "plum"])[
        [("apple" in one) * 0 + ("pear" in one) + 2 * ("plum" in one) for one in rows["about"]]
    ]
    assert np.mean(np.array(kind.suggested)[kind.flagged] == truth[flagged]) > 0.9
    assert sorted(kind.rows.tolist()) == list(range(ROWS))
    of_p = np.array([name.endswith("p") for name in tags.given]) & tags.flagged
    assert wrong_tag[tags.rows[of_p]].mean() > 0.6
    lines = [json.loads(line) for line in (tmp_path / "report/labels.jsonl").read_text().splitlines()]
    assert sum(line["flagged"] for line in lines) == kind.flagged.sum() + tags.flagged.sum()
    assert lines[0]["flagged"]
    assert lines[0]["label"] != lines[0]["suggested"]
    assert f"{int(kind.flagged.sum())}</strong> probably wrong" in (tmp_path / "report/curation.html").read_text()


def test_the_command_checks_labels_with_a_model_without_a_network(model: tuple[Model, Path], tmp_path: Path) -> None:
    rows, _, _ = table()
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({name: cells[n] for name, cells in rows.items()}) for n in range(ROWS)))
    command = ["curate", str(path), "--model", str(model[1]), "--out", str(tmp_path / "out"), "--folds", "2", "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    kind, tags = json.loads(result.stdout)["labels"]
    assert (kind["output"], kind["labels"]) == ("kind", ROWS)
    assert 0.05 * ROWS < kind["probably wrong"] < 0.2 * ROWS
    assert tags["labels"] == 2 * ROWS


def test_what_has_no_labels_is_refused(model: tuple[Model, Path]) -> None:
    rows, _, _ = table()
    with pytest.raises(DataError, match="kind"):
        curate(model[0], {name: cells for name, cells in rows.items() if name != "kind"})
    numbers = polymodal.fit({"a": rows["a"], "b": rows["b"]}, "b", settings=SETTINGS)
    with pytest.raises(RecipeError, match="no output of classes or labels"):
        curate(numbers, rows, CurationOptions(find=["labels"]))


def test_a_class_that_no_row_has_is_never_suggested() -> None:
    p = np.array([[0.2, 0.3, 0.5], [0.6, 0.2, 0.2], [0.1, 0.7, 0.2]])
    assert confident_classes(p, np.array([0, 0, 1])).tolist() == [0, 0, 1]
