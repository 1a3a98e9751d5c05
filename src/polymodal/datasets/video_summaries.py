"""Small generated videos of a few scenes, with a summary in one sentence: `a red circle, then a blue bar.`"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

from polymodal.datasets.planted import Columns

SIDE = 32
FRAME_MILLISECONDS = 100
#: Frames of the shortest and of the longest scene.
SCENE = (8, 14)
_COLORS = {"red": (210, 40, 40), "green": (40, 160, 60), "blue": (50, 70, 210)}
_SHAPES = ("circle", "bar")
_GROUNDS = (20, 130, 240)


def make_video_summaries(rows: int = 100, seed: int = 0, scenes: int = 3) -> Columns:
    """Videos of one to `scenes` scenes, each with a drifting figure, and a sentence that lists them in order.

    A scene has 8 to 14 frames, and its background differs from that of the scene before it. The summary depends on the
    order of the scenes, so single frames do not determine it.

    Columns: `clip`, a GIF as bytes of 32 x 32 pixels, 10 frames a second; `summary`; `cuts`, the start times of all
    scenes but the first, in seconds.

        >>> columns = make_video_summaries(1, scenes=1)
        >>> columns["cuts"]
        [[]]
    """
    generator = np.random.default_rng(seed)
    columns: Columns = {"clip": [], "summary": [], "cuts": []}
    for _ in range(rows):
        frames: list[Image.Image] = []
        phrases, starts = [], []
        ground = -1
        for _ in range(int(generator.integers(1, scenes + 1))):
            starts.append(len(frames) * FRAME_MILLISECONDS / 1000)
            ground = int(generator.choice([one for one in range(len(_GROUNDS)) if one != ground]))
            color, shape = str(generator.choice(list(_COLORS))), str(generator.choice(_SHAPES))
            phrases.append(f"a {color} {shape}")
            frames += _scene(_GROUNDS[ground], color, shape, generator)
        columns["clip"].append(_animation(frames))
        columns["summary"].append(", then ".join(phrases) + ".")
        columns["cuts"].append(starts[1:])
    return columns


def _scene(ground: int, color: str, shape: str, generator: np.random.Generator) -> list[Image.Image]:
    side = int(generator.integers(14, 21))
    positions = generator.integers(1, SIDE - side, (2, 2))
    frames = []
    for fraction in np.linspace(0, 1, int(generator.integers(SCENE[0], SCENE[1] + 1))):
        left, top = np.rint((1 - fraction) * positions[0] + fraction * positions[1]).astype(int).tolist()
        frame = Image.new("RGB", (SIDE, SIDE), (ground, ground, ground))
        draw = ImageDraw.Draw(frame)
        if shape == "circle":
            draw.ellipse((left, top, left + side - 1, top + side - 1), fill=_COLORS[color])
        else:
            draw.rectangle((left, top + side // 3, left + side - 1, top + 2 * side // 3), fill=_COLORS[color])
        frames.append(frame)
    return frames


def _animation(frames: list[Image.Image]) -> bytes:
    first, *rest = frames
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=rest, duration=FRAME_MILLISECONDS, loop=0)
    return file.getvalue()
