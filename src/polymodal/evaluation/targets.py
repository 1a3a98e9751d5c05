"""The targets of the rows that a score counts, and the numbers of rows that it counts and leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from polymodal.core.errors import DataError
from polymodal.core.formatting import count_noun, join_words
from polymodal.data.partition import Split
from polymodal.data.table.cell_error_summary import summarize_reasons
from polymodal.data.table.cell_errors import CellError
from polymodal.preparation.preparation import PreparedTable
from polymodal.tasks.base import Task

#: The reasons for which a score leaves out a row, as people read them.
REASONS = {
    "missing_target": "without a target",
    "unusable_target": "with an unusable target",
    "missing_input": "without the input",
    "zero_weight": "of weight 0",
    "no_other_row_of_group": "without another row of their group",
    "no_target_tokens": "whose prompt or target has no tokens",
}


class RowCounts(BaseModel):
    """The rows of a score, JSON-ready.

    rows: number of scored rows
    unknown_class_rows: of these, the rows of classes that training did not see, which count as wrong
    training_rows: number of the given rows on which the model was trained, as far as they are known
    left_out: number of other rows by reason (`REASONS`)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int = 0
    unknown_class_rows: int = 0
    training_rows: int = 0
    left_out: dict[str, int] = {}

    def with_left_out(self, reason: str, rows: int) -> RowCounts:
        """The counts with `rows` of the scored rows left out for another reason."""
        if not rows:
            return self
        left_out = {**self.left_out, reason: self.left_out.get(reason, 0) + rows}
        return self.model_copy(update={"rows": self.rows - rows, "left_out": left_out})

    def sentence(self, kind: str = "row") -> str:
        """`37 test rows scored; left out: 2 without a target, 1 of weight 0`, for `kind` "test row"."""
        text = f"{count_noun(self.rows, kind)} scored"
        if self.left_out:
            reasons = [f"{number:,} {REASONS.get(reason, reason)}" for reason, number in self.left_out.items()]
            text += f"; left out: {', '.join(reasons)}"
        if self.unknown_class_rows:
            text += f"; {self.unknown_class_rows:,} of a class that training did not see, which count as wrong"
        if self.training_rows:
            text += f"; the model was trained on {self.training_rows:,} of the rows"
        return text

    @property
    def is_plain(self) -> bool:
        """Whether every row is scored, and of a known class."""
        return not (self.left_out or self.unknown_class_rows or self.training_rows)


@dataclass(frozen=True)
class OutputTargets:
    """The targets of one output over some rows.

    value, present: `[rows, ...]` and `[rows]` bool, from `Task.prepare`
    weight, groups: `[rows]`, or None for equal weights and independent rows
    unusable: `[rows]` bool, rows whose target cell cannot be used; None: no such rows
    """

    value: np.ndarray
    present: np.ndarray
    weight: np.ndarray | None = None
    groups: np.ndarray | None = None
    unusable: np.ndarray | None = None

    @classmethod
    def of(cls, split: Split[PreparedTable], output: str) -> OutputTargets:
        """The targets of an output on the rows of a split."""
        table = split.table
        value, present = table.targets[output]
        every = cls(value, present, table.weight, table.groups, table.unusable_targets.get(output))
        return every.select(split.rows)

    def __len__(self) -> int:
        return len(self.present)

    def select(self, rows: np.ndarray) -> OutputTargets:
        """The targets of `rows`: row numbers or `[rows]` bool."""
        parts = (self.value, self.present, self.weight, self.groups, self.unusable)
        return OutputTargets(*(None if part is None else part[rows] for part in parts))  # type: ignore[arg-type]

    def scored(self, task: Task) -> np.ndarray:
        """Rows that a score reads, `[rows]` bool."""
        return task.scored_rows(self.value, self.present)

    def arrays(self, task: Task, distribution: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distribution, truth and weight of the scored rows."""
        scored = self.scored(task)
        weights = np.ones(len(self)) if self.weight is None else self.weight.astype(np.float64)
        return distribution[scored], task.truth(self.value[scored]), weights[scored]

    def counts(self, task: Task) -> RowCounts:
        """The numbers of scored and other rows."""
        scored = self.scored(task)
        unusable = np.zeros(len(self), bool) if self.unusable is None else self.unusable
        zero = scored & (np.zeros(len(self), bool) if self.weight is None else self.weight == 0)
        counted = scored & ~zero
        alone = counted.copy()
        alone[counted] = ~task.counted_rows(self.value[counted])
        counted &= ~alone
        left_out = {
            "missing_target": ~scored & ~unusable,
            "unusable_target": ~scored & unusable,
            "zero_weight": zero,
            "no_other_row_of_group": alone,
        }
        return RowCounts(
            rows=int(counted.sum()),
            unknown_class_rows=int((counted & ~self.present).sum()),
            left_out={reason: int(rows.sum()) for reason, rows in left_out.items() if rows.any()},
        )


def check_targets(
    tasks: dict[str, Task], split: Split[PreparedTable], rows_of: str, file: str, errors: Sequence[CellError]
) -> None:
    """Check that rows can be scored. An output whose targets are all missing is allowed beside others.

    rows_of: what the rows are, such as "validation row"
    file: the name of their table
    errors: the unusable cells of the table

    Raises:
        DataError: no row of any output, or of an output with unusable targets, has a usable target of positive weight.
    """
    empty = []
    for name, task in tasks.items():
        targets = OutputTargets.of(split, name)
        known = targets.present & (True if targets.weight is None else targets.weight > 0)
        if known.any():
            continue
        empty.append(name)
        counts = targets.counts(task)
        if not (counts.rows or set(counts.left_out) - {"missing_target"} or len(empty) == len(tasks)):
            continue
        rows = set(split.rows.tolist())
        own = [error for error in errors if error.column in task.columns and error.row in rows]
        reasons = {**counts.left_out, **({"unknown": counts.rows} if counts.rows else {})}
        words = {**REASONS, "unknown": "of a class that training did not see"}
        found = join_words([f"{number:,} {words[reason]}" for reason, number in reasons.items()] or ["none at all"])
        examples = f". {summarize_reasons(own)}" if own else ""
        raise DataError(
            f"no {rows_of} has a usable target of the output {name!r}, so there is no score. "
            f"Of {count_noun(len(split), rows_of)}: {found}{examples}. Mend the cells, or give other rows",
            column=task.columns[0] if len(task.columns) == 1 else None,
            file=file,
        )


def add_to_scores(scores: dict[str, dict[str, Any]], **values: Any) -> dict[str, dict[str, Any]]:
    """Scores by output and metric, each with these values."""
    return {
        output: {metric: {**score, **values} for metric, score in metrics.items()} for output, metrics in scores.items()
    }
