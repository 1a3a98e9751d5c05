"""All sets of the suite: `python -m benchmarks.tables.catalog` prints their rows, columns and classes.

The half of each set was written down before any model was run on it.
"""

from __future__ import annotations

import re
from collections import Counter

from benchmarks.tables import media_sets, mixed_sets, number_sets, series_sets, text_sets
from benchmarks.tables.assets import is_present
from benchmarks.tables.dataset import Columns, Dataset, num_rows
from benchmarks.tables.noise import NOISE, with_noise

SETS = {
    one.name: one for one in (*number_sets.SETS, *text_sets.SETS, *media_sets.SETS, *series_sets.SETS, *mixed_sets.SETS)
}
HEADER = ("set", "half", "kind", "rows", "inputs", "classes or range", "largest class", "metric")


class UnknownSet(ValueError):
    """There is no set of this name."""


def find(name: str) -> Dataset:
    """A set by its name; `NAME+5numbers`, `NAME+1texts` and `NAME+20images` add columns of noise, and `NAME:COLUMN` has
    this input only.

    Raises:
        UnknownSet: there is no such set.
        MissingAsset: the data of `NAME:COLUMN` are not unpacked.
    """
    match = re.fullmatch(rf"(\w+)(?::(\w+)|\+(\d+)({'|'.join(NOISE)}))?", name)
    if not match or match[1] not in SETS:
        kinds = "|".join(NOISE)
        raise UnknownSet(f"there is no set {name!r}; choose from {', '.join(SETS)}, with :COLUMN or +COUNT{kinds}")
    found = SETS[match[1]]
    if match[2]:
        inputs = found.input_types(found.build())
        if match[2] not in inputs:
            raise UnknownSet(f"{found.name} has no input {match[2]!r}; choose from {', '.join(inputs)}")
        return found.only(match[2])
    return with_noise(found, match[4], int(match[3])) if match[3] else found


def single_inputs(dataset: Dataset) -> list[Dataset]:
    """The set with each of its inputs only.

    Raises:
        MissingAsset: its data are not unpacked.
    """
    return [dataset.only(name) for name in dataset.input_types(dataset.build())]


def of_half(half: str) -> list[Dataset]:
    return [one for one in SETS.values() if one.half == half]


def is_available(dataset: Dataset) -> bool:
    """Whether the packages with its data are unpacked."""
    return all(is_present(name) for name in dataset.assets)


def describe(dataset: Dataset, columns: Columns) -> list[str]:
    """The line of the table of sets."""
    target = columns[dataset.target]
    inputs = Counter(dataset.input_types(columns).values())
    if dataset.is_regression:
        classes, largest = f"{min(target):g} to {max(target):g}", ""
    else:
        sizes = Counter(target)
        classes, largest = str(len(sizes)), f"{max(sizes.values()) / len(target):.2f}"
    described = ", ".join(f"{count} {name}" for name, count in inputs.items())
    rows = f"{num_rows(columns):,}"
    return [dataset.name, dataset.half, dataset.kind, rows, described, classes, largest, dataset.metric]


def markdown(rows: list[list[str]]) -> str:
    """A Markdown table; the first row is its header."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    shown = [describe(one, one.build()) for one in SETS.values() if is_available(one)]
    print(markdown([list(HEADER), *shown]))
