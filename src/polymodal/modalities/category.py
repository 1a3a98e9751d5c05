"""The `category` modality: one or more columns of labels."""

from __future__ import annotations

import math
import numbers
import re
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field
from typing_extensions import TypedDict

from polymodal.core.registry import register
from polymodal.data.store.items import FixedItems, PreparedInput
from polymodal.data.table.block import RowBlock
from polymodal.data.table.date_format import are_dates
from polymodal.data.table.number_format import infer_format
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.modalities.base import Modality, ModalityOptions
from polymodal.modalities.cell_parsing import LabelIndex, read_distinct
from polymodal.modalities.text import looks_like_identifiers

MISSING, RARE, FIRST_LABEL = 0, 1, 2


class CategoryState(TypedDict):
    """The saved state: the labels of each column."""

    labels: list[list[str]]


@register
class Category(Modality):
    """Columns of labels: texts, whole numbers, booleans.

    Each column has its own vocabulary, the labels of the training rows. Index 0 is a missing label, 1 is any rare label
    and any label that is not in the training rows, and 2 and up are the labels in alphabetical order. The numbers 3 and
    3.0 and the text "3" are the same label, blanks around a label are ignored, and a blank label is missing. A label
    that is unknown as it is written is found by its value if only one label has this value (`cell_parsing.LabelIndex`).

    Prepared: `ids [rows, columns]` int32. A row counts as missing if all its labels are missing.
    """

    class Options(ModalityOptions):
        name: Literal["category"] = "category"
        min_frequency: int = Field(default=2, ge=1)
        """Labels in fewer training rows than this are rare."""
        max_labels: int = Field(default=10_000, ge=1)
        """Largest number of labels of a column. The most frequent are kept, and all others are rare."""

    default_encoder = "embedding"
    many_columns = True
    corruptions = ("gaps", "unknown")
    options: Options

    def __init__(self, options: Options, *, columns: list[str]) -> None:
        super().__init__(options, columns=columns)
        self.labels: list[list[str]] = []
        self._numbers: list[LabelIndex[int]] = []

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        values = [value for value in sample.values if not isinstance(value, str) or value.strip()]
        if not values:
            return None
        distinct = len({repr(value)[:200] for value in values})
        repeats = distinct <= max(2, len(values) // 4)
        if all(isinstance(value, bool | np.bool_) for value in values):
            return Match(0.95, "yes and no")
        if all(isinstance(value, numbers.Integral) for value in values):
            return Match(0.4, f"{distinct} distinct whole numbers") if repeats else None
        if not all(isinstance(value, str) for value in values) or looks_like_identifiers(values):
            return None
        if are_dates(values):
            return None
        if infer_format(values) is not None:
            return Match(0.4, f"{distinct} distinct numbers, given as texts") if repeats else None
        if all(re.fullmatch(r"\s*[0-9]+\s*", value) for value in values):
            return Match(0.85, f"{distinct} distinct codes: digits with leading zeros, or too many for a number")
        if sum(len(value) for value in values) > 60 * len(values):
            return None
        words = sum(len(value.split()) for value in values) / len(values)
        if repeats and words < 3:
            return Match(0.85, f"{distinct} distinct labels in {len(values)} rows")
        return Match(0.35, f"short texts, {distinct} distinct in {len(values)} rows")

    def fit(self, blocks: Iterable[RowBlock]) -> None:
        """Collect the labels of the training rows. Bad cells are reported by `prepare`."""
        counts: list[Counter[str]] = [Counter() for _ in self.columns]
        for block in blocks:
            for name, count in zip(self.columns, counts, strict=True):
                codes, cells = read_distinct(block.columns[name])
                times = np.bincount(codes[codes >= 0], minlength=len(cells)).tolist()
                for cell, seen in zip(cells, times, strict=True):
                    if seen and (label := parse_label(cell)):
                        count[label] += seen
        self._set_labels([self._kept_labels(count) for count in counts])

    def _kept_labels(self, counts: Counter[str]) -> list[str]:
        """The labels that are not rare, in alphabetical order."""
        frequent = [name for name, count in counts.items() if count >= self.options.min_frequency]
        return sorted(sorted(frequent, key=lambda name: (-counts[name], name))[: self.options.max_labels])

    def unlearned_columns(self) -> dict[str, str]:
        reason = f"no label occurs in {self.options.min_frequency} or more rows (`min_frequency`)"
        return {name: reason for name, labels in zip(self.columns, self.labels, strict=True) if not labels}

    def _set_labels(self, labels: list[list[str]]) -> None:
        self.labels = labels
        self._numbers = [LabelIndex({label: FIRST_LABEL + at for at, label in enumerate(column)}) for column in labels]

    def prepare(self, block: RowBlock) -> PreparedInput:
        ids = np.zeros((len(block), len(self.columns)), np.int32)
        for at, (name, known) in enumerate(zip(self.columns, self._numbers, strict=True)):
            codes, cells = read_distinct(block.columns[name])
            labels = [parse_label(cell) for cell in cells]
            numbered = [(known.get(label) or RARE) if label else MISSING for label in labels]
            ids[:, at] = np.array([*numbered, MISSING], np.int32)[codes]  # code -1, null, maps to the last
            bad = [code for code, label in enumerate(labels) if label is None]
            for position in np.flatnonzero(np.isin(codes, bad)).tolist():
                cell = cells[codes[position]]
                block.add_error(position, name, f"expected a label, not {type(cell).__name__}")
        present = (ids != MISSING).any(axis=1)
        return PreparedInput(np.where(present, np.arange(len(ids)), -1).astype(np.int64), FixedItems({"ids": ids}))

    def corrupt(
        self, items: dict[str, np.ndarray], kind: str, strength: float, draw: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """`gaps`: single labels go missing; `unknown`: single labels become unseen labels."""
        ids = items["ids"]
        hit = (draw.random(ids.shape) < strength) & (ids != MISSING)
        return {"ids": np.where(hit, MISSING if kind == "gaps" else RARE, ids).astype(ids.dtype)}

    def shape(self) -> dict[str, Any]:
        """`sizes`: vocabulary size of each column, including missing and rare labels."""
        return {"sizes": [FIRST_LABEL + len(column) for column in self.labels]}

    state_type = CategoryState

    def save(self, folder: Path) -> dict[str, Any]:
        return {"labels": self.labels}

    def load(self, folder: Path, state: dict[str, Any]) -> None:
        if len(state["labels"]) != len(self.columns):
            raise ValueError(f"labels of {len(state['labels'])} columns, not {len(self.columns)}")
        self._set_labels(state["labels"])

    def describe(self) -> str:
        columns = zip(self.columns, self.labels, strict=True)
        return "labels: " + ", ".join(f"{name} ({len(labels)})" for name, labels in columns)


def parse_label(cell: Any) -> str | None:
    """The label of a cell; "" if it is null, NaN or blank; None if it is not a label."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, bool | np.bool_):
        return str(bool(cell))
    if isinstance(cell, numbers.Integral):
        return str(int(cell))
    if isinstance(cell, numbers.Real | Decimal):
        value = float(cell)
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else str(value)
    return None
