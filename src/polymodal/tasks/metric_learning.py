"""Metric learning: embeddings in which rows of a group are close to each other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import TypedDict

from polymodal.core.errors import DataError, RecipeError
from polymodal.core.registry import register
from polymodal.core.types import Space
from polymodal.data.table.block import RowBlock
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.metrics.base import Metric
from polymodal.metrics.leave_one_out import leave_one_out_metrics
from polymodal.metrics.retrieval import normalize_rows
from polymodal.nn.layers.embedding_head import halved_dims, matryoshka_prefixes
from polymodal.runtime.host_reads import can_read
from polymodal.tasks.base import Task, TaskOptions
from polymodal.tasks.label_hash import label_hash
from polymodal.tasks.labels import read_label

#: Group of a row without a target.
NO_GROUP = 0
#: Number of anchors that are compared with all rows at once.
ANCHORS_PER_CHUNK = 1024


class MetricLearningState(TypedDict):
    """The saved state: notes about the targets."""

    notes: list[str]


@register
class MetricLearningTask(Task):
    """Metric learning: embeddings of rows that are close for rows of the same group (a product, a person, a class) and
    distant for rows of different groups, including groups that do not occur in training. See `supervised_contrastive`
    for the loss. It is summed over the embedding and its prefixes `matryoshka_dims`, each normalized to unit length
    (Kusupati et al., "Matryoshka Representation Learning", 2022, equation 1 with all weights 1).

    Only rows whose batch has another row of their group contribute to the loss, so training batches hold several rows
    of a group.
    """

    class Options(TaskOptions):
        name: Literal["metric_learning"] = "metric_learning"
        temperature: float = Field(default=0.1, gt=0, le=1)
        """Softmax temperature. Low values emphasize the nearest negatives."""
        embedding_dim: int = Field(default=64, ge=2)
        """Embedding dimension; set by the decoder `embed`."""
        matryoshka_dims: list[int] | None = None
        """Dimensions of prefixes that are trained too; set by the decoder `embed`. Default: repeated halves of the
        embedding dimension, down to 8."""

    space: ClassVar[Space] = "real"
    is_embedding: ClassVar[bool] = True
    compares_rows: ClassVar[bool] = True
    default_decoder: ClassVar[str] = "embed"
    options: Options

    def __init__(self, options: Options, *, columns: list[str]) -> None:
        super().__init__(options, columns=columns)
        shorter = (
            halved_dims(options.embedding_dim)
            if options.matryoshka_dims is None
            else sorted(set(options.matryoshka_dims))
        )
        if any(not 1 <= size < options.embedding_dim for size in shorter):
            raise RecipeError(
                "matryoshka_dims", f"prefixes must have between 1 and {options.embedding_dim - 1} dimensions"
            )
        self.sizes = [*shorter, options.embedding_dim]

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        return None

    def fit(self, blocks: Iterable[RowBlock]) -> None:
        rows: Counter[int] = Counter()
        for block in blocks:
            value, present = self._read(block)[:2]
            rows.update(value[present].tolist())
        singletons = sum(count == 1 for count in rows.values())
        if len(rows) < 2 or singletons == len(rows):
            found = f"{len(rows)} groups" + (", each of one row" if rows else "")
            raise DataError(
                f"metric learning needs at least two groups, one of them with two rows; there are {found}",
                column=self.columns[0],
            )
        self._notes = (
            [f"{singletons} of {len(rows)} groups have 1 training row, and so no positives"] if singletons else []
        )

    def prepare(self, block: RowBlock) -> tuple[np.ndarray, np.ndarray]:
        value, present, problems = self._read(block)
        for position, reason in problems:
            block.add_error(position, self.columns[0], reason)
        return value, present

    def _read(self, block: RowBlock) -> tuple[np.ndarray, np.ndarray, list[tuple[int, str]]]:
        """Group hashes, which rows have a group, and the bad cells as (position, reason)."""
        value, problems = np.full(len(block), NO_GROUP, dtype=np.int64), []
        for position, cell in enumerate(block.cells(self.columns[0])):
            if cell is None:
                continue
            try:
                value[position] = label_hash(read_label(cell))
            except ValueError as error:
                problems.append((position, str(error)))
        return value, value != NO_GROUP, problems

    def row_groups(self, value: np.ndarray, present: np.ndarray) -> np.ndarray | None:
        return np.where(present, np.unique(value, return_inverse=True)[1], -1)

    @property
    def output_size(self) -> int:
        return self.options.embedding_dim

    def loss(self, values: Tensor, target: Tensor) -> Tensor:
        losses = [
            supervised_contrastive(vectors, target, self.options.temperature)
            for vectors in matryoshka_prefixes(values, self.sizes)
        ]
        return torch.stack(losses).sum(0)

    def baseline_loss(self) -> float:
        """Loss of a constant embedding: 1 for each dimension, see `supervised_contrastive`."""
        return float(len(self.sizes))

    def baseline_prediction(self) -> np.ndarray:
        """A constant embedding. Ties count as wrong, so its retrieval scores are the worst possible."""
        return np.full(self.output_size, 1 / math.sqrt(self.output_size))

    def distribution(self, values: Tensor) -> np.ndarray:
        return normalize_rows(values.detach().double().cpu().numpy())

    def predict(self, distribution: np.ndarray) -> list[Any]:
        return distribution.tolist()

    def truth(self, value: np.ndarray) -> np.ndarray:
        return value

    def counted_rows(self, value: np.ndarray) -> np.ndarray:
        _, member, counts = np.unique(value, return_inverse=True, return_counts=True)
        return np.asarray(counts[member] > 1)

    @property
    def metrics(self) -> list[Metric]:
        return leave_one_out_metrics()

    @property
    def classes(self) -> list[str]:
        return [str(index) for index in range(self.output_size)]

    state_type = MetricLearningState

    def save(self) -> dict[str, Any]:
        return {"notes": self._notes}

    def load(self, state: dict[str, Any]) -> None:
        self._notes = state["notes"]


def supervised_contrastive(vectors: Tensor, groups: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss of each row, `[n]` (Khosla et al., "Supervised Contrastive Learning", 2020, equation
    2), in units of the loss of a constant embedding, log(m - 1) for m rows:

        l_i = -1 / |P(i)| sum_{p in P(i)} log( exp(z_i . z_p / t) / sum_{a != i} exp(z_i . z_a / t) )
        L_i = m / A  l_i / log(m - 1)

    P(i) are the other rows of the group of row i. A is the number of rows with nonempty P(i). The factor m / A makes
    the mean over all m rows equal to the mean over these; all others have the loss 0. Rows of `NO_GROUP` are ignored.
    The unit makes batches of different sizes comparable.

    vectors: `[n, size]` fp32 of unit length; groups: `[n]` int64

    Example:
        >>> import torch
        >>> vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> good = supervised_contrastive(vectors, torch.tensor([1, 1, 2, 2]), temperature=0.1)
        >>> bad = supervised_contrastive(vectors, torch.tensor([1, 2, 1, 2]), temperature=0.1)
        >>> bool(good.mean() < 1 < bad.mean())
        True
    """
    known = groups != NO_GROUP
    with torch.autocast(vectors.device.type, enabled=False):
        parts = [
            _anchor_losses(vectors, groups, known, slice(start, start + ANCHORS_PER_CHUNK), temperature)
            for start in range(0, len(vectors), ANCHORS_PER_CHUNK)
        ]
    losses = torch.cat([loss for loss, _ in parts])
    has_positive = torch.cat([count for _, count in parts]).gt(0)
    if not can_read(known):
        rows, anchors = known.sum(), has_positive.sum()
        return losses * (rows / anchors.clamp_min(1) / torch.log(rows.clamp_min(3) - 1.0))
    count, num_anchors = int(known.sum()), int(has_positive.sum())
    return losses * (count / max(1, num_anchors) / math.log(max(3, count) - 1))


def _anchor_losses(
    vectors: Tensor, groups: Tensor, known: Tensor, part: slice, temperature: float
) -> tuple[Tensor, Tensor]:
    """l_i and |P(i)| of the rows `part`."""
    position = torch.arange(len(vectors), device=vectors.device)
    others = known & (position != position[part].unsqueeze(1))
    positive = others & (groups == groups[part].unsqueeze(1))
    logits = (vectors[part] @ vectors.T / temperature).masked_fill(~others, torch.finfo(torch.float32).min)
    count = positive.sum(1)
    return -torch.where(positive, logits.log_softmax(1), 0.0).sum(1) / count.clamp_min(1), count
