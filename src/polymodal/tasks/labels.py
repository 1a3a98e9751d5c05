"""Labels as users write them: text, numbers or true/false, each kept in its own type."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

Label = str | int | float | bool


def read_label(cell: Any) -> Label:
    """The label that `cell` holds.

    Raises:
        ValueError: it cannot be a label; the message is the reason for a fault report.
    """
    value = cell.item() if isinstance(cell, np.generic) else cell
    if not isinstance(value, Label):
        raise ValueError(f"a label must be text, a number or true/false, not {type(cell).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a label")
    return value


def key(label: Label) -> tuple[bool, Label]:
    """What makes two labels the same: 1 and 1.0 are, 1 and true are not, 1 and the text "1" are not."""
    return isinstance(label, bool), label


def text(label: Label) -> str:
    """The label in tables, reports and recipe keys: `true` and `false` as in YAML, the rest as it is."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def few(labels: list[Label], one: str, many: str) -> list[str]:
    """Sentences about `labels`: up to three with `one` (a place for the label), more in a single sentence
    with `many` (places for their number and an example)."""
    if len(labels) <= 3:
        return [one.format(label) for label in labels]
    return [many.format(len(labels), labels[0])]


class Labels:
    """The known labels in their order: true/false, then numbers, then text, each ascending."""

    def __init__(self, labels: Iterable[Label]) -> None:
        self.values: list[Label] = sorted(labels, key=_rank)
        self._number = {key(label): number for number, label in enumerate(self.values)}

    def __len__(self) -> int:
        return len(self.values)

    def number(self, label: Label) -> int:
        """The place of `label` in the order.

        Raises:
            ValueError: it did not occur in training; the message is the reason for a fault report.
        """
        place = self._number.get(key(label))
        if place is None:
            raise ValueError(f"label {label!r} does not occur in the training rows")
        return place


def _rank(label: Label) -> tuple[int, Any]:
    return (2, label) if isinstance(label, str) else (0 if isinstance(label, bool) else 1, label)
