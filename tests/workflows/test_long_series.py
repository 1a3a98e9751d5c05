"""Long series: all steps count by default, and a run says what it shortens."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import polymodal
from polymodal.experiments.row_facts import RowsWarning

STEPS = 600


def table(rows: int, seed: int) -> dict[str, list[Any]]:
    """Noise with a ramp that rises or falls, somewhere between step 400 and the end."""
    draw = np.random.default_rng(seed)
    series, labels = [], []
    for _ in range(rows):
        label = int(draw.integers(2))
        values = draw.normal(0, 0.3, STEPS)
        start = int(draw.integers(400, STEPS - 60))
        values[start : start + 60] += np.linspace(-3, 3, 60) * (1 if label else -1)
        series.append(values)
        labels.append("up" if label else "down")
    return {"signal": series, "label": labels}


def accuracy(**modality: Any) -> tuple[float, tuple[str, ...]]:
    """The accuracy on new rows, and the notes of the run."""
    encoder = {"name": "minirocket", "num_features": 336, "dropout": 0.0}
    recipe = {
        "inputs": {"signal": {"modality": {"name": "time_series", **modality}, "encoder": encoder}},
        "training": {"epochs": 30, "num_threads": 1, "precision": "fp32"},
        "evaluation": {"unimodal_scores": "none", "bootstrap_samples": 0},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RowsWarning)
        model = polymodal.fit(table(120, 0), "label", test=table(100, 1), recipe=recipe)
    return model.metrics["test"]["label"]["accuracy"]["value"], model.run.data_notes


def test_a_signal_behind_step_256_is_found_and_nothing_is_said() -> None:
    score, notes = accuracy()
    assert score > 0.9  # the constant prediction: about 0.5
    assert notes == ()


def test_a_series_over_the_limit_is_averaged_and_the_run_says_so() -> None:
    score, notes = accuracy(num_steps=200)
    assert score > 0.9
    assert [note.partition(": ")[2] for note in notes] == [
        "120 of 120 series have more than 200 steps: up to 3 neighboring steps are averaged (num_steps, max_windows)",
        "100 of 100 series have more than 200 steps: up to 3 neighboring steps are averaged (num_steps, max_windows)",
    ]


def test_a_truncated_series_loses_the_signal_and_the_run_says_so() -> None:
    score, notes = accuracy(num_steps=256, long_series="truncate")
    assert score < 0.7
    assert notes[0].endswith("120 of 120 series have 256 steps or more: only these are used (num_steps, max_windows)")


def test_the_notes_are_warnings() -> None:
    with pytest.warns(RowsWarning, match="of 10 series have more than 300 steps"):
        polymodal.fit(
            table(10, 0),
            "label",
            recipe={
                "inputs": {"signal": {"modality": {"name": "time_series", "num_steps": 300}, "encoder": "minirocket"}},
                "training": {"epochs": 1},
                "evaluation": {"unimodal_scores": "none", "bootstrap_samples": 0},
            },
        )
