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
        first = {"output": output} if len(found) > 1 else {}
        removed.append({**first, "without": "(nothing)", "score": one.value, "loss": None})
        removed += [
            {**first, "without": name, "score": removal.value, "loss": removal.loss}
            for name, removal in one.removed.items()
        ]
        for name, kinds in one.damaged.items():
            for kind, curve in kinds.items():
                scores = {f"{strength:g}": value for strength, value in zip(one.strengths, curve.scores, strict=True)}
                damage = kind.replace("_", " ")
                damaged.append({**first, "input": name, "damage": damage, **scores, "area": curve.area})
    return [grid(removed), "", *([grid(damaged)] if damaged else [])]
