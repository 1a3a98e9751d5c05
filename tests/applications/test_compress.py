"""Smaller forms of a model: what they keep, what they cost, and what is chosen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from polymodal import ensemble, fit, load
from polymodal.applications.compression import FORMATS, FormatMeasurement, _select, compress, convert_model
from polymodal.checkpoint.int8 import Int8Linear, dequantize, quantize
from polymodal.checkpoint.weight_format import WeightFormat
from polymodal.cli.commands import app
from polymodal.core.errors import PolymodalError
from polymodal.model.model import Model
from polymodal.runtime.cpu_kernels import supports_int8


def rows(count: int, seed: int) -> dict[str, list[object]]:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(count, 4))
    noun = draw.choice(["apple", "pear", "plum"], count)
    label = np.where(x[:, 0] + (noun == "plum") > 0.3, "yes", "no")
    return {
        **{f"x{i}": x[:, i].tolist() for i in range(4)},
        "noun": [f"a {n} it is" for n in noun],
        "y": label.tolist(),
    }


@pytest.fixture(scope="module")
def model() -> Model:
    recipe = {
        "hidden_size": 96,
        "inputs": {
            "x": {"modality": "number", "columns": [f"x{i}" for i in range(4)]},
            "noun": {"modality": "text", "encoder": {"name": "transformer", "dropout": 0.0}},
        },
        "training": {"epochs": 8, "num_threads": 1, "precision": "fp32"},
        "evaluation": {"bootstrap_samples": 0, "unimodal_scores": "none"},
    }
    return fit(rows(400, 0), "y", recipe=recipe)


def test_rounding_is_within_half_a_step_and_stable() -> None:
    torch.manual_seed(0)
    weight = torch.randn(48, 3, 5, 5) * torch.logspace(-6, 2, 48)[:, None, None, None]
    whole, scale = quantize(weight)
    again, same = quantize(dequantize(whole, scale))
    assert whole.dtype == torch.int8
    assert bool(((dequantize(whole, scale) - weight).abs() <= 0.5001 * scale[:, None, None, None]).all())
    assert torch.equal(whole, again)
    torch.testing.assert_close(scale, same)
    zeros, tiny = quantize(torch.zeros(2, 3))
    assert not zeros.any()
    assert bool(torch.isfinite(dequantize(zeros, tiny)).all())


def test_int8_layers_are_close_and_rows_do_not_touch_each_other() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(128, 64)
    exact = Int8Linear(layer)
    x = torch.randn(6, 5, 128) * torch.logspace(-3, 3, 6)[:, None, None]
    whole = exact(x).detach()
    assert whole.shape == (6, 5, 64)
    reference = layer(x).detach()
    for row in range(6):
        assert float((whole[row] - reference[row]).abs().max()) < 0.03 * float(reference[row].abs().max())
        torch.testing.assert_close(exact(x[row : row + 1])[0], whole[row], rtol=1e-6, atol=1e-6 * 1000**row)
    assert list(exact.state_dict()) == ["weight", "bias"]
    assert exact(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_form_is_saved_and_loads_to_the_same_predictions(name: str, model: Model, tmp_path: Path) -> None:
    small = convert_model(model, FORMATS[name])
    small.save(tmp_path / "small")
    model.save(tmp_path / "model")
    back = load(tmp_path / "small")
    test = rows(60, 9)
    assert isinstance(back, Model)
    assert back.weight_format == FORMATS[name]
    np.testing.assert_array_equal(back.predict_proba(test), small.predict_proba(test))
    np.testing.assert_allclose(back.predict_proba(test), model.predict_proba(test), atol=0.05)
    share = (tmp_path / "small/model.safetensors").stat().st_size / (
        tmp_path / "model/model.safetensors"
    ).stat().st_size
    assert share < {"fp32": 1.01, "bf16": 0.6, "int8_weight_only": 0.4, "int8_dynamic": 0.4}[name]
    back.save(tmp_path / "again")
    again = load(tmp_path / "again").predict_proba(test)
    np.testing.assert_allclose(again, back.predict_proba(test), atol=1e-6)


def test_int8_dynamic_computes_in_int8(model: Model) -> None:
    small = convert_model(model, FORMATS["int8_dynamic"])
    kinds = [type(module) for module in small.network.modules()]
    assert kinds.count(Int8Linear) > 3
    assert nn.Linear not in [type(m) for m in model.network.modules() if isinstance(m, Int8Linear)]
    test = rows(40, 9)
    assert (small.predict_proba(test) != convert_model(model, FORMATS["int8_weight_only"]).predict_proba(test)).any()
    one = small.predict_proba({name: cells[:1] for name, cells in test.items()})
    np.testing.assert_allclose(one, small.predict_proba(test)[:1], atol=1e-5)


def test_a_processor_without_int8_gives_the_same_predictions_and_a_message(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = convert_model(model, FORMATS["int8_dynamic"]).predict_proba(rows(40, 9))
    for module in ("applications.compression", "checkpoint.weight_format", "checkpoint.int8"):
        monkeypatch.setattr(f"polymodal.{module}.supports_int8", lambda: False)
    with pytest.warns(UserWarning, match=r"VNNI.*in fp32"):
        small = convert_model(model, FORMATS["int8_dynamic"])
    np.testing.assert_allclose(small.predict_proba(rows(40, 9)), wanted, rtol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        layer = next(module for module in small.network.modules() if isinstance(module, Int8Linear))
        x = torch.randn(3, layer.in_features, generator=torch.Generator().manual_seed(0))
        found = layer(x)
    assert found.dtype == torch.float32
    assert torch.equal(found, layer(x))
    with pytest.raises(PolymodalError, match=r"VNNI.*use int8_weight_only or bf16"):
        compress(model, rows(40, 3), dtype="int8_dynamic")
    assert {one.dtype for one in compress(model, rows(40, 3)).measurements} == {"fp32", "bf16", "int8_weight_only"}


def test_the_smallest_form_that_is_good_enough_is_chosen(model: Model, tmp_path: Path) -> None:
    found = compress(model, rows(200, 7), out=tmp_path / "small", tolerance=0.02)
    by_name = {one.dtype: one for one in found.measurements}
    assert found.chosen.startswith("int8")
    assert by_name["fp32"].agreement == 1.0
    assert by_name["int8_weight_only"].size_mib < by_name["bf16"].size_mib < by_name["fp32"].size_mib
    assert all(one.score is not None and one.score > 0.85 and one.latency_ms > 0 for one in found.measurements)
    written = json.loads((tmp_path / "small/compression.json").read_text())
    assert written["chosen"] == found.chosen
    assert load(tmp_path / "small").predict(rows(5, 1)) == found.model.predict(rows(5, 1))


def measured(dtype: str, size: float, score: float, latency: float = 1.0, many: float = 100.0) -> FormatMeasurement:
    return FormatMeasurement(dtype, size, latency, many, score, 1.0)


def test_a_form_that_changes_no_weight_is_not_chosen() -> None:
    recipe = {
        "hidden_size": 8,
        "inputs": {"x": {"modality": "number", "columns": ["x0"], "encoder": "linear"}},
        "fusion": "concat",
        "training": {"epochs": 1, "num_threads": 1, "precision": "fp32"},
        "evaluation": {"bootstrap_samples": 0, "unimodal_scores": "none"},
    }
    small = fit({name: rows(60, 0)[name] for name in ("x0", "y")}, "y", recipe=recipe)
    result = compress(small, rows(40, 1))
    assert result.chosen == "fp32"
    assert result.model.weight_format == FORMATS["fp32"]
    assert [one.dtype for one in result.measurements] == ["fp32"]
    with pytest.raises(PolymodalError, match="would change nothing"):
        compress(small, rows(40, 1), dtype="int8_weight_only")


def test_the_choice() -> None:
    full, half = measured("fp32", 4, 0.9), measured("bf16", 2, 0.9)
    assert _select([full, half, measured("int8_weight_only", 1, 0.898)], 0.005, True) == "int8_weight_only"
    assert _select([full, half, measured("int8_weight_only", 1, 0.88)], 0.005, True) == "bf16"
    assert _select([full, measured("bf16", 2, 0.8), measured("int8_weight_only", 1, 0.8)], 0.005, True) == "fp32"
    quick, slow = (
        measured("int8_dynamic", 1, 0.9, many=150),
        measured("int8_dynamic", 1, 0.9, latency=2, many=150),
    )
    assert _select([full, half, measured("int8_weight_only", 1, 0.9), quick], 0.005, True) == "int8_dynamic"
    assert _select([full, half, measured("int8_weight_only", 1, 0.9), slow], 0.005, True) == "int8_weight_only"
    assert (
        _select([measured("fp32", 4, 10.0), measured("int8_weight_only", 1, 10.04)], 0.005, False) == "int8_weight_only"
    )
    assert _select([measured("fp32", 4, 10.0), measured("int8_weight_only", 1, 10.1)], 0.005, False) == "fp32"


def test_the_command_and_its_refusals(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    table = tmp_path / "rows.jsonl"
    held = rows(40, 3)
    table.write_text("".join(json.dumps({k: v[i] for k, v in held.items()}) + "\n" for i in range(40)))
    arguments = [
        "compress",
        str(tmp_path / "model"),
        str(table),
        "--out",
        str(tmp_path / "small"),
        "--dtype",
        "int8_weight_only",
    ]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["chosen"] == "int8_weight_only"
    assert {one["dtype"] for one in found["formats"]} == set(FORMATS) - (set() if supports_int8() else {"int8_dynamic"})
    with pytest.raises(PolymodalError, match="unknown dtype"):
        compress(model, held, dtype="int4")
    ensemble([model, model]).save(tmp_path / "two")
    refused = CliRunner().invoke(app, ["compress", str(tmp_path / "two"), str(table), "--out", str(tmp_path / "x")])
    assert "training.distillation.teacher" in str(refused.exception)


def test_forms_refuse_unknown_values() -> None:
    with pytest.raises(ValueError, match="weights"):
        WeightFormat(weights="int4")  # type: ignore[arg-type]
