"""Results of a search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polymodal.core.record import record_json
from polymodal.model.ensemble import Ensemble
from polymodal.model.model import Model
from polymodal.recipe.recipe import Recipe
from polymodal.tuning.audit_results import AuditResult
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.folds import Folds
from polymodal.tuning.leaderboard import LeaderboardEntry, entries_json, metric_value
from polymodal.tuning.selection import EnsembleSelection
from polymodal.tuning.selection_bias import CorrectedScore
from polymodal.tuning.study import TrialRecord


@dataclass(frozen=True)
class TuningResult:
    """The result of a search.

    folder: output folder
    model: the best recipe, trained on all rows; ensemble: the selected ensemble, None if a single model is best
    best: the best candidate; its score is optimistic, because it was selected by this score
    entries: trials and baselines, best first; failed: trials that failed or did not finish
    selection: members, weights and out-of-fold score of the ensemble
    corrected: the scores of `best` and `ensemble`, corrected for selection bias
    pareto_front: candidates that no other candidate dominates
    audit: the value of each input
    seconds: time of `baselines`, `search`, `models` and `total`
    """

    folder: Path
    folds: Folds
    model: Model
    ensemble: Ensemble | None
    best: Candidate
    entries: list[LeaderboardEntry]
    failed: list[TrialRecord]
    selection: EnsembleSelection | None
    corrected: dict[str, CorrectedScore]
    pareto_front: list[Candidate]
    audit: AuditResult
    objectives: list[str]
    seconds: dict[str, float]

    @property
    def recipe(self) -> Recipe:
        """The best recipe."""
        return self.model.recipe

    def to_dict(self) -> dict[str, Any]:
        """Everything except models and distributions, as JSON-compatible values."""
        selection = self.selection
        return {
            "output": self.folds.output,
            "metric": self.folds.metric.name,
            "greater_is_better": self.folds.metric.greater_is_better,
            "rows": len(self.folds.fold_of),
            "folds": len(self.folds),
            "objectives": self.objectives,
            "best": self.best.name,
            "score": metric_value(self.best.score, self.folds),
            "corrected": {name: vars(score) for name, score in self.corrected.items()},
            "ensemble": None
            if selection is None
            else {
                "method": selection.method,
                "members": [member.name for member in selection.members],
                "weights": selection.weights,
                "score": metric_value(selection.score, self.folds),
            },
            "pareto_front": [candidate.name for candidate in self.pareto_front],
            "audit": self.audit.to_dict(),
            "leaderboard": entries_json(self.entries, self.folds),
            "failed": [vars(trial) for trial in self.failed],
            "cell_errors": record_json(self.model.run.cell_errors),
            "seconds": self.seconds,
        }
