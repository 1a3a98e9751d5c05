"""Small generated Python functions: a description in words, the program, and tests.

A function iterates over a source, filters the items, changes them, and collects the results:

    def solve(numbers):                     Go through the numbers of the list.
        result = 0
        for x in numbers:
            if x % 3 == 0:                  Keep those divisible by 3.
                result += x + 5             Add 5 to each.
        return result                       Return their sum.

The four parts are the `combination` of the function; their numbers and letters are random. Split by `combination` to
test on new combinations of known parts. The expected results of the tests are computed from the parts, not by running
the program, so the tests are independent of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from polymodal.datasets.planted import Columns
from polymodal.metrics.code_eval.program_cells import program_cell

Kind = Literal["number", "word", "letter"]

_WORDS = ["apple", "bird", "cloud", "door", "echo", "fish", "green", "house", "ink", "jam", "kite", "level", "moon"]
_WORDS += ["noon", "ox", "paper", "queen", "river", "Star", "Tree", "up", "Violet", "we", "yes", "zebra"]
_LETTERS = list("aeinorst")
_VOWELS = "aeiou"


@dataclass(frozen=True)
class Source:
    """The source of a function: its description, the loop, the items of an argument, and a random argument.

    least: the smallest argument
    """

    words: str
    parameter: str
    loop: str
    kind: Kind
    items: Callable[[Any], list[Any]]
    drawn: Callable[[np.random.Generator], Any]
    least: Any


@dataclass(frozen=True)
class Filter:
    """A filter: `{k}` in words and code is random; `holds(x, k)` is its condition."""

    words: str
    code: str
    holds: Callable[[Any, Any], bool]


@dataclass(frozen=True)
class Change:
    """A change of each item: `of(x, k)`, with a result of kind `gives`."""

    words: str
    code: str
    of: Callable[[Any, Any], Any]
    gives: Kind


@dataclass(frozen=True)
class Collection:
    """A collection of the values: the initial `result`, the lines for each value `{v}`, and the result `of(values)`."""

    words: str
    start: str
    steps: tuple[str, ...]
    of: Callable[[list[Any]], Any]


SOURCES = {
    "list": Source(
        "the numbers of the list", "numbers", "for x in numbers:", "number", list,
        lambda draw: draw.integers(-9, 21, draw.integers(1, 7)).tolist(), [],
    ),
    "range": Source(
        "the numbers from 1 to n", "n", "for x in range(1, n + 1):", "number", lambda n: list(range(1, n + 1)),
        lambda draw: int(draw.integers(1, 25)), 0,
    ),
    "digits": Source(
        "the digits of n", "n", "for x in map(int, str(n)):", "number", lambda n: [int(digit) for digit in str(n)],
        lambda draw: int(draw.integers(10, 10 ** draw.integers(2, 8))), 0,
    ),
    "words": Source(
        "the words of the text", "text", "for x in text.split():", "word", str.split,
        lambda draw: " ".join(draw.choice(_WORDS, draw.integers(1, 6)).tolist()), "",
    ),
    "letters": Source(
        "the letters of the text", "text", "for x in text:", "letter", list,
        lambda draw: " ".join(draw.choice(_WORDS, draw.integers(1, 3)).tolist()), "",
    ),
}  # fmt: skip
_OF_NUMBERS = {
    "all": Filter("Keep all.", "", lambda x, k: True),
    "even": Filter("Keep the even ones.", "x % 2 == 0", lambda x, k: x % 2 == 0),
    "odd": Filter("Keep the odd ones.", "x % 2 == 1", lambda x, k: x % 2 == 1),
    "over": Filter("Keep those greater than {k}.", "x > {k}", lambda x, k: x > k),
    "under": Filter("Keep those less than {k}.", "x < {k}", lambda x, k: x < k),
    "divisible": Filter("Keep those divisible by {k}.", "x % {k} == 0", lambda x, k: x % k == 0),
    "other": Filter("Keep those that are not {k}.", "x != {k}", lambda x, k: x != k),
}
_OF_WORDS = {
    "all": Filter("Keep all.", "", lambda x, k: True),
    "long": Filter("Keep those longer than {k}.", "len(x) > {k}", lambda x, k: len(x) > k),
    "short": Filter("Keep those shorter than {k}.", "len(x) < {k}", lambda x, k: len(x) < k),
    "with": Filter("Keep those with the letter {k}.", "'{k}' in x", lambda x, k: k in x),
    "without": Filter("Keep those without the letter {k}.", "'{k}' not in x", lambda x, k: k not in x),
    "ending": Filter("Keep those ending with {k}.", "x.endswith('{k}')", lambda x, k: x.endswith(k)),
}
_OF_LETTERS = {
    "all": Filter("Keep all.", "", lambda x, k: True),
    "vowels": Filter("Keep the vowels.", "x in 'aeiou'", lambda x, k: x in _VOWELS),
    "consonants": Filter("Drop the vowels.", "x not in 'aeiou'", lambda x, k: x not in _VOWELS),
    "visible": Filter("Drop the spaces.", "x != ' '", lambda x, k: x != " "),
    "other": Filter("Drop the letter {k}.", "x != '{k}'", lambda x, k: x != k),
}
FILTERS: dict[Kind, dict[str, Filter]] = {"number": _OF_NUMBERS, "word": _OF_WORDS, "letter": _OF_LETTERS}
_TO_TEXT: dict[str, Change] = {
    "none": Change("Leave each as it is.", "x", lambda x, k: x, "word"),
    "upper": Change("Put each in upper case.", "x.upper()", lambda x, k: x.upper(), "word"),
    "doubled": Change("Write each twice.", "x * 2", lambda x, k: x * 2, "word"),
    "marked": Change("Put {k} after each.", "x + '{k}'", lambda x, k: x + k, "word"),
}
CHANGES: dict[Kind, dict[str, Change]] = {
    "number": {
        "none": Change("Leave each as it is.", "x", lambda x, k: x, "number"),
        "plus": Change("Add {k} to each.", "x + {k}", lambda x, k: x + k, "number"),
        "minus": Change("Subtract {k} from each.", "x - {k}", lambda x, k: x - k, "number"),
        "times": Change("Multiply each by {k}.", "x * {k}", lambda x, k: x * k, "number"),
        "square": Change("Square each.", "x ** 2", lambda x, k: x**2, "number"),
        "rest": Change("Take the remainder of each by {k}.", "x % {k}", lambda x, k: x % k, "number"),
    },
    "word": _TO_TEXT
    | {
        "first": Change("Take the first letter of each.", "x[0]", lambda x, k: x[0], "word"),
        "reverse": Change("Reverse each.", "x[::-1]", lambda x, k: x[::-1], "word"),
        "length": Change("Take the length of each.", "len(x)", lambda x, k: len(x), "number"),
    },
    "letter": _TO_TEXT,
}
_ANY = {
    "list": Collection("Return them in a list.", "[]", ("result.append({v})",), list),
    "distinct": Collection(
        "Return them in a list without repeats.", "[]", ("if {v} not in result:", "    result.append({v})"),
        lambda values: list(dict.fromkeys(values)),
    ),
    "first": Collection(
        "Return the first one, or None.", "None", ("if result is None:", "    result = {v}"),
        lambda values: values[0] if values else None,
    ),
    "last": Collection(
        "Return the last one, or None.", "None", ("result = {v}",), lambda values: values[-1] if values else None
    ),
}  # fmt: skip
COLLECTIONS: dict[Kind, dict[str, Collection]] = {
    "number": _ANY
    | {
        "sum": Collection("Return their sum.", "0", ("result += {v}",), sum),
        "largest": Collection(
            "Return the largest one, or None.", "None", ("if result is None or {v} > result:", "    result = {v}"),
            lambda values: max(values, default=None),
        ),
        "smallest": Collection(
            "Return the smallest one, or None.", "None", ("if result is None or {v} < result:", "    result = {v}"),
            lambda values: min(values, default=None),
        ),
    },
    "word": _ANY
    | {
        "joined": Collection("Return them as one text.", "''", ("result += {v}",), "".join),
        "backwards": Collection(
            "Return them as one text, the last one first.", "''", ("result = {v} + result",),
            lambda values: "".join(reversed(values)),
        ),
    },
}  # fmt: skip


@dataclass(frozen=True)
class Function:
    """A function. `tests`: lines of `assert`, one of them for the smallest argument."""

    description: str
    program: str
    tests: str
    combination: str


def make_functions(rows: int = 100, seed: int = 0) -> Columns:
    """Python functions: a description in words, the program, and its tests.

    Columns: `description`; `program`; `tests` (one comparison per line); `answer`, the target cell of a program and its
    tests (`polymodal.metrics.code_eval.program_cells`); `combination` of the four parts, by which to split.

        >>> columns = make_functions(2)
        >>> list(columns)
        ['description', 'program', 'tests', 'answer', 'combination']
    """
    generator = np.random.default_rng(seed)
    made = [function(generator) for _ in range(rows)]
    return {
        "description": [one.description for one in made],
        "program": [one.program for one in made],
        "tests": [one.tests for one in made],
        "answer": [program_cell(one.program, one.tests) for one in made],
        "combination": [one.combination for one in made],
    }


def function(generator: np.random.Generator) -> Function:
    """Draw a random function whose tests have at least three different results."""
    while True:
        made = _drawn(generator)
        if len({line.partition(" == ")[2] for line in made.tests.splitlines()}) >= 3:
            return made


def _drawn(draw: np.random.Generator) -> Function:
    at = str(draw.choice(list(SOURCES)))
    source = SOURCES[at]
    keeping = str(draw.choice(list(FILTERS[source.kind])))
    changing = str(draw.choice(list(CHANGES[source.kind])))
    kept, change = FILTERS[source.kind][keeping], CHANGES[source.kind][changing]
    collecting = str(draw.choice(list(COLLECTIONS[change.gives])))
    collection = COLLECTIONS[change.gives][collecting]
    k, m = _constant(source.kind, keeping, draw), _constant(source.kind, changing, draw)

    def expected(argument: Any) -> Any:
        return collection.of([change.of(x, m) for x in source.items(argument) if kept.holds(x, k)])

    arguments = [source.least, *(source.drawn(draw) for _ in range(4))]
    words = [f"Go through {source.words}.", kept.words.format(k=k), change.words.format(k=m), collection.words]
    return Function(
        " ".join(words),
        _program(source, kept.code.format(k=k), change.code.format(k=m), collection),
        "\n".join(f"assert solve({argument!r}) == {expected(argument)!r}" for argument in arguments),
        f"{at} {keeping} {changing} {collecting}",
    )


def _constant(kind: Kind, part: str, draw: np.random.Generator) -> Any:
    """A random number, or a random letter if the part needs one."""
    if kind == "number" or part in ("long", "short"):
        return int(draw.integers(3, 10)) if kind == "number" else int(draw.integers(2, 6))
    return str(draw.choice(_LETTERS))


def _program(source: Source, condition: str, value: str, collection: Collection) -> str:
    steps = [step.format(v=value) for step in collection.steps]
    if condition:
        steps = [f"if {condition}:", *(f"    {step}" for step in steps)]
    lines = [f"result = {collection.start}", source.loop, *(f"    {step}" for step in steps), "return result"]
    return "\n".join([f"def solve({source.parameter}):", *(f"    {line}" for line in lines)])
