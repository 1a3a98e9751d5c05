"""Scores of written texts against references, equal to the field's reference implementations."""

from polymodal.metrics.text.catalogue import TEXT_METRICS, text_metrics
from polymodal.metrics.text.facts import fact_f1
from polymodal.metrics.text.pass_at_k import pass_at_k

__all__ = ["TEXT_METRICS", "fact_f1", "pass_at_k", "text_metrics"]
