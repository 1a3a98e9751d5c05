"""Metrics of generated texts against references. They equal the reference implementations of the field."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polymodal.metrics.text.catalog import TEXT_METRICS, text_metrics
    from polymodal.metrics.text.fact_scores import fact_f1
    from polymodal.metrics.text.program_pass_rate import pass_at_k

__all__ = ["TEXT_METRICS", "fact_f1", "pass_at_k", "text_metrics"]

# The public names and their modules. A module is imported when one of its names is first used.
_PUBLIC = {
    "TEXT_METRICS": "polymodal.metrics.text.catalog",
    "fact_f1": "polymodal.metrics.text.fact_scores",
    "pass_at_k": "polymodal.metrics.text.program_pass_rate",
    "text_metrics": "polymodal.metrics.text.catalog",
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
