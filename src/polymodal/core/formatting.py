"""Numbers, times and names formatted for people."""

from __future__ import annotations

import math
import re
from typing import Any

_NAMES = {
    "roc_auc": "ROC AUC",
    "precision_macro": "macro precision",
    "recall_macro": "macro recall",
    "precision_micro": "micro precision",
    "recall_micro": "micro recall",
    "f1_macro": "macro F1",
    "f1_micro": "micro F1",
    "map": "mAP",
    "map_50": "mAP at overlap 0.5",
    "map_small": "mAP of small boxes",
    "map_medium": "mAP of medium boxes",
    "map_large": "mAP of large boxes",
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
_SPLITS = {"train": "training", "validation": "validation", "test": "test"}
# C0 and C1 controls; line separators; what changes the direction of writing; lone surrogates.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
#: Text of an undefined score.
UNDEFINED = "–"


def metric_name(metric: str) -> str:
    """A metric as people read it: `macro F1` for `f1_macro`."""
    return _NAMES.get(metric, metric.replace("_", " "))


def split_name(split: str) -> str:
    """`training` for `train`."""
    return _SPLITS.get(split, split)


def format_score(value: float | None) -> str:
    """A score with three decimals, or fewer digits for large numbers."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    size = abs(value)
    if size >= 1e7 or 0 < size < 0.0005:
        return f"{value:.3g}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 100 else f"{value:.3f}"


def format_interval(low: float | None, high: float | None) -> str:
    """`0.850 to 0.927`."""
    return UNDEFINED if low is None or high is None else f"{format_score(low)} to {format_score(high)}"


def format_duration(seconds: float) -> str:
    """`4.2 s`, `3 min 20 s` or `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def count_noun(number: int, one: str, many: str = "") -> str:
    """A number with its noun in singular or plural.

    >>> count_noun(1, "row"), count_noun(2000, "row"), count_noun(2, "class", "classes")
    ('1 row', '2,000 rows', '2 classes')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def join_words(names: list[str]) -> str:
    """A list in words.

    >>> join_words(["text", "image", "audio"])
    'text, image and audio'
    """
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def truncate(value: Any, length: int = 200) -> str:
    """A cell as text of at most `length` characters: a float with six digits, bytes as their number."""
    if isinstance(value, bytes):
        return f"({len(value):,} bytes)"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= length else text[: length - 1] + "…"


def escape_controls(text: str, keep: str = "", *, unicode_only: bool = False) -> str:
    """The text with control characters as escape sequences: a terminal shows them and does not obey them.

    Characters that change the direction of writing, and lone surrogates, are escaped too.

    keep: control characters that stay, such as the line feeds of a text of several lines
    unicode_only: write four digits of each, as JSON does

    >>> escape_controls("red\\x1b[31m")
    'red\\\\x1b[31m'
    """

    def escaped(found: re.Match[str]) -> str:
        sign = found[0]
        return sign if sign in keep else f"\\u{ord(sign):04x}" if unicode_only else repr(sign)[1:-1]

    return _CONTROLS.sub(escaped, text)


def escape_formula(cell: Any) -> Any:
    """A text that a spreadsheet program would compute with an apostrophe before it; other cells do not change.

    Such a text begins with `=`, `+`, `-`, `@`, a tab or a line end and is no number. Source: OWASP, "CSV Injection".

    >>> escape_formula("=1+1"), escape_formula("-1"), escape_formula(-1.0), escape_formula("red")
    ("'=1+1", '-1', -1.0, 'red')
    """
    if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) and not is_number(cell):
        return f"'{cell}"
    return cell


def is_number(text: str) -> bool:
    """Whether a text reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
