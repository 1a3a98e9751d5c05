"""Recipe section `evaluation`: confidence intervals, and scores of single inputs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from polymodal.core.options import StrictModel


class EvaluationOptions(StrictModel):
    """Computation of the final scores."""

    bootstrap_samples: int = Field(default=1000, ge=0)
    """Bootstrap samples of the rows for each interval; 0 for scores without intervals."""
    confidence_level: float = Field(default=0.95, gt=0, lt=1)
    """Confidence level of the intervals."""
    unimodal_scores: Literal["train", "mask", "none"] = "train"
    """Scores with only one input: of a model trained on only that input (`train`), of this model with all other inputs
    masked (`mask`), or not computed (`none`)."""
