"""What an audit of the inputs finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from polymodal.checkpoint.model_directory import json_ready
from polymodal.tuning.best_vs_unimodal import UnimodalComparison

Verdict = Literal["own", "redundant", "together", "none"]


@dataclass(frozen=True)
class Estimate:
    """A number with its bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class InputAudit:
    """What one input is worth.

    alone: v(i); unique: v(all) - v(all without i), what no other input says
    metric_alone: the first metric with this input alone; metric_unique: by how much all inputs are better in it than
        all but this one (greater is better)
    verdict: `own` (says something that no other input says), `redundant` (all it says is said by `partners`),
        `together` (says nothing by itself, but something with `partners`), `none` (no information found)
    """

    name: str
    alone: Estimate
    unique: Estimate
    metric_alone: float | None
    metric_unique: Estimate
    verdict: Verdict
    partners: list[str]
    sentence: str


@dataclass(frozen=True)
class PairAudit:
    """What two inputs share. `shared` = v(i) + v(j) - v(ij) is redundancy less synergy, and is all that can be told of
    them without further assumptions; each lies between bounds `(least, most)`.

    finding: `redundant` or `synergy` where the sign of `shared` is sure and its size relevant, else None
    """

    first: str
    second: str
    together: Estimate
    shared: Estimate
    redundancy: tuple[float, float]
    synergy: tuple[float, float]
    finding: Literal["redundant", "synergy"] | None


@dataclass(frozen=True)
class OutputAudit:
    """The audit of one output.

    unit: what v is measured in; metric: the first metric
    values: v of every subset of inputs that was tried; inputs joined by " + "
    best_input: the input of greatest v alone
    beyond_best: v(all) - v(best input), and the same in the first metric (greater is better)
    model: the best network of the search against the best candidate of one input; None where there are none of each
    sentence: whether several inputs pay
    """

    output: str
    unit: str
    metric: str
    values: dict[str, Estimate]
    inputs: list[InputAudit]
    pairs: list[PairAudit]
    best_input: str
    beyond_best: Estimate
    metric_beyond_best: Estimate
    model: UnimodalComparison | None
    sentence: str


@dataclass(frozen=True)
class AuditResult:
    """The audit of every output that is decided once a row. notes: what was left out, and why."""

    outputs: dict[str, OutputAudit]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        found: dict[str, Any] = json_ready(asdict(self))
        return found
