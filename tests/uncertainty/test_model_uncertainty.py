"""Models answer with a coverage: from fit to the saved model, in every form of rows, with typed errors."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polymodal import Ensemble, Model, ensemble, fit, load
from polymodal.core.errors import ArtifactError, DataError, PolymodalWarning, RecipeError
from polymodal.data.table.cell_errors import CellErrors
from polymodal.model.prediction_files import collect
from polymodal.uncertainty.conformal_sets import Conformal

QUICK: dict[str, Any] = {
    "hidden_size": 8,
    "training.epochs": 4,
    "training.num_threads": 1,
    "training.precision": "fp32",
    "evaluation.bootstrap_samples": 0,
    "evaluation.unimodal_scores": "none",
}


def table(rows: int, seed: int) -> dict[str, list[Any]]:
    """A noisy class and a noisy number of `x`, which a third of the rows lack; `kind` is known in all."""
    draw = np.random.default_rng(seed)
    x, kind = draw.normal(size=rows), draw.integers(0, 2, rows)
    known = draw.random(rows) < 0.67
    label = x + 0.5 * kind + 0.7 * draw.normal(size=rows) > 0
    return {
        "x": [float(one) if has else None for one, has in zip(x, known, strict=True)],
        "kind": ["b" if one else "a" for one in kind],
        "grade": ["high" if one else "low" for one in label],
        "price": (2 * x + draw.normal(size=rows)).tolist(),
    }


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("models") / "network"
    settings = {**QUICK, "members": [], "data.split.validation_size": 0.4, "training.learning_rate": 0.01}
    fit(table(1000, 0), ["grade", "price"], settings=settings, out=folder)
    return load(folder)


@pytest.fixture(scope="module")
def members() -> Model:
    rows = {name: cells for name, cells in table(600, 1).items() if name != "price"}
    return fit(rows, "grade", settings={"members": ["linear"], "evaluation.bootstrap_samples": 0})


def test_a_saved_network_covers_new_rows_in_each_pattern(network: Model) -> None:
    rows = table(4000, 2)
    found = network.predict(rows, coverage=0.9)
    held = np.array([one in some for one, some in zip(rows["grade"], found["grade"], strict=True)])
    inside = np.array([low <= y <= high for y, (low, high) in zip(rows["price"], found["price"], strict=True)])
    known = np.array([one is not None for one in rows["x"]])
    for group in (known, ~known):  # the coverage with 270 or 130 calibration rows varies by 2 to 3 points
        assert held[group].mean() > 0.83  # of two classes, both are in the set of a row that says little
        assert 0.83 < inside[group].mean() < 0.97
    widths = np.array([high - low for low, high in found["price"]])
    assert widths[~known].mean() > 1.2 * widths[known].mean()


def test_the_rows_of_members_are_predicted_out_of_fold(members: Model) -> None:
    assert len(members.calibration["grade"]) > 500  # nearly all rows, and not the tenth for validation
    rows = table(4000, 3)
    for within in ("inputs", "classes", "all"):
        found = members.predict(rows, coverage=0.85, score="aps", within=within)
        held = np.mean([one in some for one, some in zip(rows["grade"], found, strict=True)])
        assert 0.8 < held < 0.93, within


def test_abstention_keeps_the_risk_and_answers_more_with_more_risk(members: Model) -> None:
    rows = table(4000, 4)
    plain, before = members.predict(rows), np.zeros(4000, bool)
    for risk in (0.15, 0.2, 0.25):
        found = members.predict(rows, max_risk=risk)
        answered = np.array([one is not None for one in found])
        assert (answered >= before).all()
        before = answered
        assert all(a is None or a == b for a, b in zip(found, plain, strict=True))
        assert np.mean([a != y for a, y in zip(found, rows["grade"], strict=True) if a is not None]) < risk + 0.02
    assert before.any()
    assert not before.all()
    curve = members.risk_coverage(rows)
    assert curve.at(0.3) < curve.at(0.6) < curve.at(1.0)


def test_new_calibration_rows_replace_the_old_ones(members: Model, tmp_path: Path) -> None:
    copy = Model(members.recipe, members.preparation, None, run=members.run, ensemble=members.ensemble)
    with pytest.raises(RecipeError, match=r"no calibration rows for the output 'grade'.*Model\.calibrate"):
        copy.predict(table(3, 5), coverage=0.9)
    assert copy.calibrate(table(300, 6)) is copy
    assert len(copy.calibration["grade"]) == 300
    copy.save(tmp_path / "copy")
    rows = {"x": [0.1, 0.9], "kind": ["a", "b"], "grade": ["low", "high"]}
    assert load(tmp_path / "copy").predict(rows, coverage=0.9) == copy.predict(rows, coverage=0.9)
    with pytest.raises(DataError, match="usable target"):
        copy.calibrate({**rows, "grade": [None] * 2})


def test_a_damaged_file_is_an_error(members: Model, tmp_path: Path) -> None:
    members.save(tmp_path / "model")
    shutil.copy(tmp_path / "model" / "members.safetensors", tmp_path / "model" / "calibration.safetensors")
    with pytest.raises(ArtifactError, match=r"calibration\.safetensors was changed"):
        load(tmp_path / "model")
    (tmp_path / "model" / "calibration.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"calibration\.safetensors is missing"):
        load(tmp_path / "model")


def test_sets_are_columns_of_files_and_keep_the_form_of_the_rows(network: Model) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(table(5, 8), index=list("vwxyz"))
    found = network.predict(frame, coverage=0.9)
    assert list(found.columns) == ["grade", "price"]
    assert list(found.index) == list("vwxyz")
    rows = collect(network, network.open(frame), CellErrors(), probabilities=False, options=Conformal(0.9))
    assert list(rows[0]) == ["grade", "grade.probability", "grade.set", "price", "price.low", "price.high"]
    assert [one["grade.set"] for one in rows] == found["grade"].tolist()
    assert [(one["price.low"], one["price.high"]) for one in rows] == found["price"].tolist()


def test_a_combination_of_inputs_that_calibration_lacks_is_a_warning(network: Model) -> None:
    with pytest.warns(PolymodalWarning, match="the inputs present in 1 row of 2 are a combination"):
        network.predict({"x": [0.1, 0.2], "kind": ["a", None]}, coverage=0.9)


def test_contradicting_options_and_models_without_rows_are_errors(network: Model) -> None:
    rows = table(3, 9)
    with pytest.raises(RecipeError, match="score: belongs to coverage"):
        network.predict(rows, score="aps")
    with pytest.raises(RecipeError, match="give coverage or max_risk"):
        network.predict(rows, coverage=0.9, max_risk=0.1)
    with pytest.raises(RecipeError, match="'price' has no classes"):
        network.risk_coverage(rows, output="price")
    both: Ensemble = ensemble([network, network])
    with pytest.raises(RecipeError, match="coverage: needs one model"):
        collect(both, both.open(rows), CellErrors(), probabilities=False, options=Conformal(0.9))
