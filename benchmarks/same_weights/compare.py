"""Comparison of two runs of a case, with their first difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KINDS = ("tensors", "numbers", "predictions")


@dataclass(frozen=True)
class CaseComparison:
    """A case in both checkouts.

    equal: by kind of `KINDS`; renamed: kinds with equal contents and other names
    first: the first difference, or the error of a run; None if all is equal
    seconds: of the old and the new run
    """

    case: str
    count: int
    equal: dict[str, bool]
    renamed: list[str]
    first: str | None
    seconds: tuple[float, float]

    @property
    def same(self) -> bool:
        return self.first is None


def compare(case: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> CaseComparison:
    """Compare the results of two runs of a case, in the form of the worker; None: there is no result."""
    runs = {"old": old, "new": new}
    seconds = tuple(0.0 if run is None else float(run["seconds"]) for run in runs.values())
    for side, run in runs.items():
        problem = "the process ended before it" if run is None else run.get("error")
        if problem:
            return CaseComparison(
                case, 0, dict.fromkeys(KINDS, False), [], f"{side}: {problem}", (seconds[0], seconds[1])
            )
    if old is None or new is None:
        raise AssertionError("a run without a result is an error")
    differences = {kind: first_difference(old[kind], new[kind]) for kind in KINDS}
    if not old["tensors"]:
        differences["tensors"] = "no tensor was saved"
    first = next((f"{kind}: {one}" for kind, one in differences.items() if one), None)
    renamed = [kind for kind in KINDS if differences[kind] is None and old[kind].keys() != new[kind].keys()]
    equal = {kind: difference is None for kind, difference in differences.items()}
    return CaseComparison(case, len(old["tensors"]), equal, renamed, first, (seconds[0], seconds[1]))


def first_difference(old: Mapping[str, str], new: Mapping[str, str]) -> str | None:
    """The first value that is not in both: by name if the names are equal, else under any name."""
    if old.keys() == new.keys():
        return next((f"{name}: {old[name]} != {new[name]}" for name in old if old[name] != new[name]), None)
    for one, other, side in ((old, new, "old"), (new, old, "new")):
        left = Counter(other.values())
        for name, value in one.items():
            if not left[value]:
                return f"only in {side}: {name}: {value}"
            left[value] -= 1
    return None
