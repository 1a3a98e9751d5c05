"""Small generated scenes with captions that state facts.

    caption   = inventory "." { " " relation "." }
    inventory = group | group " and " group | group ", " group " and " group
    group     = ("a" | "two" | .. | "five") noun
    relation  = "the " noun (" is " | " are ") ("left of" | "right of" | "above" | "below") " the " noun

Groups are in alphabetical order of their nouns, and each may be related to the next, so each scene has exactly one
caption. `describe` makes the caption from boxes, and `caption_facts` parses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from polymodal.datasets.planted import Columns

_COUNTS = {1: "a", 2: "two", 3: "three", 4: "four", 5: "five"}
_NUMBERS = {word: str(number) for number, word in _COUNTS.items()} | {"an": "1", "one": "1"}
_GROUP = re.compile(rf"({'|'.join(_NUMBERS)}) (\w[\w -]*)")
_RELATION = re.compile(r"the (\w[\w -]*?) (is|are) (left of|right of|above|below) the (\w[\w -]*)")
_INVERSE = {"right of": "left of", "below": "above"}
_COLORS = {"red": (210, 40, 40), "green": (40, 160, 60), "blue": (50, 70, 210), "yellow": (225, 195, 30)}
_SHAPES = ("circle", "square", "triangle")


class Box(NamedTuple):
    """An object in a scene: its noun and its box in pixels, `right` and `bottom` excluded."""

    noun: str
    left: int
    top: int
    right: int
    bottom: int


def make_scenes(rows: int = 100, seed: int = 0, size: int = 64, max_figures: int = 3) -> Columns:
    """Scenes of figures on a noisy background without overlap, with their captions.

    max_figures: largest number of figures in a scene, at most 5; they are of one to three kinds

    Columns: `image`, a PIL image of `size` x `size` pixels; `caption`; `boxes`, for each figure a record of its `noun`
    and its box in pixels (`left`, `top`, `right`, `bottom`).

        >>> columns = make_scenes(2)
        >>> list(columns), columns["image"][0].size
        (['image', 'caption', 'boxes'], (64, 64))
    """
    generator = np.random.default_rng(seed)
    columns: Columns = {"image": [], "caption": [], "boxes": []}
    nouns = [f"{color} {shape}" for color in _COLORS for shape in _SHAPES]
    for _ in range(rows):
        things = choose(nouns, max_figures, generator)
        sides = generator.integers(size // 6, size // 4 + 1, len(things))
        boxes = arrange(things, [(int(side), int(side)) for side in sides], size, generator)
        image = Image.fromarray(generator.integers(200, 256, (size, size, 3), dtype=np.uint8))
        for box in boxes:
            _draw(image, box)
        columns["image"].append(image)
        columns["caption"].append(describe(boxes))
        columns["boxes"].append([box._asdict() for box in boxes])
    return columns


def choose(nouns: Sequence[str], max_count: int, generator: np.random.Generator) -> list[str]:
    """Random nouns for the objects of a scene, at most `max_count`, of one to three kinds."""
    kinds = generator.choice(np.array(nouns), int(generator.integers(1, min(3, max_count) + 1)), replace=False).tolist()
    things = list(kinds)
    for _ in range(int(generator.integers(0, max_count - len(kinds) + 1))):
        things.append(str(generator.choice(kinds)))
    return things


def arrange(
    nouns: Sequence[str], sizes: Sequence[tuple[int, int]], side: int, generator: np.random.Generator
) -> list[Box]:
    """Random boxes without overlap in a square of `side` pixels, for objects of these sizes (width, height)."""
    while True:
        boxes: list[Box] = []
        for noun, (width, height) in zip(nouns, sizes, strict=True):
            left, top = (int(generator.integers(0, side - length + 1)) for length in (width, height))
            boxes.append(Box(noun, left, top, left + width, top + height))
        if not any(_overlap(a, b) for at, a in enumerate(boxes) for b in boxes[:at]):
            return boxes


def describe(boxes: Sequence[Box]) -> str:
    """The caption of a scene."""
    groups = {noun: [box for box in boxes if box.noun == noun] for noun in sorted({box.noun for box in boxes})}
    phrases = [_group(noun, len(members)) for noun, members in groups.items()]
    sentences = [" and ".join(filter(None, [", ".join(phrases[:-1]), phrases[-1]]))]
    for (noun, members), (other, others) in pairwise(groups.items()):
        relation = _relation(members, others)
        if relation is not None:
            verb = "is" if len(members) == 1 else "are"
            one, two = _form(noun, len(members)), _form(other, len(others))
            sentences.append(f"the {one} {verb} {relation} the {two}")
    return ". ".join(sentences) + "."


def caption_facts(text: str) -> set[tuple[str, ...]]:
    """The facts in a caption: `(noun,)` for the presence, `(noun, count)`, and `(noun, "left of" | "above", noun)`.

    "right of" and "below" are converted to the inverse relation. Words outside the grammar are ignored, so any
    generated text can be parsed.
    """
    sentences = [sentence.strip() for sentence in text.lower().split(".")]
    counted = {_singular(noun): count for count, noun in _counted(sentences[0])}
    found: set[tuple[str, ...]] = {(noun,) for noun in counted} | set(counted.items())
    for sentence in sentences[1:]:
        match = _RELATION.fullmatch(sentence)
        if match:
            one, relation, other = _singular(match[1]), match[3], _singular(match[4])
            found.add((other, _INVERSE[relation], one) if relation in _INVERSE else (one, relation, other))
    return found


def _counted(inventory: str) -> Iterator[tuple[str, str]]:
    """Count and noun of each group of an inventory."""
    for group in re.split(r",? and |, ", inventory):
        match = _GROUP.fullmatch(group.strip())
        if match:
            yield _NUMBERS[match[1]], match[2]


def _group(noun: str, count: int) -> str:
    word = "an" if count == 1 and noun[0] in "aeiou" else _COUNTS[count]
    return f"{word} {_form(noun, count)}"


def _form(noun: str, count: int) -> str:
    if count == 1:
        return noun
    return noun + ("es" if noun.endswith(("ss", "sh", "ch", "x")) else "s")


def _singular(noun: str) -> str:
    if noun.endswith(("sses", "shes", "ches", "xes")):
        return noun[:-2]
    return noun.removesuffix("s") if not noun.endswith("ss") else noun


def _relation(these: list[Box], those: list[Box]) -> str | None:
    """The relation of two groups of boxes along the axis with the wider gap; None if they overlap on both axes."""
    gaps = {
        "left of": min(box.left for box in those) - max(box.right for box in these),
        "right of": min(box.left for box in these) - max(box.right for box in those),
        "above": min(box.top for box in those) - max(box.bottom for box in these),
        "below": min(box.top for box in these) - max(box.bottom for box in those),
    }
    relation = max(gaps, key=lambda name: gaps[name])
    return relation if gaps[relation] >= 0 else None


def _overlap(a: Box, b: Box) -> bool:
    return a.left < b.right and b.left < a.right and a.top < b.bottom and b.top < a.bottom


def _draw(image: Image.Image, box: Box) -> None:
    color, shape = box.noun.split()
    corners = (box.left, box.top, box.right - 1, box.bottom - 1)
    draw = ImageDraw.Draw(image)
    if shape == "circle":
        draw.ellipse(corners, fill=_COLORS[color])
    elif shape == "square":
        draw.rectangle(corners, fill=_COLORS[color])
    else:
        middle = (box.left + box.right) / 2
        draw.polygon([(middle, corners[1]), (corners[0], corners[3]), (corners[2], corners[3])], fill=_COLORS[color])
