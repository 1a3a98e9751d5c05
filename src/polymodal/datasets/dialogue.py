"""Small generated dialogues about drawn scenes, in which questions refer to earlier turns.

A scene has two groups of figures, of different shape, color and count. A dialogue about it:

    user       "what colour are the circles?"   |   "which shape is red?"
    assistant  "red"                            |   "circle"
    user       "how many of those are there?"
    assistant  "two"
    user       "and how many others?"
    assistant  "one"

The first question names one of the groups; without it, the later questions are ambiguous.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from polymodal.datasets.planted import Columns
from polymodal.datasets.scenes import Box, arrange

COLORS = {"red": (210, 40, 40), "green": (40, 160, 60), "blue": (50, 70, 210)}
SHAPES = ("circle", "square", "triangle")
COUNTS = ("one", "two", "three")
SECOND, THIRD = "how many of those are there?", "and how many others?"


def make_dialogues(scenes: int = 32, seed: int = 0, size: int = 64) -> Columns:
    """Dialogues about drawn scenes: three rows for each scene, one for each turn.

    Columns: `image` (a PIL image of `size` x `size` pixels, the same in the three rows of a scene), `history` (the
    turns before: records of `role` and `content`), `question`, `answer`, and the number of the `scene`, by which to
    split.

        >>> columns = make_dialogues(scenes=1)
        >>> columns["question"][1:], [len(turns) for turns in columns["history"]]
        (['how many of those are there?', 'and how many others?'], [0, 2, 4])
    """
    generator = np.random.default_rng(seed)
    columns: Columns = {"image": [], "history": [], "question": [], "answer": [], "scene": []}
    for scene in range(scenes):
        shapes = generator.choice(SHAPES, 2, replace=False).tolist()
        colors = generator.choice(list(COLORS), 2, replace=False).tolist()
        counts = generator.choice(3, 2, replace=False).tolist()
        image = _image(shapes, colors, counts, size, generator)
        if generator.random() < 0.5:
            turns = [(f"what colour are the {shapes[0]}s?", colors[0])]
        else:
            turns = [(f"which shape is {colors[0]}?", shapes[0])]
        turns += [(SECOND, COUNTS[counts[0]]), (THIRD, COUNTS[counts[1]])]
        history: list[dict[str, str]] = []
        for question, answer in turns:
            columns["image"].append(image)
            columns["history"].append(list(history))
            columns["question"].append(question)
            columns["answer"].append(answer)
            columns["scene"].append(scene)
            history += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return columns


def _image(
    shapes: list[str], colors: list[str], counts: list[int], size: int, generator: np.random.Generator
) -> Image.Image:
    """A scene on a noisy background; `counts` are indices of `COUNTS`."""
    image = Image.fromarray(generator.integers(200, 256, (size, size, 3), dtype=np.uint8))
    kinds = [kind for kind, count in enumerate(counts) for _ in range(count + 1)]
    for kind, box in zip(
        kinds, arrange([shapes[kind] for kind in kinds], [(size // 5,) * 2] * len(kinds), size, generator), strict=True
    ):
        _draw(image, box, COLORS[colors[kind]])
    return image


def _draw(image: Image.Image, box: Box, color: tuple[int, int, int]) -> None:
    draw = ImageDraw.Draw(image)
    corners = (box.left, box.top, box.right - 1, box.bottom - 1)
    if box.noun == "circle":
        draw.ellipse(corners, fill=color)
    elif box.noun == "square":
        draw.rectangle(corners, fill=color)
    else:
        draw.polygon(
            [((box.left + box.right) // 2, box.top), (box.left, corners[3]), (corners[2], corners[3])], fill=color
        )
