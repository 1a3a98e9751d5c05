"""One model among many that were tried on the same folds: its out-of-fold answers, its scores and what it costs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from polymodal.checkpoint.model_directory import json_ready, read_json
from polymodal.core.errors import ArtifactError

#: A network of all inputs, a network (or the best ensemble) of one, or a model of fixed features.
CandidateKind = Literal["trial", "single", "baseline"]

#: Distributions `[rows, k]` by output, rows in the order of the table, NaN where a row was not decided.
Distributions = dict[str, np.ndarray]


@dataclass(frozen=True)
class Candidate:
    """What one recipe, or one baseline, does on the folds.

    name: unique among the candidates of a search (`trial 3`, `ridge`)
    recipe: the recipe as plain values; None where it is no network of ours
    distributions: out-of-fold, by output `[rows, k]`, in the classes of the whole table; NaN where a fold was not run
    score: the first metric of the first output over all decided rows together, greater is better: an error has its
        sign turned
    metrics: `metrics[output][metric]` holds `value`, `low` and `high` (None where it is undefined or was not computed)
    fold_scores: as `score`, fold by fold
    seconds: preparation, training and scoring of all folds run
    parameters, size_mib: of the model of the last fold: trained and frozen parameters, and MiB of its weights
    latency_ms: median milliseconds for one row, after the last fold; None where it was not measured
    folds: how many folds were run
    memory_mib: what training holds (`estimate.training_mib`), of the last fold; None where it was not measured
    """

    name: str
    kind: CandidateKind
    recipe: dict[str, Any] | None
    distributions: Distributions
    score: float
    metrics: dict[str, dict[str, dict[str, float | None]]]
    fold_scores: list[float]
    seconds: float
    parameters: int
    size_mib: float
    latency_ms: float | None
    folds: int
    memory_mib: float | None = None

    def facts(self) -> dict[str, Any]:
        """Everything but the distributions, JSON-ready."""
        facts = {key: value for key, value in vars(self).items() if key != "distributions"}
        return json_ready(facts) | {"outputs": list(self.distributions)}

    def save(self, folder: Path, stem: str) -> None:
        """Write `stem.json` and an array `stem.<n>.npy` for the n-th output; the JSON last, so that where it is, all
        is."""
        folder.mkdir(parents=True, exist_ok=True)
        for place, values in enumerate(self.distributions.values()):
            with (folder / f"{stem}.{place}.npy.part").open("wb") as file:
                np.save(file, values, allow_pickle=False)
            (folder / f"{stem}.{place}.npy.part").replace(folder / f"{stem}.{place}.npy")
        part = folder / f"{stem}.json.part"
        part.write_text(json.dumps(self.facts(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        part.replace(folder / f"{stem}.json")

    @classmethod
    def load(cls, folder: Path, stem: str) -> Candidate:
        """Take back what `save` wrote.

        Raises:
            ArtifactError: a file is missing or cannot be read.
        """
        facts = read_json(folder / f"{stem}.json")
        try:
            outputs = facts.pop("outputs")
            distributions = {
                name: np.load(folder / f"{stem}.{place}.npy", allow_pickle=False) for place, name in enumerate(outputs)
            }
            scores = {key: _number(facts[key]) for key in ("score",)}
            fold_scores = [_number(value) for value in facts["fold_scores"]]
            return cls(**{**facts, **scores, "fold_scores": fold_scores, "distributions": distributions})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{folder / stem}.json and its arrays cannot be read: {error!r}") from None


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
