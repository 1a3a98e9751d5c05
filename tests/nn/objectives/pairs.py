"""Pretraining on planted pairs, and the recall of the learned embeddings."""

from __future__ import annotations

from typing import Any

import polymodal
from polymodal.datasets.pairs import make_planted_pairs
from polymodal.model.model import Model

NUMBERS = ["number0", "number1", "number2"]
INPUTS: dict[str, Any] = {
    "text": {"modality": "text", "encoder": {"name": "embedding_bag", "token_dropout": 0.0}},
    "numbers": {"modality": "number", "columns": NUMBERS, "encoder": "periodic"},
}


def pretrained(
    objectives: list[dict[str, Any]] | dict[str, Any],
    *,
    shuffled: bool = False,
    rows: int = 512,
    valid: int = 128,
    inputs: dict[str, Any] = INPUTS,
    training: dict[str, Any] | None = None,
    **recipe: Any,
) -> Model:
    """A model pretrained on planted texts and numbers."""
    parts = [
        make_planted_pairs(count, seed, ("text", "numbers"), shuffled=shuffled)
        for seed, count in enumerate((rows, valid))
    ]
    schedule = {"epochs": 10, "batch_size": 32, "learning_rate": 5e-3, "precision": "fp32", "num_threads": 1}
    return polymodal.pretrain(
        parts[0],
        validation=parts[1],
        recipe={
            "inputs": inputs,
            "objectives": objectives if isinstance(objectives, list) else [objectives],
            "hidden_size": 32,
            "training": {**schedule, **(training or {})},
            "evaluation": {"bootstrap_samples": 20},
            **recipe,
        },
    )


def recall(model: Model, k: int = 10, by: str = "text", wanted: str = "numbers") -> float:
    """Fraction of the validation queries with the matching row among the first `k` results."""
    found: float = model.metrics["validation"][f"{by} -> {wanted}"][f"recall@{k}"]["value"]
    return found


def chance_notices(model: Model) -> list[str]:
    """The notices of the monitor on objectives that learn nothing."""
    return [notice for notice in model.run.notices if "baseline" in notice]
