"""Windows over long items: what happens after the first window decides, and models with windows find it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import polymodal
from laws.samples import prepare
from polymodal.experiments.row_facts import RowsWarning

RATE = 4_000


def series(rows: int, seed: int) -> dict[str, list[Any]]:
    """Noise over 4 windows of 64 steps, with a ramp that rises or falls in one of the last three."""
    draw = np.random.default_rng(seed)
    cells, labels = [], []
    for row in range(rows):
        values = draw.normal(0, 0.3, 256)
        start = int(draw.integers(1, 4)) * 64 + int(draw.integers(4, 20))
        values[start : start + 40] += np.linspace(-3, 3, 40) * (1 if row % 2 else -1)
        cells.append(values)
        labels.append("up" if row % 2 else "down")
    return {"x": cells, "label": labels}


def sounds(rows: int, seed: int) -> dict[str, list[Any]]:
    """Noise over 3 windows of 0.3 s, with a low or a high note in one of the last two."""
    draw = np.random.default_rng(seed)
    cells, labels = [], []
    for row in range(rows):
        values = draw.normal(0, 0.05, int(0.9 * RATE))
        start = int(draw.integers(1, 3)) * int(0.3 * RATE) + int(draw.integers(0, 300))
        note = 0.3 * np.sin(2 * np.pi * (400 if row % 2 else 900) * np.arange(600) / RATE)
        values[start : start + 600] += note
        cells.append({"array": values.astype(np.float32), "sampling_rate": RATE})
        labels.append("low" if row % 2 else "high")
    return {"x": cells, "label": labels}


def clips(rows: int, seed: int) -> dict[str, list[Any]]:
    """Gray noise over 16 frames; a red or a blue square appears in three, between the 4 that one window holds."""
    draw = np.random.default_rng(seed)
    cells, labels = [], []
    for row in range(rows):
        frames = draw.integers(90, 160, (16, 32, 32, 1), dtype=np.uint8).repeat(3, axis=3)
        start = int(draw.choice([3, 7, 11]))
        frames[start : start + 3, 4:28, 4:28] = (230, 20, 20) if row % 2 else (20, 20, 230)
        cells.append(frames)
        labels.append("red" if row % 2 else "blue")
    return {"x": cells, "label": labels}


CASES: dict[str, dict[str, Any]] = {
    "time_series": {
        "rows": series,
        "modality": {"num_steps": 65, "long_series": "truncate"},
        "windows": 4,
        "encoder": {"name": "minirocket", "num_features": 336, "dropout": 0.0},
        "epochs": 30,
    },
    "audio": {
        "rows": sounds,
        "modality": {"seconds": 0.31, "sampling_rate": RATE},
        "windows": 3,
        "encoder": {"name": "audio_cnn", "n_mels": 16, "num_layers": 2},
        "epochs": 12,
    },
    "video": {
        "rows": clips,
        "modality": {"num_frames": 4, "image_size": 32},
        "windows": 4,
        "encoder": {"name": "frame_encoder", "temporal": "mean"},
        "epochs": 5,
    },
}


def accuracy(modality: str, **recipe: Any) -> float:
    """The accuracy on new rows."""
    case = CASES[modality]
    options = {"name": modality, **case["modality"], **recipe.pop("options", {})}
    keys = {
        "inputs": {"x": {"modality": options, **recipe.pop("input", {})}},
        "evaluation": {"unimodal_scores": "none", "bootstrap_samples": 0},
        **recipe,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RowsWarning)
        model = polymodal.fit(case["rows"](60, 0), "label", test=case["rows"](60, 1), recipe=keys)
    found: float = model.metrics["test"]["label"]["accuracy"]["value"]
    return found


@pytest.mark.parametrize("modality", CASES)
def test_a_network_with_windows_finds_what_follows_the_first_window(modality: str) -> None:
    """The classes are equally frequent: the constant prediction scores 0.5, and so does a network that cuts."""
    case = CASES[modality]
    training = {"epochs": case["epochs"], "num_threads": 1, "precision": "fp32", "batch_size": 16}

    def score(**options: Any) -> float:
        own = {"input": {"encoder": case["encoder"]}, "training": training, "hidden_size": 32}
        return accuracy(modality, options=options, **own)

    assert score() < 0.7
    assert score(max_windows=case["windows"]) > 0.9


@pytest.mark.parametrize("modality", CASES)
def test_so_do_estimators_on_the_features(modality: str) -> None:
    own = {"members": ["linear"], "network": False}
    features = {"features": ["minirocket"]} if modality == "time_series" else {}
    assert accuracy(modality, input=features, **own) < 0.7
    assert accuracy(modality, input=features, options={"max_windows": CASES[modality]["windows"]}, **own) > 0.9


@pytest.mark.parametrize(
    ("modality", "sentence"),
    [
        ("time_series", "5 of 5 series have 130 steps or more: only these are used (num_steps, max_windows)"),
        (
            "audio",
            "5 of 5 sounds are 0.62 s or longer: only the start is used, up to this limit (seconds, max_windows)",
        ),
    ],
)
def test_what_exceeds_all_windows_is_said_with_numbers(modality: str, sentence: str) -> None:
    case = CASES[modality]
    columns = case["rows"](5, 0)
    for windows, said in ((2, sentence), (case["windows"], "")):
        options = {"name": modality, **case["modality"], "max_windows": windows}
        inputs = {"x": {"modality": options, "columns": ["x"]}}
        preparation, prepared = prepare(columns, inputs=inputs, outputs={"label": "classification"})
        assert preparation.modalities["x"].shortened(prepared.inputs["x"]) == said
