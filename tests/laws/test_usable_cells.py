"""Law 8: nothing is trained on an input without a usable cell, and many unusable cells are a warning."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from laws.samples import FIXED, TARGETS, sample_table
from polymodal import PolymodalClassifier, cross_validate, tune
from polymodal.applications.few_shot.few_shot import FewShot
from polymodal.core.errors import DataError
from polymodal.core.registry import components
from polymodal.data.table.cell_errors import BadCellsWarning
from polymodal.preparation.usable_cells import MAX_BAD_SHARE
from polymodal.workflows.fit import fit, pretrain

ROWS = 24
QUICK: dict[str, Any] = {
    "hidden_size": 16,
    "training": {"epochs": 1, "batch_size": 8, **FIXED},
    "evaluation": {"bootstrap_samples": 0, "unimodal_scores": "none"},
}
#: For each modality: the unusable cell of a row, and a part of the reason.
USELESS: dict[str, tuple[Any, str]] = {
    "image": (lambda row: b"no image %d" % row, "not an image"),
    "audio": (lambda row: b"no sound %d" % row, "not an audio file"),
    "video": (lambda row: b"no video %d" % row, "not a video"),
    "number": (lambda row: float("inf"), "not a finite"),
    "time_series": (lambda row: [[1.0], [2.0 + row]], "channel"),
    "text": (lambda row: " ", "empty"),
    "category": (lambda row: f"label {row}", "min_frequency"),
    "datetime": (lambda row: f"no day {row}", "is not a date"),
}
#: The same for targets.
USELESS_TARGETS: dict[str, Any] = {
    "classification": " ",
    "multilabel_classification": None,
    "regression": "many",
    "metric_learning": None,
    "event_detection": [{"start": 1.0, "end": 0.5, "label": "bark"}],
    "object_detection": [[0.0, 0.0, 0.0, 5.0, "cup"]],
    "text_generation": None,
    "image_generation": b"no image",
}


def broken(modality: str, share: float) -> tuple[dict[str, list[Any]], dict[str, Any], int]:
    """A table and recipe in which this share of the cells of an input cannot be used, and the number of bad rows."""
    columns, recipe = sample_table([modality], ["classification"], rows=ROWS)
    columns["y_classification"] = ["a", "b"] * (ROWS // 2)
    rows = np.arange(round(share * ROWS))
    name = next(iter(recipe["inputs"].values()))["columns"][0]
    cells = [0.5 if cell is None else cell for cell in columns[name]]
    for row in rows:
        cells[row] = USELESS[modality][0](row)
    recipe["inputs"] = {"given": {**recipe["inputs"][f"in_{modality}"], "columns": [name]}}
    if modality == "time_series":
        recipe["inputs"]["given"]["modality"] |= {"channels": 2}
    return {name: cells, "y_classification": columns["y_classification"]}, recipe, len(rows)


def test_every_component_has_a_useless_cell() -> None:
    assert set(USELESS) == set(components("modality"))
    assert set(USELESS_TARGETS) == set(components("task")) == set(TARGETS)


@pytest.mark.parametrize("modality", USELESS)
def test_an_input_without_a_usable_cell_is_refused(modality: str) -> None:
    """By name, with column, reason and count, before anything is trained."""
    columns, recipe, _ = broken(modality, 1.0)
    column = next(iter(columns))
    with pytest.raises(DataError) as caught:
        fit(columns, recipe={**QUICK, **recipe})
    message = str(caught.value)
    assert "'given'" in message
    assert caught.value.column == column
    assert USELESS[modality][1] in message
    assert "ignore_columns" in message


@pytest.mark.parametrize("task", USELESS_TARGETS)
def test_an_output_without_a_usable_target_is_refused(task: str) -> None:
    columns, recipe = sample_table(["number"], [task], rows=ROWS)
    columns[f"y_{task}"] = [USELESS_TARGETS[task]] * ROWS
    with pytest.raises(DataError) as caught:
        fit(columns, recipe={**QUICK, **recipe})
    assert caught.value.column == f"y_{task}"


@pytest.mark.parametrize("modality", [name for name in USELESS if name not in ("text", "category")])
def test_many_unusable_cells_are_a_warning(modality: str) -> None:
    """It names the caller, the column, the count and the reason. Fewer cells are counted only."""
    columns, recipe, bad = broken(modality, 0.3)
    column = next(iter(columns))
    with pytest.warns(BadCellsWarning) as caught:
        model = fit(columns, recipe={**QUICK, **recipe})
    (warned,) = [one for one in caught if issubclass(one.category, BadCellsWarning)]
    assert warned.filename == __file__
    assert f"column {column!r}" in str(warned.message)
    assert f"{bad} of " in str(warned.message)
    assert USELESS[modality][1] in str(warned.message)
    assert model.run.cell_errors.by_column == {column: bad}
    assert model.run.cell_errors.bad_columns == {column: (str(warned.message),)}

    columns, recipe, bad = broken(modality, 1 / ROWS)
    assert 1 / ROWS < MAX_BAD_SHARE
    with warnings.catch_warnings():
        warnings.simplefilter("error", BadCellsWarning)
        model = fit(columns, recipe={**QUICK, **recipe})
    assert model.run.cell_errors.by_column == {column: 1}
    assert model.run.cell_errors.bad_columns == {}


PATHS: dict[str, list[Any]] = {"im": [f"im/{row}.png" for row in range(40)], "y": ["a", "b"] * 20}
SPACE = {"training.learning_rate": [0.001]}
#: Every way to train from a table.
TRAININGS: dict[str, Callable[[Path], Any]] = {
    "fit": lambda out: fit(PATHS, "y", recipe=QUICK),
    "pretrain": lambda out: pretrain({"im": PATHS["im"]}, recipe=QUICK),
    "cross_validate": lambda out: cross_validate(PATHS, "y", recipe=QUICK, folds=2),
    "tune": lambda out: tune(PATHS, "y", recipe=QUICK, space=SPACE, folds=2, trials=1, out=out),
    "estimator": lambda out: PolymodalClassifier(recipe=QUICK).fit(pandas.DataFrame({"im": PATHS["im"]}), PATHS["y"]),
}


@pytest.mark.parametrize("way", TRAININGS)
def test_the_root_that_was_forgotten(way: str, tmp_path: Path) -> None:
    """Finding A5: 120 paths without `root` trained a model of nothing."""
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"column 'im'.*'im' \(image\) has no usable cell.*40 cells.*root"):
        TRAININGS[way](out)
    assert not out.exists()


@pytest.mark.parametrize("absolute", [False, True])
def test_the_root_that_would_work_is_named(absolute: bool, tmp_path: Path) -> None:
    """The files are above the folder of the table, or given by absolute paths."""
    (tmp_path / "im").mkdir()
    (tmp_path / "tables").mkdir()
    for row in range(20):
        (tmp_path / "im" / f"{row}.png").touch()
    start = f"{tmp_path}/im" if absolute else "im"
    lines = ["im,y", *(f"{start}/{row}.png,{'ab'[row % 2]}" for row in range(20))]
    (tmp_path / "tables" / "train.csv").write_text("\n".join(lines))
    root = tmp_path / "im" if absolute else tmp_path
    with pytest.raises(DataError, match=f"These files exist below {root}: pass root='{root}' "):
        fit(tmp_path / "tables" / "train.csv", "y", recipe=QUICK)


def test_few_rows_without_a_usable_cell() -> None:
    columns, recipe = sample_table(["image"], ["classification"], rows=ROWS)
    model = fit(columns, recipe={**QUICK, **recipe})
    rows = {"image": ["a.png", "b.png"], "kind": ["a", "b"]}
    with pytest.raises(DataError, match=r"usable input\. 2 cells: .*root"):
        FewShot.fit(model, rows, "kind", input="in_image")


def test_folds_warn_once() -> None:
    columns, recipe, bad = broken("number", 0.3)
    with pytest.warns(BadCellsWarning) as caught:
        cross_validate(columns, recipe={**QUICK, **recipe}, folds=2)
    assert len(caught) == 1
    assert f"{bad} of " in str(caught[0].message)
    assert caught[0].filename == __file__
