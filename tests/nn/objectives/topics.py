"""Texts of one topic each, for objectives on one input, which should learn which words occur together."""

from __future__ import annotations

from typing import Any

import numpy as np

import polymodal
from polymodal.model.model import Model

SYLLABLES = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
WORDS = np.array([first + last for first in SYLLABLES[:48] for last in ("ta", "ro")]).reshape(8, 12)


def topics(rows: int, seed: int, topical: bool) -> dict[str, Any]:
    """Texts of five words of one of eight topics, or of words of any topic."""
    draw = np.random.default_rng(seed)
    topic = draw.integers(8, size=rows)
    texts = [" ".join(WORDS[t if topical else draw.integers(8, size=5), draw.choice(12, 5, False)]) for t in topic]
    return {"text": texts, "topic": topic}


def pretrained_on_topics(objective: dict[str, Any], *, topical: bool = True, epochs: int = 12) -> Model:
    """A model pretrained on texts only."""
    parts = [{"text": topics(rows, seed, topical)["text"]} for seed, rows in enumerate((384, 192))]
    training = {"epochs": epochs, "batch_size": 64, "learning_rate": 2e-3, "precision": "fp32", "num_threads": 1}
    return polymodal.pretrain(
        parts[0],
        validation=parts[1],
        recipe={
            "inputs": {"text": {"modality": "text", "encoder": "embedding_bag"}},
            "objectives": [objective],
            "hidden_size": 32,
            "training": training,
        },
    )


def named(model: Model, *, topical: bool = True) -> float:
    """Fraction of the other rows whose nearest text, among one text per topic, has their topic."""
    train, valid = topics(384, 0, topical), topics(192, 1, topical)
    vectors = [model.embed({"text": part["text"]}, input="text") for part in (train, valid)]
    first = [int(np.flatnonzero(train["topic"] == topic)[0]) for topic in range(8)]
    nearest = (vectors[1] @ vectors[0][first].T).argmax(1)
    return float((nearest == valid["topic"]).mean())
