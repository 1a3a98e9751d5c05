"""Small generated clips of a few scenes, and a sentence that tells them: `a red circle, then a blue bar.`"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

from polymodal.datasets.planted import Columns

SIDE = 32
FRAME_MILLISECONDS = 100
#: Frames of the shortest and the longest scene.
SCENE = (8, 14)
_COLOURS = {"red": (210, 40, 40), "green": (40, 160, 60), "blue": (50, 70, 210)}
_SHAPES = ("circle", "bar")
_GROUNDS = (20, 130, 240)


def make_video_summaries(rows: int = 100, seed: int = 0, scenes: int = 3) -> Columns:
    """Clips of one to `scenes` scenes, each with a figure that drifts, and a sentence that tells them in order.

    A scene has 8 to 14 frames and a ground of another grey than the scene before. The order of the scenes is in the
    summary, so no frame alone, nor all of them in any order, says it.

    Columns: `clip`, a GIF as bytes of 32 x 32 pixels, 10 frames a second; `summary`; `cuts`, the seconds at which all
    scenes but the first begin.

        >>> columns = make_video_summaries(1, scenes=1)
        >>> columns["cuts"]
        [[]]
    """
    generator = np.random.default_rng(seed)
    columns: Columns = {"clip": [], "summary": [], "cuts": []}
    for _ in range(rows):
        frames: list[Image.Image] = []
        told, starts = [], []
        ground = -1
        for _ in range(int(generator.integers(1, scenes + 1))):
            starts.append(len(frames) * FRAME_MILLISECONDS / 1000)
            ground = int(generator.choice([one for one in range(len(_GROUNDS)) if one != ground]))
            colour, shape = str(generator.choice(list(_COLOURS))), str(generator.choice(_SHAPES))
            told.append(f"a {colour} {shape}")
            frames += _scene(_GROUNDS[ground], colour, shape, generator)
        columns["clip"].append(_animation(frames))
        columns["summary"].append(", then ".join(told) + ".")
        columns["cuts"].append(starts[1:])
    return columns


def _scene(ground: int, colour: str, shape: str, generator: np.random.Generator) -> list[Image.Image]:
    side = int(generator.integers(14, 21))
    places = generator.integers(1, SIDE - side, (2, 2))
    frames = []
    for share in np.linspace(0, 1, int(generator.integers(SCENE[0], SCENE[1] + 1))):
        left, top = np.rint((1 - share) * places[0] + share * places[1]).astype(int).tolist()
        frame = Image.new("RGB", (SIDE, SIDE), (ground, ground, ground))
        draw = ImageDraw.Draw(frame)
        if shape == "circle":
            draw.ellipse((left, top, left + side - 1, top + side - 1), fill=_COLOURS[colour])
        else:
            draw.rectangle((left, top + side // 3, left + side - 1, top + 2 * side // 3), fill=_COLOURS[colour])
        frames.append(frame)
    return frames


def _animation(frames: list[Image.Image]) -> bytes:
    first, *rest = frames
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=rest, duration=FRAME_MILLISECONDS, loop=0)
    return file.getvalue()
