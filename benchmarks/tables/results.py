"""The cells of a run as scores, costs and comparisons by set and contestant."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmarks.tables.cells import Cell
from benchmarks.tables.entrants import CONTESTANTS, group_of
from benchmarks.tables.paired import Difference, compare_folds, compare_sets, mean_ranks

BEST_SCRIPT = "best script"


@dataclass(frozen=True)
class Standing:
    """One of our contestants over all sets on which it and a script ran.

    better: sets on which its mean is above that of the best script
    not_below: sets on which it is not significantly below the best script
    p_value: of Wilcoxon's signed-rank test over the sets
    """

    rank: float
    sets: int
    better: int
    not_below: int
    p_value: float


class Results:
    """Cells with a score, by set, contestant and fold."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        everything = list(cells)
        self.failed = [one for one in everything if one.score is None]
        self.cells: dict[tuple[str, str], dict[tuple[int, int], Cell]] = {}
        for one in everything:
            if one.score is not None:
                self.cells.setdefault((one.dataset, one.contestant), {})[one.seed, one.fold] = one

    @cached_property
    def datasets(self) -> list[str]:
        return list(dict.fromkeys(dataset for dataset, _ in self.cells))

    @property
    def main_sets(self) -> list[str]:
        """The sets as they are: without columns of noise, and with all inputs."""
        return [name for name in self.datasets if not {"+", ":"} & set(name)]

    @cached_property
    def contestants(self) -> list[str]:
        """In the order of the catalog: ours first."""
        found = list(dict.fromkeys(contestant for _, contestant in self.cells))
        return [*(name for name in found if name not in CONTESTANTS), *(name for name in CONTESTANTS if name in found)]

    def of_group(self, group: str) -> list[str]:
        return [name for name in self.contestants if group_of(name) == group]

    def values(self, dataset: str, contestant: str, field: str) -> list[float]:
        """The numbers of a field of the cells, in the order of the folds; empty if there are none."""
        cells = self.cells.get((dataset, contestant), {})
        found = [getattr(cells[fold], field) for fold in sorted(cells)]
        return [float(one) for one in found if one is not None]

    def mean(self, dataset: str, contestant: str, field: str = "score") -> float | None:
        values = self.values(dataset, contestant, field)
        return float(np.mean(values)) if values else None

    def calibration_bins(self, dataset: str, contestant: str) -> list[list[float]] | None:
        """The bins of the test rows of all folds and seeds together; None: without probabilities."""
        bins = [one.calibration_bins for one in self.cells.get((dataset, contestant), {}).values()]
        found = np.array([one for one in bins if one is not None])  # [cells, bins, 4]
        return found.sum(0).tolist() if len(found) else None

    def best_script(self, dataset: str) -> str | None:
        """The script with the highest mean score; None: none ran. The best of several is a hard reference: it is chosen
        by its scores on the test rows."""
        means = {name: self.mean(dataset, name) for name in self.of_group("script")}
        ran = {name: mean for name, mean in means.items() if mean is not None}
        return max(ran, key=lambda name: ran[name]) if ran else None

    def difference(self, dataset: str, ours: str, reference: str, other_set: str | None = None) -> Difference | None:
        """The difference on the folds that both have; None: there are none.

        other_set: the set of the reference, if it is another one with the same folds
        """
        first = self.cells.get((dataset, ours), {})
        second = self.cells.get((other_set or dataset, reference), {})
        shared = sorted(first.keys() & second.keys())
        if not shared:
            return None
        ratio = float(np.mean([first[fold].test_rows / first[fold].train_rows for fold in shared]))
        one, other = ([float(cells[fold].score or 0) for fold in shared] for cells in (first, second))
        return compare_folds(one, other, ratio)

    def seed_spread(self, dataset: str, contestant: str) -> float | None:
        """The largest minus the smallest mean score of a seed; None with one seed."""
        by_seed: dict[int, list[float]] = {}
        for (seed, _), cell in self.cells.get((dataset, contestant), {}).items():
            by_seed.setdefault(seed, []).append(float(cell.score or 0))
        means = [float(np.mean(scores)) for scores in by_seed.values()]
        return max(means) - min(means) if len(means) > 1 else None

    def ranks(self) -> dict[str, float]:
        """The mean rank of each contestant over the sets. The scripts are one contestant, `BEST_SCRIPT`, because each
        of them reads some kinds of data only."""
        names = [name for name in self.contestants if group_of(name) != "script"]
        means: dict[str, dict[str, float]] = {}
        for dataset in self.main_sets:
            script = self.best_script(dataset)
            found = {name: self.mean(dataset, name) for name in names}
            found |= {BEST_SCRIPT: self.mean(dataset, script)} if script else {}
            means[dataset] = {name: mean for name, mean in found.items() if mean is not None}
        has_scripts = any(BEST_SCRIPT in found for found in means.values())
        return mean_ranks(means, [*names, *([BEST_SCRIPT] if has_scripts else [])])

    def best_single_input(self, dataset: str, contestant: str) -> str | None:
        """The name of the set `NAME:COLUMN` on which the contestant scores best; None: it ran on none."""
        singles = [one for one in self.datasets if one.startswith(f"{dataset}:") and (one, contestant) in self.cells]
        return max(singles, key=lambda one: self.mean(one, contestant) or 0.0) if singles else None

    def standing(self, ours: str) -> Standing:
        """One of our contestants against the best script of each set."""
        pairs, differences = [], []
        for dataset in self.main_sets:
            script, mean = self.best_script(dataset), self.mean(dataset, ours)
            found = None if script is None else self.difference(dataset, ours, script)
            if script is not None and mean is not None and found is not None:
                pairs.append((mean, self.mean(dataset, script) or 0.0))
                differences.append(found)
        one, other = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        return Standing(
            rank=self.ranks()[ours],
            sets=len(pairs),
            better=sum(found.mean > 0 for found in differences),
            not_below=sum(not found.is_below for found in differences),
            p_value=compare_sets(one, other) if pairs else float("nan"),
        )
