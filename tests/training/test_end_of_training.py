"""When training ends before the last epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from polymodal import Model, fit
from polymodal.training.validation import SOLVED_EPOCHS, SOLVED_ROWS

SETTINGS = {
    "hidden_size": 16,
    "training.epochs": 40,
    "training.learning_rate": 0.02,
    "training.num_threads": 1,
    "training.precision": "fp32",
    "evaluation.bootstrap_samples": 0,
}


def two_heaps(rows: int, seed: int, *, wrong: int = 0, noise: bool = False) -> dict[str, list[Any]]:
    """Two classes far apart; the labels of the first `wrong` rows are swapped."""
    draw = np.random.default_rng(seed)
    label = draw.integers(2, size=rows)
    columns = {"x": (label * 4 + draw.uniform(0, 1, rows)).tolist()}
    if noise:
        columns["noise"] = draw.normal(size=rows).tolist()
    label[:wrong] = 1 - label[:wrong]
    return {**columns, "kind": [["low", "high"][one] for one in label]}


def trained(rows: int, wrong: int = 0) -> Model:
    settings = SETTINGS | {"evaluation.unimodal_scores": "none"}
    return fit(two_heaps(200, 0), "kind", validation=two_heaps(rows, 1, wrong=wrong), settings=settings)


@pytest.mark.parametrize(("rows", "wrong"), [(SOLVED_ROWS, 0), (SOLVED_ROWS - 1, 0), (SOLVED_ROWS, 1)])
def test_training_ends_when_many_validation_rows_have_no_error(rows: int, wrong: int) -> None:
    """One row less, or one error, and the loss goes on choosing among the epochs."""
    epochs = trained(rows, wrong).run.history
    perfect = [epoch.validation["kind.accuracy"] == 1 for epoch in epochs]
    if rows == SOLVED_ROWS and not wrong:
        assert len(epochs) < 40
        assert all(perfect[-SOLVED_EPOCHS:])
        assert not any(all(perfect[end - SOLVED_EPOCHS : end]) for end in range(SOLVED_EPOCHS, len(epochs)))
    else:
        assert len(epochs) >= 20


def test_a_model_of_one_input_ends_early_and_is_scored() -> None:
    columns = two_heaps(300, 2, noise=True)
    settings = SETTINGS | {"inputs.x": "number", "inputs.noise": "number"}
    model = fit(columns, "kind", settings=settings, test=two_heaps(300, 3, noise=True))
    alone = model.metrics["test"]["kind"]["accuracy"]["unimodal"]
    assert alone["x"] > 0.97
    assert alone["noise"] < 0.65
