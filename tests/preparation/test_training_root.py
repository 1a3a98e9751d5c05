"""The root of training is saved relative to the table, and told when paths cannot be read. It never reads files."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from polymodal import load
from polymodal.core.errors import ArtifactError, DataError
from polymodal.data.table.cell_errors import BadCellsWarning, CellErrors
from polymodal.model.model import Model
from polymodal.preparation.training_root import TrainingRoot
from polymodal.workflows.fit import fit

QUICK: dict[str, Any] = {
    "hidden_size": 8,
    "inputs": {
        "photo": {"modality": {"name": "image", "image_size": 32}, "encoder": {"name": "resnet", "channels": 8}}
    },
    "training": {"epochs": 1, "batch_size": 8, "precision": "fp32", "num_threads": 1},
    "evaluation": {"bootstrap_samples": 0, "unimodal_scores": "none"},
}
ROWS = {"photo": [f"{row}.png" for row in range(20)], "kind": ["a", "b"] * 10}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`photos` with the files, and `tables/train.csv` beside it."""
    folder: Path = tmp_path_factory.mktemp("roots")
    for name in ("photos", "tables", "elsewhere"):
        (folder / name).mkdir()
    for row in range(20):
        Image.new("RGB", (32, 32), (250, 0, 0) if row % 2 else (0, 0, 250)).save(folder / "photos" / f"{row}.png")
    lines = ["photo,kind", *(f"{path},{kind}" for path, kind in zip(ROWS["photo"], ROWS["kind"], strict=True))]
    for name in ("tables/train.csv", "photos/beside.csv", "elsewhere/new.csv"):
        (folder / name).write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, Model]:
    """A model for each way to give the root."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ways = {
            "relative to the table": fit(folder / "tables" / "train.csv", "kind", root=folder / "photos", recipe=QUICK),
            "the folder of the table": fit(folder / "photos" / "beside.csv", "kind", recipe=QUICK),
            "in memory": fit(ROWS, "kind", root="photos", recipe=QUICK),
            "in memory, absolute": fit(ROWS, "kind", root=folder / "photos", recipe=QUICK),
        }
    ways["outside"] = fit(ROWS, "kind", root=folder / "photos", recipe=QUICK)
    for name, model in ways.items():
        ways[name] = load(model.save(folder / "models" / name.replace(" ", "")))
    return ways


ADVICE = {
    "relative to the table": "in training, the root was '../photos', relative to the folder of the table",
    "the folder of the table": "in training, the root was the folder of the table",
    "in memory": "in training, root='photos' was given",
    "in memory, absolute": "in training, root='photos' was given",
    "outside": "in training, root='{folder}/photos' was given",
}


@pytest.mark.parametrize("way", ADVICE)
def test_a_path_without_a_root_tells_the_root_of_training(way: str, models: dict[str, Model], folder: Path) -> None:
    """In every call of a loaded model, and no file is read."""
    advice = ADVICE[way].format(folder=folder)
    model, rows = models[way], {"photo": ["3.png"], "kind": ["b"]}
    calls: list[Callable[[], Any]] = [
        lambda: model.predict(rows),
        lambda: model.predict_proba(rows),
        lambda: model.evaluate(rows),
        lambda: model.embed(rows),
        lambda: model.embed(rows, input="photo"),
    ]
    for call in calls:
        with pytest.warns(BadCellsWarning) as caught:
            call()
        (bad,) = [one for one in caught if issubclass(one.category, BadCellsWarning)]
        assert advice in str(bad.message)
        assert bad.filename == __file__
    with pytest.raises(DataError, match=r"a path needs a root folder; pass `root` \(--root\)"):
        model.predict(rows, strict=True)
    errors = CellErrors()
    list(model.stream(model.open(rows), errors))
    assert [advice in error.reason for error in errors.errors] == [True]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(rows, root=folder / "photos")


def test_a_table_elsewhere_is_told_the_same_relative_root(models: dict[str, Model], folder: Path) -> None:
    table = folder / "elsewhere" / "new.csv"
    with pytest.warns(BadCellsWarning, match=f"'../photos', relative to the folder.*pass root='{folder}/photos'"):
        models["relative to the table"].predict(table)
    with pytest.warns(BadCellsWarning) as caught:
        models["in memory"].predict(table)
    assert "in training" not in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        models["relative to the table"].predict(table, root=folder / "photos")


def test_no_path_of_this_machine_is_saved_if_it_can_be_relative(models: dict[str, Model], folder: Path) -> None:
    for way in ADVICE:
        saved = (folder / "models" / way.replace(" ", "") / "preparation.json").read_text()
        assert (str(folder) in saved) == (way == "outside")


@pytest.mark.parametrize("state", [[], {}, {"path": 3, "base": "table"}, {"path": ".", "base": "moon"}, None])
def test_a_damaged_root_is_refused(state: Any) -> None:
    with pytest.raises(ArtifactError, match="root"):
        TrainingRoot.from_dict(json.loads(json.dumps(state)))
