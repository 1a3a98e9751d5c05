"""What `fit` says before it trains."""

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


def test_fit_tells_what_learns_where_not_everything_does(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    encoder = {"name": "pretrained_text", "checkpoint": checkpoint("text")}
    for options, told in (({"fine_tuning": "freeze"}, True), ({"fine_tuning": "full"}, False)):
        recipe = Recipe.read(
            {**QUICK, "hidden_size": 16, "inputs": {"note": {"modality": "text", "encoder": {**encoder, **options}}}}
        )
        model = fit(TABLE, "y", recipe=recipe, progress=True)
        said = capfd.readouterr().err
        assert (f"{model.run.parameters.trainable:,} learn" in said) == told
        assert (model.run.parameters.trainable < model.run.parameters.total) == told
    fit(TABLE, "y", recipe=recipe, settings=["inputs.note.encoder.fine_tuning=frozen"])
    assert "learn" not in capfd.readouterr().err


def test_inputs_alone_take_the_features_of_the_whole_run(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    opened: list[bool] = []
    whole = feature_cache.encode_frozen_input

    def counted(*arguments: Any, views: bool = False, **more: Any) -> Any:
        opened.append(views)
        return whole(*arguments, augmented_copies=views, **more)

    monkeypatch.setattr(feature_cache, "input_features", counted)
    encoder = {"name": "pretrained_text", "checkpoint": checkpoint("text")}
    inputs = {"note": {"modality": "text", "encoder": encoder}, "size": "number"}
    fit({**TABLE, "size": [1.0, 2.5, 3.0] * 10}, "y", recipe={**QUICK, "hidden_size": 16, "inputs": inputs})
    assert opened == [True]
