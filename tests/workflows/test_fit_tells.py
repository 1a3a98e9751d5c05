"""Messages of `fit` before training."""

from __future__ import annotations

from typing import Any

import pytest

from laws.checkpoints import checkpoint
from polymodal.preparation import feature_cache
from polymodal.recipe.recipe import Recipe
from polymodal.workflows.fit import fit

TABLE = {"note": ["some short words", "others", "a few more of them"] * 10, "y": ["a", "b", "c"] * 10}
QUICK = {
    "training": {"epochs": 1, "batch_size": 16, "num_threads": 1, "precision": "fp32"},
    "evaluation": {"bootstrap_samples": 10},
}


def test_fit_reports_trainable_parameters_if_some_are_frozen(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    encoder = {"name": "pretrained_text", "checkpoint": checkpoint("text")}
    for options, reported in (({"fine_tuning": "freeze"}, True), ({"fine_tuning": "full"}, False)):
        recipe = Recipe.read(
            {**QUICK, "hidden_size": 16, "inputs": {"note": {"modality": "text", "encoder": {**encoder, **options}}}}
        )
        model = fit(TABLE, "y", recipe=recipe, progress=True)
        printed = capfd.readouterr().err
        assert (f"trainable {model.run.parameters.trainable:,} (" in printed) == reported
        assert (model.run.parameters.trainable < model.run.parameters.total) == reported
    fit(TABLE, "y", recipe=recipe, settings=["inputs.note.encoder.fine_tuning=freeze"])
    assert "trainable" not in capfd.readouterr().err


def test_unimodal_models_share_the_features_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    opened: list[bool] = []
    whole = feature_cache.encode_frozen_input

    def counted(*arguments: Any, augmented_copies: bool = False, **more: Any) -> Any:
        opened.append(augmented_copies)
        return whole(*arguments, augmented_copies=augmented_copies, **more)

    monkeypatch.setattr(feature_cache, "encode_frozen_input", counted)
    encoder = {"name": "pretrained_text", "checkpoint": checkpoint("text")}
    inputs = {"note": {"modality": "text", "encoder": encoder}, "size": "number"}
    fit({**TABLE, "size": [1.0, 2.5, 3.0] * 10}, "y", recipe={**QUICK, "hidden_size": 16, "inputs": inputs})
    assert opened == [True]
