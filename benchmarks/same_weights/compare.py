"""Whether two runs of a case came to the same, and where they differ first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KINDS = ("tensors", "numbers", "predictions")


@dataclass(frozen=True)
class Compared:
    """A case in both checkouts.

    equal: by kind of `KINDS`; renamed: kinds that are equal by content, under other names
    first: the first difference, or why a run came to nothing; None where all is equal
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


def compare(case: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> Compared:
    """What two runs of a case came to, each as the worker wrote it; None: it wrote nothing."""
    found = {"old": old, "new": new}
    spent = tuple(0.0 if run is None else float(run["seconds"]) for run in found.values())
    for side, run in found.items():
        problem = "the process ended before it" if run is None else run.get("error")
        if problem:
            return Compared(case, 0, dict.fromkeys(KINDS, False), [], f"{side}: {problem}", (spent[0], spent[1]))
    if old is None or new is None:
        raise AssertionError("a run that wrote nothing is a problem")
    differences = {kind: first_difference(old[kind], new[kind]) for kind in KINDS}
    if not old["tensors"]:
        differences["tensors"] = "no tensor was saved"
    first = next((f"{kind}: {one}" for kind, one in differences.items() if one), None)
    renamed = [kind for kind in KINDS if differences[kind] is None and old[kind].keys() != new[kind].keys()]
    equal = {kind: difference is None for kind, difference in differences.items()}
    return Compared(case, len(old["tensors"]), equal, renamed, first, (spent[0], spent[1]))


def first_difference(old: Mapping[str, str], new: Mapping[str, str]) -> str | None:
    """The first value that is not in both: by name where the names are the same, else whatever the name."""
    if old.keys() == new.keys():
        return next((f"{name}: {old[name]} != {new[name]}" for name in old if old[name] != new[name]), None)
    for one, other, side in ((old, new, "old"), (new, old, "new")):
        left = Counter(other.values())
        for name, value in one.items():
            if not left[value]:
                return f"only in {side}: {name}: {value}"
            left[value] -= 1
    return None
