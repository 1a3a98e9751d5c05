"""A candidate of a search: its out-of-fold predictions, its scores and its costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from polymodal.checkpoint.model_directory import file_sha256, json_ready, read_json, unsigned, verify_file, write_signed
from polymodal.checkpoint.reading import parsing
from polymodal.core.writing import atomic_path

#: A trial (a network of all inputs), a unimodal network (or the best unimodal ensemble), or a baseline.
CandidateKind = Literal["trial", "unimodal", "baseline"]

#: Distributions `[rows, k]` by output, rows in the order of the table, NaN for rows without a prediction.
Distributions = dict[str, np.ndarray]


@dataclass(frozen=True)
class Candidate:
    """The results of one recipe or one baseline on the folds.

    name: unique among the candidates of a search (`trial 3`, `ridge: text`)
    recipe: the recipe as plain values; None for baselines
    distributions: out-of-fold distributions `[rows, k]` by output, with the classes of the whole table; NaN for folds
        that were not run
    score: the first metric of the first output over all predicted rows; greater is better (errors are negated)
    metrics: `metrics[output][metric]` has `value`, `low` and `high` (None if undefined or not computed)
    fold_scores: `score` of each fold
    seconds: time of preparation, training and scoring over all folds
    num_parameters, size_mib: number of parameters (trained and frozen) and size of the weights, of the last fold
    latency_ms: median prediction time of one row, of the last fold; None if not measured
    num_folds: number of folds that were run
    memory_mib: training memory, of the last fold; None if not measured
    notes: what the time limit changed
    """

    name: str
    kind: CandidateKind
    recipe: dict[str, Any] | None
    distributions: Distributions
    score: float
    metrics: dict[str, dict[str, dict[str, float | None]]]
    fold_scores: list[float]
    seconds: float
    num_parameters: int
    size_mib: float
    latency_ms: float | None
    num_folds: int
    memory_mib: float | None = None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Everything except the distributions, as JSON-compatible values."""
        values = {key: value for key, value in vars(self).items() if key != "distributions"}
        return json_ready(values) | {"outputs": list(self.distributions)}

    def save(self, folder: Path, stem: str) -> None:
        """Write `stem.json` and an array `stem.<n>.npy` for the n-th output. The JSON file is written last, so that a
        candidate with a JSON file is complete."""
        for index, values in enumerate(self.distributions.values()):
            with atomic_path(folder / f"{stem}.{index}.npy") as part, part.open("wb") as file:
                np.save(file, values, allow_pickle=False)
        sums = [file_sha256(folder / f"{stem}.{index}.npy") for index in range(len(self.distributions))]
        write_signed(folder / f"{stem}.json", self.to_dict() | {"sha256": sums})

    @classmethod
    def load(cls, folder: Path, stem: str) -> Candidate:
        """Load a candidate that was written by `save`.

        Raises:
            ArtifactError: a file is missing, was changed, or cannot be read.
        """
        path = folder / f"{stem}.json"
        values = unsigned(read_json(path), path)
        with parsing(path):
            outputs, sums = values.pop("outputs"), values.pop("sha256")
            for index, checksum in enumerate(sums):
                verify_file(folder, f"{stem}.{index}.npy", checksum)
            distributions = {
                name: np.load(folder / f"{stem}.{index}.npy", allow_pickle=False) for index, name in enumerate(outputs)
            }
            scores = {"score": _number(values["score"])}
            fold_scores = [_number(value) for value in values["fold_scores"]]
            return cls(**{**values, **scores, "fold_scores": fold_scores, "distributions": distributions})


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
