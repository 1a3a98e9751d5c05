"""Exports to ONNX: the graph predicts what the model predicts, for any number of rows, length and missing inputs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

import polymodal
from command_line import run_command
from polymodal.core.errors import ArtifactError, DataError, OutputError, PolymodalError, RecipeError
from polymodal.export.onnx import export_onnx, run_check
from polymodal.export.onnx_model import OnnxModel
from polymodal.model.model import Model

SETTINGS: dict[str, Any] = {
    "members": [],
    "hidden_size": 16,
    "size": "tiny",
    "fusion": "attention",
    "training.epochs": 2,
    "training.precision": "fp32",
    "training.num_threads": 1,
    "evaluation.bootstrap_samples": 0,
    "evaluation.unimodal_scores": "none",
    "inputs.picture": {"modality": {"name": "image", "image_size": 32}},
    "data.infer_other_columns": True,
}


def rows(seed: int, count: int = 40) -> dict[str, list[Any]]:
    """Numbers, a category, texts of several lengths and pictures, each missing in some rows; a class and a number."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    words = ["a", "big", "small", "thing", "of", "glass"]
    return {
        "size": [None if row % 7 == 2 else float(draw.normal()) for row in range(count)],
        "weight": draw.normal(size=count).tolist(),
        "color": [None if row % 9 == 4 else ["red", "green", "blue"][row % 3] for row in range(count)],
        "note": [None if row % 5 == 0 else " ".join(draw.choice(words, 1 + row % 11)) for row in range(count)],
        "picture": [None if row % 6 == 1 else Image.fromarray(one) for row, one in enumerate(pixels)],
        "kind": [f"kind {row % 3}" for row in range(count)],
        "price": (100 + 10 * draw.normal(size=count)).tolist(),
    }


@pytest.fixture(scope="module")
def model() -> Model:
    return polymodal.fit(rows(0), ["kind", "price"], settings=SETTINGS)


@pytest.fixture(scope="module")
def exported(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "graph"
    found = export_onnx(model, rows(1, 12), folder)
    assert (found.parity_rows, found.folder) == (12, folder)
    assert found.gap < 1e-5
    return folder


@pytest.mark.parametrize("count", [1, 2, 37])
def test_the_graph_predicts_what_the_model_predicts(model: Model, exported: Path, count: int) -> None:
    graph, new = OnnxModel(exported, num_threads=1), rows(2 + count, count)
    wanted, found = model.predict_proba(new), graph.predict_proba(new)
    np.testing.assert_allclose(found["kind"], wanted["kind"], atol=1e-5)
    np.testing.assert_allclose(found["price"], wanted["price"], rtol=1e-5)
    assert graph.predict(new)["kind"] == model.predict(new)["kind"]


@pytest.mark.parametrize("kept", ["size", "color", "note", "picture"])
def test_rows_with_one_input_alone(model: Model, exported: Path, kept: str) -> None:
    """Also an input that no row of the table has."""
    table = rows(50, 6)
    value = next(one for one in table[kept] if one is not None)
    alone = {name: [value if name == kept else None] * 2 for name in table if name not in ("kind", "price")}
    found = OnnxModel(exported, num_threads=1).predict_proba(alone)
    np.testing.assert_allclose(found["kind"], model.predict_proba(alone)["kind"], atol=1e-5)


def test_the_check_needs_no_polymodal_and_sees_a_difference(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    code = "import runpy, sys; sys.modules['polymodal'] = None; sys.modules['torch'] = None; runpy.run_path('check.py')"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert json.loads(done.stdout)["rows"] == 12, done.stderr
    stored = load_file(folder / "parity.safetensors")
    stored["output.kind"] = stored["output.kind"] + np.float32(0.01)
    save_file(stored, folder / "parity.safetensors")
    with pytest.raises(PolymodalError, match=r"differs from the model by 0\.01"):
        run_check(folder)


def test_the_description_names_every_tensor_of_the_graph(model: Model, exported: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(exported / "model.onnx"))
    described = json.loads((exported / "export.json").read_text())
    tensors = {one["name"]: one for one in described["inputs"]}
    for one in session.get_inputs():
        fixed = [size if isinstance(size, int) else None for size in one.shape]
        wanted = [size if isinstance(size, int) else None for size in tensors[one.name]["shape"]]
        assert fixed == wanted, one.name
    assert [one["name"] for one in described["outputs"]] == [one.name for one in session.get_outputs()]
    assert described["outputs"][0]["labels"] == model.classes["kind"]


def test_what_cannot_be_exported_is_refused_with_the_reason(model: Model, tmp_path: Path) -> None:
    fast = {"evaluation.bootstrap_samples": 0}
    table = {name: rows(0)[name] for name in ("size", "weight", "kind")}
    members = polymodal.fit(table, "kind", quality="fast", settings=fast)
    with pytest.raises(RecipeError, match="--into network"):
        export_onnx(members, table, tmp_path / "members")
    blank = {**rows(1, 4), "picture": [None] * 4}
    with pytest.raises(DataError, match="no row has the input 'picture'"):
        export_onnx(model, blank, tmp_path / "blank")
    with pytest.raises(DataError, match="at least 2 rows"):
        export_onnx(model, rows(1, 1), tmp_path / "one")
    assert not list(tmp_path.iterdir())


def test_texts_are_not_exported(tmp_path: Path) -> None:
    texts = {"color": ["red", "blue"] * 10, "said": ["it is red", "it is blue"] * 10}
    task = {"outputs.said.task": "text_generation"}
    settings = {
        name: value for name, value in SETTINGS.items() if name.split(".")[0] not in ("inputs", "data", "fusion")
    }
    writer = polymodal.fit(texts, "said", settings=settings | task)
    with pytest.raises(RecipeError, match="text_generation cannot be exported"):
        export_onnx(writer, texts, tmp_path / "texts")


def test_an_encoder_without_a_graph_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    table = {"signal": [draw.normal(size=30) for _ in range(20)], "kind": ["a", "b"] * 10}
    settings = {
        name: SETTINGS[name] for name in SETTINGS if name.split(".")[0] in ("members", "training", "evaluation")
    }
    series = polymodal.fit(table, "kind", settings=settings | {"inputs.signal.encoder": "minirocket"})
    with pytest.raises(RecipeError, match=r"inputs.signal.encoder: it cannot be exported.*inception_time"):
        export_onnx(series, table, tmp_path / "graph")
    assert not list(tmp_path.iterdir())


def test_nothing_is_replaced_unless_asked(model: Model, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        export_onnx(model, rows(1, 12), exported)
    with pytest.raises(ArtifactError, match="no export"):
        OnnxModel(tmp_path)


def test_a_failed_export_leaves_nothing(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("no such operator")

    monkeypatch.setattr("torch.export.export", refuse)
    with pytest.raises(PolymodalError, match="torch cannot export this network: no such operator"):
        export_onnx(model, rows(1, 12), tmp_path / "graph")
    assert not (tmp_path / "graph").exists()


def test_the_command_refuses_an_ensemble(model: Model, tmp_path: Path) -> None:
    polymodal.ensemble([model, model]).save(tmp_path / "both")
    done = run_command("export", "both", "nothing.csv", "--out", "graph", cwd=tmp_path)
    assert done.returncode == 2
    assert "an ensemble cannot be exported" in " ".join(done.stderr.split())
    assert not (tmp_path / "graph").exists()
