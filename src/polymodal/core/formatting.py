"""Numbers, times and names as people read them."""

from __future__ import annotations

import math
from typing import Any

_NAMES = {
    "roc_auc": "ROC AUC",
    "precision_macro": "macro precision",
    "recall_macro": "macro recall",
    "precision_micro": "micro precision",
    "recall_micro": "micro recall",
    "f1_macro": "macro F1",
    "f1_micro": "micro F1",
    "segment_f1": "segment F1",
    "segment_f1_macro": "macro segment F1",
    "event_f1": "event F1",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "spearman": "Spearman",
    "bleu": "BLEU",
    "bleu_zh": "BLEU (Chinese)",
    "bleu_char": "BLEU (characters)",
    "chrf": "chrF",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rouge1_multilingual": "ROUGE-1 (any script)",
    "rouge2_multilingual": "ROUGE-2 (any script)",
    "rougeL_multilingual": "ROUGE-L (any script)",
    "meteor": "METEOR",
    "cider": "CIDEr-D",
    "token_f1": "token F1",
    "fact_f1": "fact F1",
    "element_f1": "element F1",
    "vqa_accuracy": "VQA accuracy",
    "wer": "word error rate",
    "cer": "character error rate",
}
_PARTS = {"train": "training", "valid": "validation", "test": "test"}
#: Stands where a score is undefined.
UNDEFINED = "–"


def metric_name(metric: str) -> str:
    return _NAMES.get(metric, metric.replace("_", " "))


def split_name(part: str) -> str:
    return _PARTS.get(part, part)


def format_score(value: float | None) -> str:
    """A score with as many digits as are worth reading."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    size = abs(value)
    if size >= 1e7 or 0 < size < 0.0005:
        return f"{value:.3g}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 100 else f"{value:.3f}"


def format_interval(low: float | None, high: float | None) -> str:
    return UNDEFINED if low is None or high is None else f"{format_score(low)} to {format_score(high)}"


def format_duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def count_noun(number: int, one: str, many: str = "") -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def join_words(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def truncate(value: Any, length: int = 200) -> str:
    """A cell as text of at most `length` characters; floats with six digits, bytes by their number."""
    if isinstance(value, bytes):
        return f"({len(value):,} bytes)"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= length else text[: length - 1] + "…"
