"""Cost of the contributions of inputs."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.measure import interleaved
from benchmarks.record import Record
from polymodal.datasets.planted import make_planted_images, make_planted_table
from polymodal.workflows.fit import fit

#: Exact Shapley values of 4 inputs may cost at most 6 predictions of the rows.
TARGET = 1 / 6


def run(smallest: bool) -> Record:
    """Processor seconds of exact Shapley values of 4 inputs, and of one prediction of the same rows."""
    rows = 40 if smallest else 1000
    record = Record(
        name="contributions",
        title="Contributions of 4 inputs",
        method=(
            f"Model.contributions and Model.predict of {rows:,} rows with an image, a text, a number and a category: "
            "exact Shapley values over the 16 subsets of the inputs, and one prediction. A network with the default "
            "encoders, trained for one epoch, with the fusion in brackets. Processor seconds of one thread."
        ),
        unit="s",
        larger_is_better=False,
    )
    table = columns(rows)
    settings: dict[str, Any] = {
        "inputs": {"image": "image", "note": "text", "length": "number", "maker": "category"},
        "members": [],
        "training.epochs": 1,
        "training.num_threads": 1,
        "training.precision": "fp32",
        "evaluation.bootstrap_samples": 0,
        "evaluation.unimodal_scores": "none",
    }
    for fusion in ("concat", "sequential"):
        model = fit(table, "shape", settings=settings | {"fusion": fusion})
        contestants = {
            f"one prediction ({fusion})": partial(seconds, partial(model.predict, table)),
            f"contributions ({fusion})": partial(seconds, partial(model.contributions, table)),
        }
        interleaved(record, contestants, 1 if smallest else 5)
        record.compare(f"contributions ({fusion})", f"one prediction ({fusion})", TARGET)
    return record


def columns(rows: int) -> dict[str, list[Any]]:
    """A planted table; every text is another."""
    draw = np.random.default_rng(0)
    images, cells = make_planted_images(rows, 0), make_planted_table(rows, 1)
    words = draw.choice(["river", "stone", "cloud", "light", "tree"], (rows, 12))
    notes = [f"{' '.join(some)} {row}" for row, some in enumerate(words)]
    return {name: images[name] for name in ("image", "shape")} | {
        "note": notes,
        "length": cells["length"],
        "maker": cells["maker"],
    }


def seconds(call: Callable[[], object]) -> float:
    """The processor seconds of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start
