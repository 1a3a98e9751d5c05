"""An evaluation encodes each distinct item once, however many times it looks at the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from laws.checkpoints import checkpoint
from laws.frozen_encoders import EncodeCounter
from polymodal import Model, fit
from polymodal.evaluation.robustness import STRENGTHS
from polymodal.nn.encoders.embedding_bag import EmbeddingBag

SETTINGS = {
    "hidden_size": 8,
    "training.epochs": 1,
    "training.num_threads": 1,
    "training.precision": "fp32",
    "training.feature_cache.dtype": "fp32",
    "evaluation.bootstrap_samples": 0,
    "evaluation.unimodal_scores": "mask",
    "inputs.words": {"modality": "text", "encoder": "embedding_bag"},
    "inputs.plain": "number",
}
FROZEN = {"modality": "text", "encoder": {"name": "pretrained_text", "checkpoint": checkpoint("text")}}
WORDS = ["amber", "birch", "cloud", "drift", "ember", "frost"]


def table(first: int, rows: int = 36) -> dict[str, list[Any]]:
    """Rows that share texts: 12 frozen texts and 6 others."""
    return {
        "text": [f"{WORDS[row % 6]} {WORDS[(first + row // 6) % 2]} {first}" for row in range(rows)],
        "words": [f"{WORDS[row % 6]} {first}" for row in range(rows)],
        "plain": [float(row % 5) for row in range(rows)],
        "target": ["a" if row % 2 else "b" for row in range(rows)],
    }


@pytest.fixture(scope="module")
def model() -> Model:
    return fit(table(0), "target", settings=SETTINGS | {"inputs.text": FROZEN})


def test_a_frozen_encoder_runs_once_for_each_item(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = EncodeCounter(monkeypatch)
    scores = model.evaluate(table(1))["target"]["accuracy"]
    assert set(scores["unimodal"]) == {"text", "words", "plain"}
    assert counter.taken("pretrained_text") == 12
    model.evaluate(table(1))
    assert counter.taken("pretrained_text") == 0, "an earlier evaluation has stored the features"
    robustness = model.robustness(table(2))["target"]
    corruptions = robustness.corrupted["text"]
    assert counter.taken("pretrained_text") == 12 * (1 + (len(STRENGTHS) - 1) * len(corruptions))


def test_the_members_of_a_model_encode_an_input_again_only_if_it_is_corrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = {"inputs.text": FROZEN, "inputs.plain": "number", "evaluation.bootstrap_samples": 0}
    model = fit(table(0), "target", quality="fast", settings=inputs)
    counter = EncodeCounter(monkeypatch)
    kinds = model.robustness(table(4))["target"].corrupted
    assert kinds.keys() >= {"text", "plain"}
    assert counter.taken("pretrained_text") == 12 * (1 + (len(STRENGTHS) - 1) * len(kinds["text"]))


def test_a_trained_encoder_runs_once_for_all_hidden_inputs(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    items: list[int] = []
    forward = EmbeddingBag.forward

    def counting(encoder: EmbeddingBag, data: dict[str, Any]) -> Any:
        items.append(len(next(iter(data.values()))))
        return forward(encoder, data)

    monkeypatch.setattr(EmbeddingBag, "forward", counting)
    model.evaluate(table(1))
    assert items == [6]


def test_features_change_no_score(model: Model) -> None:
    """The scores are those of the predictions, with all inputs and with one."""
    rows = table(3)
    found = model.evaluate(rows)["target"]["accuracy"]
    assert found["value"] == np.mean([one == two for one, two in zip(model.predict(rows), rows["target"], strict=True)])
    for name in ("text", "words", "plain"):
        others: dict[str, list[Any]] = {key: [None] * 36 for key in ("text", "words", "plain") if key != name}
        alone = model.predict(rows | others)
        assert found["unimodal"][name] == np.mean([a == b for a, b in zip(alone, rows["target"], strict=True)])
