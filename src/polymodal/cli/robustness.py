"""Robustness as tables for the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType

from polymodal.cli.output import grid
from polymodal.evaluation.robustness import Robustness


def grids(found: dict[str, Robustness]) -> list[RenderableType]:
    """Two tables: the score without each input, and with each damaged."""
    removed: list[dict[str, Any]] = []
    damaged: list[dict[str, Any]] = []
    for output, one in found.items():
        removed.append({"output": output, "metric": one.metric, "without": "", "score": one.value, "loss": None})
        for name, removal in one.removed.items():
            removed.append(
                {
                    "output": output,
                    "metric": one.metric,
                    "without": name,
                    "score": removal.value,
                    "loss": removal.loss,
                }
            )
        for name, kinds in one.damaged.items():
            for kind, curve in kinds.items():
                steps = zip(one.strengths, curve.scores, strict=True)
                scores = {f"{strength:g}": value for strength, value in steps}
                damaged.append({"output": output, "input": name, "damage": kind, **scores, "area": curve.area})
    return [grid(removed), "", *([grid(damaged)] if damaged else [])]
