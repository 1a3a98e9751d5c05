"""Results of the audit of the inputs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from polymodal.checkpoint.model_directory import json_ready
from polymodal.tuning.best_vs_unimodal import UnimodalComparison

Verdict = Literal["informative", "redundant", "synergistic", "uninformative"]


@dataclass(frozen=True)
class EstimateWithInterval:
    """An estimate with its bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class InputAudit:
    """The value of one input.

    unimodal: v(i); unique: v(all) - v(all without i), the information that no other input has
    metric_unimodal: the first metric with only this input
    metric_unique: improvement of this metric with all inputs over all other inputs (greater is better)
    verdict: `informative`; `redundant` (its information is also in `partners`); `synergistic` (informative only
        together with `partners`); `uninformative`
    summary: the verdict as a text
    """

    name: str
    unimodal: EstimateWithInterval
    unique: EstimateWithInterval
    metric_unimodal: float | None
    metric_unique: EstimateWithInterval
    verdict: Verdict
    partners: list[str]
    summary: str


@dataclass(frozen=True)
class PairAudit:
    """The interaction of two inputs. `co_information` = v(i) + v(j) - v(ij) is redundancy minus synergy. Without
    further assumptions, redundancy and synergy are only known up to bounds `(lower, upper)`.

    joint: v(ij)
    interaction: `redundancy` or `synergy` if `co_information` is significant and relevant, else None
    """

    first: str
    second: str
    joint: EstimateWithInterval
    co_information: EstimateWithInterval
    redundancy: tuple[float, float]
    synergy: tuple[float, float]
    interaction: Literal["redundancy", "synergy"] | None


@dataclass(frozen=True)
class OutputAudit:
    """The audit of one output.

    unit: unit of v; metric: the first metric
    values: v of every evaluated subset; the names of the inputs are joined by " + "
    best_input: the single input with the greatest v
    gain_over_best: v(all) - v(best input); metric_gain_over_best: the same for the first metric (greater is better)
    network_comparison: the best multimodal network compared with the best unimodal candidate; None if one is missing
    summary: whether several inputs predict better than the best single input
    """

    output: str
    unit: str
    metric: str
    values: dict[str, EstimateWithInterval]
    inputs: list[InputAudit]
    pairs: list[PairAudit]
    best_input: str
    gain_over_best: EstimateWithInterval
    metric_gain_over_best: EstimateWithInterval
    network_comparison: UnimodalComparison | None
    summary: str


@dataclass(frozen=True)
class AuditResult:
    """The audit of every output with one prediction per row.

    notes: inputs and outputs that were skipped, with reasons
    """

    outputs: dict[str, OutputAudit]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """The audit as JSON-compatible values."""
        values: dict[str, Any] = json_ready(asdict(self))
        return values
