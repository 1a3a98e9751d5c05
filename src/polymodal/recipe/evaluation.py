"""Recipe section `evaluation`: confidence intervals, and scores of single inputs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from polymodal.core.needs import Needs, needs_above
from polymodal.core.options import StrictModel


def _is_scored(run: Any) -> bool:
    """Whether outputs are scored; `pretrain` may share the section with `fit`."""
    return run.workflow == "pretrain" or (bool(run.outputs) and run.workflow != "estimator")


def _scores(own: Any, run: Any) -> bool:
    return _is_scored(run) or run.given.evaluation.bootstrap_samples == 0


def _compares(own: Any, run: Any) -> bool:
    several = _is_scored(run) and len(run.recipe.inputs) > 1
    return several or run.given.evaluation.unimodal_scores == "none"


_INTERVALS = Needs("outputs whose scores are computed; an estimator computes none", _scores)
_COMPARED = Needs("outputs and several inputs, and no estimator", _compares)


class EvaluationOptions(StrictModel):
    """Computation of the final scores."""

    bootstrap_samples: Annotated[int, _INTERVALS] = Field(default=1000, ge=0)
    """Bootstrap samples of the rows for each interval; 0 for scores without intervals."""
    confidence_level: Annotated[float, needs_above("bootstrap_samples", 0)] = Field(default=0.95, gt=0, lt=1)
    """Confidence level of the intervals."""
    unimodal_scores: Annotated[Literal["train", "mask", "none"], _COMPARED] = "train"
    """Scores with only one input: of a model trained on only that input (`train`), of this model with all other inputs
    masked (`mask`), or not computed (`none`)."""
