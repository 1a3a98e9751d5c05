"""Labels as users write them: text, numbers or true/false, each kept in its own type."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from polymodal.data.table.block import RowBlock

T = TypeVar("T")
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


def label_key(label: Label) -> tuple[bool, Label]:
    """What makes two labels the same: 1 and 1.0 are, 1 and true are not, 1 and the text "1" are not."""
    return isinstance(label, bool), label


@dataclass(frozen=True)
class LabelCounts:
    """The labels of a column.

    labels: each as it was written first
    counts: in how many rows each is, by its `key`
    rows: how many rows could be read
    problem: why the first of the others could not, in brackets; "" where all could
    """

    labels: list[Label]
    counts: Counter[tuple[bool, Label]]
    rows: int
    problem: str

    def count(self, label: Label) -> int:
        """In how many rows a label is."""
        return self.counts[label_key(label)]


def read_labels(blocks: Iterable[RowBlock], column: str, read: Callable[[Any], Iterable[Label]]) -> LabelCounts:
    """Count the labels that `read` finds in the cells of a column."""
    labels: dict[tuple[bool, Label], Label] = {}
    counts: Counter[tuple[bool, Label]] = Counter()
    rows, problems = 0, list[str]()
    for cell in parse_cells(blocks, column, read, problems):
        found = {label_key(label): label for label in cell}
        counts.update(found.keys())
        for one, label in found.items():
            labels.setdefault(one, label)
        rows += 1
    return LabelCounts(list(labels.values()), counts, rows, first_problem(problems))


def parse_cells(blocks: Iterable[RowBlock], column: str, read: Callable[[Any], T], problems: list[str]) -> Iterator[T]:
    """What `read` makes of every cell of a column but null and those that it refuses by a ValueError; the message of
    the first of these goes to `problems`."""
    for block in blocks:
        for cell in block.cells(column):
            if cell is None:
                continue
            try:
                found = read(cell)
            except ValueError as error:
                if not problems:
                    problems.append(str(error))
                continue
            yield found


def first_problem(problems: list[str]) -> str:
    """What `parse_cells` has told, in brackets, for the end of a sentence; "" where there is nothing."""
    return f" ({problems[0]})" if problems else ""


def label_text(label: Label) -> str:
    """The label in tables, reports and recipe keys: `true` and `false` as in YAML, the rest as it is."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def summarize_labels(labels: list[Label], one: str, many: str) -> list[str]:
    """Sentences about `labels`: up to three with `one` (a place for the label), more in a single sentence
    with `many` (places for their number and an example)."""
    if len(labels) <= 3:
        return [one.format(label) for label in labels]
    return [many.format(len(labels), labels[0])]


class LabelVocabulary:
    """The known labels in their order: true/false, then numbers, then text, each ascending."""

    def __init__(self, labels: Iterable[Label]) -> None:
        self.values: list[Label] = sorted(labels, key=_rank)
        self._number = {label_key(label): number for number, label in enumerate(self.values)}

    def __len__(self) -> int:
        return len(self.values)

    def index(self, label: Label) -> int:
        """The place of `label` in the order.

        Raises:
            ValueError: it did not occur in training; the message is the reason for a fault report.
        """
        place = self._number.get(label_key(label))
        if place is None:
            raise ValueError(f"label {label!r} does not occur in the training rows")
        return place


def _rank(label: Label) -> tuple[int, Any]:
    return (2, label) if isinstance(label, str) else (0 if isinstance(label, bool) else 1, label)
