"""Similarity: rows of a group lie near each other, and apart from all others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import xxhash
from pydantic import Field
from torch import Tensor

from polymodal.core.errors import DataError, RecipeError
from polymodal.core.registry import register
from polymodal.core.types import Space
from polymodal.data.table.block import RowBlock
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.metrics.base import Metric
from polymodal.metrics.leave_one_out import leave_one_out_metrics
from polymodal.metrics.retrieval import normalize_rows
from polymodal.nn.layers.embedding_head import halvings, prefixes
from polymodal.tasks.base import Task, TaskOptions
from polymodal.tasks.labels import Label, label_key, read_label

#: The number of no group: of a row without a target.
NO_GROUP = 0
#: Anchors that are compared with all rows at once.
ANCHORS = 1024


@register
class MetricLearningTask(Task):
    """Vectors of rows, near each other where the target names one group (a product, a person, a class), apart where it
    names two; of groups too that training never saw. See `supervised_contrastive` for the loss: the sum of it over the
    vector and its `sizes` first prefixes, each of unit length by itself (Kusupati et al., "Matryoshka Representation
    Learning", 2022, equation 1 with all weights 1).

    Only rows whose batch holds another of their group teach anything, so training draws rows of a group together.
    """

    class Options(TaskOptions):
        name: Literal["similar"] = "similar"
        temperature: float = Field(default=0.1, gt=0, le=1)
        """Similarities are divided by it: a low one weighs the nearest others most."""
        size: int = Field(default=64, ge=2)
        """Numbers of a vector; the decoder `embed` decides it."""
        sizes: list[int] | None = None
        """Lengths of prefixes that are learned too; the decoder `embed` decides them. Silent: the half of `size`, the
        half of that, and so on down to 8."""

    space: ClassVar[Space] = "real"
    is_embedding: ClassVar[bool] = True
    default_decoder: ClassVar[str] = "embed"
    options: Options

    def __init__(self, options: Options, *, columns: list[str]) -> None:
        super().__init__(options, columns=columns)
        if len(columns) != 1:
            raise RecipeError("columns", f"a similar output reads one column, not {len(columns)}: {columns}")
        shorter = halvings(options.size) if options.sizes is None else sorted(set(options.sizes))
        if any(not 1 <= size < options.size for size in shorter):
            raise RecipeError("sizes", f"prefixes of {options.size} numbers have 1 to {options.size - 1}")
        self.sizes = [*shorter, options.size]

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        return None

    def fit(self, blocks: Iterable[RowBlock]) -> None:
        rows: Counter[int] = Counter()
        for block in blocks:
            value, present = self._read(block)[:2]
            rows.update(value[present].tolist())
        alone = sum(count == 1 for count in rows.values())
        if len(rows) < 2 or alone == len(rows):
            found = f"{len(rows)} groups" + (", each of one row" if rows else "")
            raise DataError(
                f"similarity needs two groups, and one of two rows; there are {found}", column=self.columns[0]
            )
        self._notes = [f"{alone} of {len(rows)} groups have 1 training row, which is near no other"] if alone else []

    def prepare(self, block: RowBlock) -> tuple[np.ndarray, np.ndarray]:
        value, present, problems = self._read(block)
        for position, reason in problems:
            block.add_error(position, self.columns[0], reason)
        return value, present

    def _read(self, block: RowBlock) -> tuple[np.ndarray, np.ndarray, list[tuple[int, str]]]:
        """Numbers of the groups, which rows have one, and the unusable cells: their positions and reasons."""
        value, problems = np.full(len(block), NO_GROUP, dtype=np.int64), []
        for position, cell in enumerate(block.cells(self.columns[0])):
            if cell is None:
                continue
            try:
                value[position] = group_hash(read_label(cell))
            except ValueError as error:
                problems.append((position, str(error)))
        return value, value != NO_GROUP, problems

    def row_groups(self, value: np.ndarray, present: np.ndarray) -> np.ndarray | None:
        return np.where(present, np.unique(value, return_inverse=True)[1], -1)

    @property
    def output_size(self) -> int:
        return self.options.size

    def loss(self, values: Tensor, target: Tensor) -> Tensor:
        losses = [
            supervised_contrastive(vectors, target, self.options.temperature)
            for vectors in prefixes(values, self.sizes)
        ]
        return torch.stack(losses).sum(0)

    def baseline_loss(self) -> float:
        """The loss of one vector for all rows: 1 for each of the sizes, see `supervised_contrastive`."""
        return float(len(self.sizes))

    def baseline_prediction(self) -> np.ndarray:
        """One vector for all rows. Ties count against it, so it finds nothing before it has seen all others."""
        return np.full(self.output_size, 1 / math.sqrt(self.output_size))

    def distribution(self, values: Tensor) -> np.ndarray:
        return normalize_rows(values.detach().double().cpu().numpy())

    def predict(self, distribution: np.ndarray) -> list[Any]:
        return distribution.tolist()

    def truth(self, value: np.ndarray) -> np.ndarray:
        return value

    @property
    def metrics(self) -> list[Metric]:
        return leave_one_out_metrics()

    @property
    def classes(self) -> list[str]:
        return [str(place) for place in range(self.output_size)]

    def save(self) -> dict[str, Any]:
        return {"notes": self._notes}

    def load(self, state: dict[str, Any]) -> None:
        self._notes = state["notes"]


def group_hash(label: Label) -> int:
    """The number of a group, the same in every table and run: 64 bits of a hash of its name, never `NO_GROUP`. Two of a
    million groups share one with a probability of 3 in 100 million."""
    boolean, value = label_key(label)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    name = f"{'bool' if boolean else type(value).__name__} {value}"
    return (xxhash.xxh3_64_intdigest(name.encode()) | 1) - 2**63


def supervised_contrastive(vectors: Tensor, groups: Tensor, temperature: float) -> Tensor:
    """The supervised contrastive loss of each row, `[n]` (Khosla et al., "Supervised Contrastive Learning", 2020,
    equation 2), in units of the loss of one vector for all rows, log(m - 1) of m rows:

        l_i = -1 / |P(i)| sum_{p in P(i)} log( exp(z_i . z_p / t) / sum_{a != i} exp(z_i . z_a / t) )
        L_i = m / A  l_i / log(m - 1)

    P(i) are the other rows of the group of row i. A rows have any; the factor m / A makes the mean over all m rows the
    mean over those, and all others have the loss 0. Rows of `NO_GROUP` are compared with nothing. The unit makes
    batches of different sizes comparable.

    vectors: `[n, size]` fp32 of unit length; groups: `[n]` int64
    """
    known = groups != NO_GROUP
    rows = int(known.sum())
    with torch.autocast(vectors.device.type, enabled=False):
        parts = [
            _of_anchors(vectors, groups, known, slice(start, start + ANCHORS), temperature)
            for start in range(0, len(vectors), ANCHORS)
        ]
    losses = torch.cat([loss for loss, _ in parts])
    anchors = int(torch.cat([count for _, count in parts]).gt(0).sum())
    return losses * (rows / max(1, anchors) / math.log(max(3, rows) - 1))


def _of_anchors(
    vectors: Tensor, groups: Tensor, known: Tensor, part: slice, temperature: float
) -> tuple[Tensor, Tensor]:
    """l_i and |P(i)| of the rows `part`."""
    number = torch.arange(len(vectors), device=vectors.device)
    others = known & (number != number[part].unsqueeze(1))
    positive = others & (groups == groups[part].unsqueeze(1))
    logits = (vectors[part] @ vectors.T / temperature).masked_fill(~others, torch.finfo(torch.float32).min)
    count = positive.sum(1)
    return -torch.where(positive, logits.log_softmax(1), 0.0).sum(1) / count.clamp_min(1), count
