"""Every pretrained encoder learns a signal planted in its modality, from a tiny checkpoint with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from laws.checkpoints import WORDS, checkpoint
from polymodal import fit
from polymodal.core.registry import components

ROWS = 160


def texts(label: int, draw: np.random.Generator) -> Any:
    """Which of two words is in a text of random other words."""
    words = draw.choice(WORDS[2:], 5).tolist()
    words[int(draw.integers(5))] = WORDS[label]
    return " ".join(words)


def pictures(label: int, draw: np.random.Generator) -> Any:
    """A red or a blue square somewhere in noise."""
    pixels = draw.integers(0, 90, (32, 32, 3), dtype=np.uint8)
    row, column = draw.integers(0, 16, 2)
    pixels[row : row + 16, column : column + 16, 2 * label] = 255
    return Image.fromarray(pixels)


def sounds(label: int, draw: np.random.Generator) -> Any:
    """A low or a high note under noise."""
    time = np.arange(8_000) / 16_000
    note = np.sin(2 * np.pi * (300, 2_000)[label] * time + draw.uniform(0, 6))
    return {"array": (0.4 * note + draw.normal(0, 0.05, len(time))).astype(np.float32), "sampling_rate": 16_000}


def clips(label: int, draw: np.random.Generator) -> Any:
    """Frames that become brighter, or darker."""
    light = np.linspace(40, 200, 4)[:: 1 if label else -1]
    noise = draw.normal(0, 12, (4, 32, 32, 3))
    return (light[:, None, None, None] + noise).clip(0, 255).astype(np.uint8)


PLANTED: dict[str, Callable[[int, np.random.Generator], Any]] = {
    "text": texts,
    "image": pictures,
    "audio": sounds,
    "video": clips,
}


def test_every_pretrained_encoder_is_tested() -> None:
    assert {f"pretrained_{name}" for name in PLANTED} == {
        name for name in components("encoder") if name.startswith("pretrained_")
    }


@pytest.mark.parametrize("modality", PLANTED)
def test_full_fine_tuning_learns_the_planted_signal(modality: str) -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, 2 * ROWS)
    cells = [PLANTED[modality](int(label), draw) for label in labels]
    answers = np.where(labels, "b", "a").tolist()
    encoder = {
        "name": f"pretrained_{modality}",
        "checkpoint": checkpoint(modality),
        "fine_tuning": "full",
        "lr_multiplier": 1.0,
        "layer_decay": 1.0,
    }
    model = fit(
        {"x": cells[:ROWS], "y": answers[:ROWS]},
        "y",
        recipe={
            "hidden_size": 16,
            "inputs": {"x": {"modality": modality, "encoder": encoder}},
            "training": {"epochs": 25, "batch_size": 16, "num_threads": 1, "precision": "fp32", "learning_rate": 5e-3},
            "evaluation": {"bootstrap_samples": 0, "unimodal_scores": "none"},
        },
    )
    right = np.mean([a == b for a, b in zip(model.predict({"x": cells[ROWS:]}), answers[ROWS:], strict=True)])
    assert right > 0.9
