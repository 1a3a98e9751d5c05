"""Law 4: what claims to see an interaction learns one, and what cannot does not.

The planted target is the exclusive-or of a bit in input `a` and a bit in input `b`. A model that adds what it reads
from each input, `f(a) + g(b)`, may still name three of the four cases rightly by chance, so accuracy does not tell
it from one that learns a little. The area under the ROC curve does: of the four pairs (a case with "yes", a case
with "no") any sum orders exactly two rightly, whatever f and g are, so it is 1/2.

The planted text names what two inputs hold, one word after the other, so each text decoder has to read both in turn. A
model that reads one of them can be right in a quarter of the rows, however it guesses.

tests/nn/encoders and tests/tasks check that every encoder learns a signal of its modality, and every task its target.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from laws.samples import TEXT_DECODERS, Columns, trained
from polymodal.core.registry import components
from polymodal.datasets.planted import make_exclusive_or
from polymodal.recipe.recipe import DEFAULT_DECODER

#: Inputs are hidden less often than by default: the law is about what a fusion can learn, not about how soon.
TRAINING = {
    "modality_dropout": 0.05,
    "epochs": 10,
    "batch_size": 32,
    "learning_rate": 0.01,
    "early_stopping_patience": 10,
    "average_top_k": 1,
}
TEST = make_exclusive_or(400, seed=3)
FUSIONS: dict[str, Any] = components("fusion")
#: Every fusion as it is, and two that an option turns from additive to interacting or back.
VARIANTS: list[dict[str, Any]] = [
    *({"name": name} for name in FUSIONS),
    {"name": "weighted", "input_dependent": True},
    {"name": "concat", "num_layers": 0},
]


def interacts(options: dict[str, Any]) -> bool:
    component = FUSIONS[options["name"]]
    return component(component.Options(**options), inputs=["a", "b"], width=16).models_interactions


def feature_level(options: dict[str, Any]) -> bool:
    return FUSIONS[options["name"]].level == "feature"


INTERACTING = [options for options in VARIANTS if interacts(options)]
ADDITIVE = [options for options in VARIANTS if feature_level(options) and not interacts(options)]
DECISION_LEVEL = [options for options in VARIANTS if not feature_level(options) and not interacts(options)]


def scores(fusion: dict[str, Any], decoder: str, read: str = "ab") -> tuple[float, float]:
    """Accuracy and area under the ROC curve, on fresh rows, of a model that reads the inputs `read`."""
    parts: dict[str, Columns] = {"train": make_exclusive_or(320, seed=1), "validation": make_exclusive_or(80, seed=2)}
    with TemporaryDirectory() as folder:
        model = trained(
            parts,
            Path(folder),
            inputs={one: {"modality": "number", "columns": [f"{one}{i}" for i in range(4)]} for one in read},
            fusion=fusion,
            outputs={"target": {"task": "classification", "decoder": decoder}},
            training=TRAINING,
        )
    probability = model.predict_proba(TEST)[:, 1]
    truth = [answer == "yes" for answer in TEST["target"]]
    return float(((probability > 0.5) == truth).mean()), float(roc_auc_score(truth, probability))


@pytest.mark.parametrize("options", INTERACTING, ids=str)
def test_a_fusion_that_interacts_solves_it_with_a_linear_decoder(options: dict[str, Any]) -> None:
    accuracy, _ = scores(options, "linear")
    assert accuracy >= 0.85


@pytest.mark.parametrize("options", ADDITIVE, ids=str)
def test_an_additive_fusion_does_not_with_a_linear_decoder(options: dict[str, Any]) -> None:
    _, area = scores(options, "linear")
    assert area <= 0.6


@pytest.mark.parametrize("options", [one for one in VARIANTS if one not in DECISION_LEVEL], ids=str)
def test_every_joint_fusion_output_solves_it_with_the_default_decoder(options: dict[str, Any]) -> None:
    """A hidden layer lets additive fusions interact too."""
    accuracy, _ = scores(options, DEFAULT_DECODER)
    assert accuracy >= 0.84


@pytest.mark.parametrize("options", DECISION_LEVEL, ids=str)
def test_decisions_of_single_inputs_do_not_combine_to_it(options: dict[str, Any]) -> None:
    """Each view is trained on its own loss, and p(yes | one input) is 1/2 whatever the decoder: there is nothing in
    the decisions from which the answer could be combined. A score above chance would mean that a view has seen
    another input."""
    _, area = scores(options, DEFAULT_DECODER)
    assert area <= 0.6


@pytest.mark.parametrize("read", ["a", "b"])
def test_no_single_input_solves_it(read: str) -> None:
    _, area = scores({"name": "concat"}, DEFAULT_DECODER, read)
    assert area <= 0.6


SAID = {"amber": "red", "birch": "tree", "cloud": "sky", "drift": "snow"}
#: Text decoders without pretrained weights; tests/nn/decoders train the pretrained ones.
FROM_SCRATCH: list[dict[str, Any]] = [
    *({"name": name} for name in TEXT_DECODERS if "checkpoint" not in components("decoder")[name].Options.model_fields),
    {"name": "transformer", "ctc_weight": 0.3},
]


def spoken(rows: int, seed: int) -> Columns:
    """Two words, and a text that says each in another word."""
    draw = np.random.default_rng(seed)
    words = [draw.choice(list(SAID), 2).tolist() for _ in range(rows)]
    return {
        "a": [first for first, _ in words],
        "b": [second for _, second in words],
        "target": [f"{SAID[first]} {SAID[second]}" for first, second in words],
    }


def right(decoder: dict[str, Any], read: str = "ab") -> float:
    """The fraction of texts, on new rows, that a model of the inputs `read` generates without an error."""
    with TemporaryDirectory() as folder:
        model = trained(
            {"train": spoken(320, seed=1), "validation": spoken(80, seed=2)},
            Path(folder),
            inputs=dict.fromkeys(read, "category"),
            fusion="attention",
            outputs={"target": {"task": "text_generation", "decoder": decoder}},
            training=TRAINING,
        )
    test = spoken(200, seed=3)
    return float(np.mean([one == other for one, other in zip(model.predict(test), test["target"], strict=True)]))


@pytest.mark.parametrize("decoder", FROM_SCRATCH, ids=str)
def test_every_text_decoder_generates_from_all_inputs(decoder: dict[str, Any]) -> None:
    assert right(decoder) >= 0.9


def test_a_text_decoder_cannot_generate_from_an_input_it_lacks() -> None:
    assert right({"name": "transformer"}, "a") <= 0.4
