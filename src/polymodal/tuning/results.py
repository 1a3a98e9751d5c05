"""What a search found."""

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
    """What a search found.

    folder: where everything was written
    model: the best recipe trained on all rows; ensemble: the chosen members, None where one model is best alone
    best: the candidate of that recipe; its score is that of the best of many, which flatters it
    entries: trials and baselines, the best first; failed: trials that could not be run
    selection: the ensemble's members, weights and out-of-fold score
    corrected: of `best` and `ensemble`, the score that the choice does not flatter
    front: candidates that no other is as good as in every objective
    audit: what each input is worth
    seconds: of `baselines`, `search`, `models` and all (`total`)
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
    front: list[Candidate]
    audit: AuditResult
    objectives: list[str]
    seconds: dict[str, float]

    @property
    def recipe(self) -> Recipe:
        """The best recipe."""
        return self.model.recipe

    def to_dict(self) -> dict[str, Any]:
        """Everything but models and distributions, JSON-ready."""
        chosen = self.selection
        return {
            "output": self.folds.output,
            "metric": self.folds.metric.name,
            "greater_is_better": self.folds.metric.greater_is_better,
            "rows": len(self.folds.fold_of),
            "folds": len(self.folds),
            "objectives": self.objectives,
            "best": self.best.name,
            "score": metric_value(self.best.score, self.folds),
            "corrected": {name: vars(one) for name, one in self.corrected.items()},
            "ensemble": None
            if chosen is None
            else {
                "method": chosen.method,
                "members": [member.name for member in chosen.members],
                "weights": chosen.weights,
                "score": metric_value(chosen.score, self.folds),
            },
            "front": [one.name for one in self.front],
            "audit": self.audit.to_dict(),
            "leaderboard": entries_json(self.entries, self.folds),
            "failed": [vars(attempt) for attempt in self.failed],
            "faults": record_json(self.model.run.cell_errors),
            "seconds": self.seconds,
        }
