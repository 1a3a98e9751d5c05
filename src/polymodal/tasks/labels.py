"""Labels: text, numbers or booleans, each in its own type."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_kinds import plain_text
from polymodal.modalities.cell_parsing import LabelIndex

T = TypeVar("T")
Label = str | int | float | bool


def read_label(cell: Any) -> Label:
    """Read the label of a cell. Blanks around a text do not count.

    Raises:
        ValueError: it is not a label; the message is the reason of the cell error.
    """
    value = cell.item() if isinstance(cell, np.generic) else cell
    if not isinstance(value, Label):
        raise ValueError(f"a label must be text, a number or true/false, not {type(cell).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a label")
    return value.strip() if isinstance(value, str) else value


def label_key(label: Label) -> tuple[bool, Label]:
    """Identity of a label: 1 and 1.0 are equal; 1 and true, and 1 and the text "1", are different."""
    return isinstance(label, bool), label


@dataclass(frozen=True)
class LabelCounts:
    """Labels of a column with their counts.

    labels: each as it is written first
    counts: number of rows of each label, by `label_key`
    rows: number of rows that could be read
    problem: first error in brackets; "" without errors
    """

    labels: list[Label]
    counts: Counter[tuple[bool, Label]]
    rows: int
    problem: str

    def count(self, label: Label) -> int:
        """Number of rows with a label."""
        return self.counts[label_key(label)]


def read_labels(blocks: Iterable[RowBlock], column: str, read: Callable[[Any], Iterable[Label]]) -> LabelCounts:
    """Count the labels that `read` returns for the cells of a column."""
    labels: dict[tuple[bool, Label], Label] = {}
    counts: Counter[tuple[bool, Label]] = Counter()
    rows, problems = 0, list[str]()
    for cell in parse_cells(blocks, column, read, problems):
        by_key = {label_key(label): label for label in cell}
        counts.update(by_key.keys())
        for label_id, label in by_key.items():
            labels.setdefault(label_id, label)
        rows += 1
    return LabelCounts(list(labels.values()), counts, rows, first_problem(problems))


def parse_cells(blocks: Iterable[RowBlock], column: str, read: Callable[[Any], T], problems: list[str]) -> Iterator[T]:
    """Yield `read(cell)` for each cell of a column. Skips null and cells for which it raises ValueError; the first
    message is appended to `problems`."""
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
    """The first problem of `parse_cells` in brackets, for the end of a sentence; "" if there is none."""
    return f" ({problems[0]})" if problems else ""


def label_text(label: Label) -> str:
    """Label in tables, reports and recipe keys: `true` and `false` as in YAML, other labels unchanged."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def summarize_labels(labels: list[Label], one: str, many: str) -> list[str]:
    """Notes on `labels`: up to three sentences of the template `one` (label), or one of `many` (number, example)."""
    if len(labels) <= 3:
        return [one.format(label) for label in labels]
    return [many.format(len(labels), labels[0])]


class LabelVocabulary:
    """The known labels in order: booleans, numbers, text, each ascending.

    A label that is unknown in its own type is looked up by its text, and then by its value: "1", 1.0 and true find the
    label 1, and 1.1 finds the text "1.10", if exactly one label has this value.

    Example:
        >>> vocabulary = LabelVocabulary([0, 1])
        >>> vocabulary.index("1"), vocabulary.index(False)
        (1, 0)
    """

    def __init__(self, labels: Iterable[Label]) -> None:
        self.values: list[Label] = sorted(labels, key=_rank)
        self._index = {label_key(label): index for index, label in enumerate(self.values)}
        texts = [label_text(label) for label in self.values]
        times = Counter(texts)
        self._by_text = LabelIndex({text: at for at, text in enumerate(texts) if times[text] == 1})

    def __len__(self) -> int:
        return len(self.values)

    def check_type(self, label: Label) -> Label:
        """`label`, unless it is a text that no label of its kind could be: `?` among numbers.

        Raises:
            ValueError: the known labels are numbers or booleans, and the label is another text.
        """
        if isinstance(label, str) and self.values and not any(isinstance(value, str) for value in self.values):
            try:
                self.index(label)
            except ValueError:
                kind = "true or false" if isinstance(self.values[0], bool) else "a number"
                raise ValueError(f"label {label!r} is not {kind}, as the labels of the training rows are") from None
        return label

    def index(self, label: Label) -> int:
        """Index of `label`.

        Raises:
            ValueError: it does not occur in the training rows; the message is the reason of the cell error.
        """
        index = self._index.get(label_key(label))
        if index is None:
            index = self._by_text.get(plain_text(label) or "")
        if index is None and isinstance(label, bool):
            index = self._by_text.get(str(int(label)))
        if index is None:
            raise ValueError(f"label {label!r} does not occur in the training rows")
        return index


def _rank(label: Label) -> tuple[int, Any]:
    return (2, label) if isinstance(label, str) else (0 if isinstance(label, bool) else 1, label)
