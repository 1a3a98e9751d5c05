"""Small seeded data sets with a planted signal, as dicts of columns: for tests, examples and
documentation."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

Columns = dict[str, list[Any]]

_FILLER = [
    "the",
    "a",
    "of",
    "near",
    "some",
    "very",
    "old",
    "new",
    "small",
    "day",
    "road",
    "house",
    "tree",
    "with",
]
_TOPICS = {
    "animal": ["cat", "dog", "fox"],
    "food": ["bread", "soup", "apple"],
    "tool": ["axe", "saw", "drill"],
}
FIGURE_COLORS = {"red": (210, 40, 40), "green": (40, 160, 60), "blue": (50, 70, 210)}
FIGURE_SHAPES = ("circle", "square", "triangle")


def make_exclusive_or(rows: int = 100, seed: int = 0, noise: float = 0.3) -> Columns:
    """Two vectors with one hidden bit each; the target is whether the bits differ (exclusive or).

    Each vector is its bit (-1 or 1) along a fixed direction plus normal noise with standard deviation `noise`. The four
    pairs of bits are equally frequent, so a single vector has no information about the target.

    Columns: numbers `a0` to `a3` and `b0` to `b3`; `target`, "yes" where the bits differ, otherwise "no".

        >>> columns = make_exclusive_or(4)
        >>> sorted(columns)
        ['a0', 'a1', 'a2', 'a3', 'b0', 'b1', 'b2', 'b3', 'target']
        >>> sorted(columns["target"])
        ['no', 'no', 'yes', 'yes']
    """
    generator = np.random.default_rng(seed)
    pair = generator.permutation(np.arange(rows) % 4)
    directions = {"a": np.array([1.0, -1.0, 1.0, -1.0]), "b": np.array([1.0, 1.0, -1.0, -1.0])}
    columns: Columns = {}
    for side, bit in (("a", pair % 2), ("b", pair // 2)):
        vectors = np.outer(2 * bit - 1, directions[side]) + noise * generator.normal(size=(rows, 4))
        columns |= {f"{side}{i}": vectors[:, i].tolist() for i in range(4)}
    columns["target"] = ["yes" if one % 2 != one // 2 else "no" for one in pair]
    return columns


def make_planted_text(rows: int = 100, seed: int = 0) -> Columns:
    """Sentences of filler words with one word of a topic.

    Columns: `text`; `topic`, one of "animal", "food", "tool".

        >>> columns = make_planted_text(3)
        >>> sorted(columns), len(columns["text"])
        (['text', 'topic'], 3)
    """
    generator = np.random.default_rng(seed)
    topics = generator.choice(list(_TOPICS), rows).tolist()
    texts = [_sentence(str(generator.choice(_TOPICS[topic])), generator) for topic in topics]
    return {"text": texts, "topic": topics}


def make_planted_images(rows: int = 100, seed: int = 0, size: int = 32) -> Columns:
    """Images of one figure on a noisy background.

    Columns: `image`, a PIL image of `size` x `size` pixels; `shape` and `color` of the figure.

        >>> columns = make_planted_images(2, size=16)
        >>> sorted(columns), columns["image"][0].size
        (['color', 'image', 'shape'], (16, 16))
    """
    generator = np.random.default_rng(seed)
    shapes = generator.choice(FIGURE_SHAPES, rows).tolist()
    colors = generator.choice(list(FIGURE_COLORS), rows).tolist()
    images = [_figure(s, c, size, generator) for s, c in zip(shapes, colors, strict=True)]
    return {"image": images, "shape": shapes, "color": colors}


def make_planted_table(rows: int = 100, seed: int = 0) -> Columns:
    """Numbers and a category, with a class and a number to predict.

    The class is "large" where `length` is over the limit of its `maker` (40, 50 or 60). The price is 2 length + 10
    weight plus normal noise with standard deviation 1.

    Columns: numbers `length`, `weight` and `useless`; category `maker`; targets `grade` ("large" or "small") and
    `price`.

        >>> sorted(make_planted_table(2))
        ['grade', 'length', 'maker', 'price', 'useless', 'weight']
    """
    generator = np.random.default_rng(seed)
    length, weight = generator.uniform(20, 80, rows), generator.uniform(0, 5, rows)
    limits = {"north": 40.0, "east": 50.0, "south": 60.0}
    makers = generator.choice(list(limits), rows).tolist()
    grades = ["large" if one > limits[maker] else "small" for one, maker in zip(length, makers, strict=True)]
    return {
        "length": length.tolist(),
        "weight": weight.tolist(),
        "maker": makers,
        "useless": generator.normal(size=rows).tolist(),
        "grade": grades,
        "price": (2 * length + 10 * weight + generator.normal(size=rows)).tolist(),
    }


def make_mixed(rows: int = 100, seed: int = 0, missing_ratio: float = 0.05) -> Columns:
    """Four inputs of different modalities, all of which are needed for the answer.

    The answer is "yes" if the figure has the color in the question and the score is over the limit of the mode (0.5 for
    strict, 0.1 for lenient). Each input cell is then set to None with probability `missing_ratio`.

    Columns: `question` (asks for a color), `image` (a PIL image of a figure, 32 x 32 pixels), `score` (a number),
    `mode` ("strict" or "lenient"), `answer` ("yes" or "no").

        >>> columns = make_mixed(2)
        >>> list(columns)
        ['question', 'image', 'score', 'mode', 'answer']
    """
    generator = np.random.default_rng(seed)
    asked = generator.choice(["red", "blue"], rows)
    shown = np.where(generator.random(rows) < 0.75, asked, np.where(asked == "red", "blue", "red"))
    modes = generator.choice(["strict", "lenient"], rows)
    score = generator.random(rows)
    yes = (asked == shown) & (score > np.where(modes == "strict", 0.5, 0.1))
    shapes = generator.choice(FIGURE_SHAPES, rows)
    inputs: Columns = {
        "question": [f"is the {generator.choice(_FILLER)} figure {color} ?" for color in asked],
        "image": [_figure(str(s), str(c), 32, generator) for s, c in zip(shapes, shown, strict=True)],
        "score": score.tolist(),
        "mode": modes.tolist(),
    }
    for column in inputs.values():
        for row in np.flatnonzero(generator.random(rows) < missing_ratio):
            column[row] = None
    return inputs | {"answer": np.where(yes, "yes", "no").tolist()}


def _sentence(word: str, generator: np.random.Generator) -> str:
    words = generator.choice(_FILLER, generator.integers(3, 9)).tolist()
    words.insert(int(generator.integers(len(words) + 1)), word)
    return " ".join(words)


def _figure(shape: str, color: str, size: int, generator: np.random.Generator) -> Image.Image:
    image = Image.fromarray(generator.integers(200, 256, (size, size, 3), dtype=np.uint8))
    radius = size * generator.uniform(0.2, 0.35)
    x, y = generator.uniform(radius, size - radius, 2)
    box = (x - radius, y - radius, x + radius, y + radius)
    draw = ImageDraw.Draw(image)
    if shape == "circle":
        draw.ellipse(box, fill=FIGURE_COLORS[color])
    elif shape == "square":
        draw.rectangle(box, fill=FIGURE_COLORS[color])
    else:
        draw.polygon([(x, box[1]), (box[0], box[3]), (box[2], box[3])], fill=FIGURE_COLORS[color])
    return image
