"""Recipe section `evaluation`: intervals of the scores, and the scores of single inputs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from polymodal.core.options import StrictModel


class EvaluationOptions(StrictModel):
    """How the final scores are computed."""

    bootstrap_samples: int = Field(default=1000, ge=0)
    """Resamples of the rows behind each interval; 0 for scores without intervals."""
    confidence_level: float = Field(default=0.95, gt=0, lt=1)
    """Coverage of the intervals."""
    unimodal_scores: Literal["train", "mask", "none"] = "train"
    """Scores of each input alone: by a model trained on that input alone (`train`), by this model with the
    other inputs masked (`mask`), or not at all (`none`)."""
