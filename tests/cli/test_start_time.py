"""What the commands import: time to start is time to import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import polymodal

#: Modules that take a tenth of a second or more, or are many, and that no prediction for numbers and texts needs.
HEAVY = (
    *("pandas", "scipy", "sklearn", "transformers", "jinja2", "matplotlib", "optuna", "av", "soundfile", "soxr"),
    *("pyarrow.parquet", "huggingface_hub", "polymodal.evaluation.robustness", "polymodal.model.ensemble"),
    *("polymodal.metrics.text.catalog", "polymodal.applications.few_shot.few_shot", "polymodal.training.trainer"),
    *("polymodal.nn.encoders.resnet", "polymodal.nn.encoders.pretrained_text", "polymodal.nn.fusion.perceiver"),
    *("polymodal.nn.objectives.contrastive", "polymodal.nn.decoders.causal_lm", "polymodal.tasks.event_detection"),
    *("polymodal.modalities.video", "polymodal.data.media.workers.pool", "polymodal.generation.beam_search"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {"training.epochs": 1, "evaluation.bootstrap_samples": 0, "hidden_size": 8, "training.num_threads": 1}
    data = {"length": [1.0, 2.0, 8.0, 9.0] * 5, "text": ["a b", "c d", "e f", "a c"] * 5, "kind": list("ssll") * 5}
    out = tmp_path_factory.mktemp("start") / "model"
    polymodal.fit(data, "kind", settings=settings | {"evaluation.unimodal_scores": "none"}).save(out)
    return out


def test_predicting_one_row_imports_nothing_heavy(folder: Path) -> None:
    """Every name of `HEAVY` exists, so that a rename cannot make this test pass."""
    row = json.dumps({"length": 1.5, "text": "a b"})
    code = f"""
import importlib.util, sys
sys.argv = ["polymodal", "predict", {str(folder)!r}, {row!r}, "--json"]
from polymodal.cli import main
try:
    main()
finally:
    print(sorted(name for name in {HEAVY!r} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    prediction, imported = done.stdout.splitlines()
    assert json.loads(prediction)["predictions"][0]["kind"] in ("s", "l")
    assert imported == "[]"


def test_training_does_not_import_the_compiler_of_torch() -> None:
    """It takes longer than everything else that a small training imports or computes."""
    code = """
import importlib.util, sys
import polymodal
settings = {"training.epochs": 1, "evaluation.bootstrap_samples": 0, "hidden_size": 8, "training.num_threads": 1}
polymodal.fit({"length": [1.0, 2.0, 8.0, 9.0] * 5, "kind": list("ssll") * 5}, "kind", settings=settings)
assert importlib.util.find_spec("torch._dynamo")
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("name", [name for name in HEAVY if name.startswith("polymodal.")])
def test_the_heavy_modules_exist(name: str) -> None:
    __import__(name)


def test_pandas_can_be_used_after_it_was_skipped() -> None:
    code = """
import sys
from polymodal.cli.quick_start import skip_pandas
skip_pandas()
import pyarrow as pa
assert pa.array([1, None]).null_count == 1
assert "pandas" not in sys.modules
assert list(pa.table({"a": [1, 2]}).to_pandas()["a"]) == [1, 2]
import pandas as pd
assert pa.Table.from_pandas(pd.DataFrame({"a": [1.5, None]}), preserve_index=False)["a"].null_count == 1
"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
