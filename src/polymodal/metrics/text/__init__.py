"""Metrics of generated texts against references. They equal the reference implementations of the field."""

from polymodal.metrics.text.catalog import TEXT_METRICS, text_metrics
from polymodal.metrics.text.fact_scores import fact_f1
from polymodal.metrics.text.pass_at_k import pass_at_k

__all__ = ["TEXT_METRICS", "fact_f1", "pass_at_k", "text_metrics"]
