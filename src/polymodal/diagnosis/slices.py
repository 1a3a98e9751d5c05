"""Slices in which a model is worse than elsewhere, found in one half of the rows and confirmed in the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from polymodal.core.html_table import html_table
from polymodal.diagnosis.multiple_tests import holm, p_larger
from polymodal.diagnosis.slice_candidates import SliceCandidate

#: Rows that a slice needs in each half.
MIN_ROWS = 20
#: Candidates that go from the first half to the second.
MAX_CONFIRMED = 20
#: Level of the tests.
LEVEL = 0.05


@dataclass(frozen=True)
class Slice:
    """Rows in which the model is worse.

    rows: number of rows in both halves
    loss, loss_elsewhere: mean loss of the rows of the second half, in the slice and outside of it
    p_value: of the second half, corrected for all candidates that were tried there
    """

    name: str
    rows: int
    loss: float
    loss_elsewhere: float
    p_value: float


@dataclass(frozen=True)
class Slices(Sequence[Slice]):
    """The confirmed slices of an output, the worst first. A notebook shows a table.

    unit: what `loss` is, such as `fraction wrong`
    looks: number of candidates that were tried in the first half
    tried: number of those that were tried in the second
    """

    output: str
    unit: str
    found: tuple[Slice, ...]
    looks: int
    tried: int

    def __len__(self) -> int:
        return len(self.found)

    @overload
    def __getitem__(self, at: int) -> Slice: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[Slice, ...]: ...

    def __getitem__(self, at: int | slice) -> Slice | tuple[Slice, ...]:
        return self.found[at]

    def _repr_html_(self) -> str:
        rows = [
            [one.name, f"{one.rows:,}", f"{one.loss:.3g}", f"{one.loss_elsewhere:.3g}", f"{one.p_value:.2g}"]
            for one in self
        ]
        return html_table(rows, ["slice", "rows", self.unit, "elsewhere", "corrected p-value"])


def find_slices(
    loss: np.ndarray,
    candidates: Iterable[SliceCandidate],
    *,
    output: str,
    unit: str,
    seed: int = 0,
    level: float = LEVEL,
) -> Slices:
    """The candidates whose rows have a larger loss than the others.

    Rows are divided at random. In the first half, candidates with a one-sided rank test below `level` are kept, at most
    20. In the second half, each is tested again, corrected for their number by Holm's procedure. As the second half had
    no part in the choice, a slice that is not worse is reported with at most the probability `level`, among all looks.

    loss: `[rows]`
    """
    first = np.random.default_rng(seed).random(len(loss)) < 0.5
    kept: list[tuple[float, SliceCandidate]] = []
    looks = 0
    for one in candidates:
        sizes = [min(int((one.rows & half).sum()), int((~one.rows & half).sum())) for half in (first, ~first)]
        if min(sizes) < MIN_ROWS:
            continue
        looks += 1
        p_value = p_larger(loss[one.rows & first], loss[~one.rows & first])
        if p_value < level:
            kept.append((p_value, one))
    chosen = [one for _, one in sorted(kept, key=lambda pair: pair[0])[:MAX_CONFIRMED]]
    pairs = [(loss[one.rows & ~first], loss[~one.rows & ~first]) for one in chosen]
    corrected = holm(np.array([p_larger(inside, outside) for inside, outside in pairs]))
    found = [
        Slice(one.name, int(one.rows.sum()), float(inside.mean()), float(outside.mean()), float(p_value))
        for one, (inside, outside), p_value in zip(chosen, pairs, corrected, strict=True)
        if p_value <= level
    ]
    found.sort(key=lambda one: one.loss_elsewhere - one.loss)
    return Slices(output, unit, tuple(found), looks, len(chosen))
