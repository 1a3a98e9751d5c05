"""Composed scenes: Tux Paint stamps pasted on photographs, with known boxes and captions that describe them.

Stamps come from Debian's `tuxpaint-stamps-default` (GPL-2), photographs from its `opencv-doc`; neither is redistributed
here. Each part (train, validation, test) has its own stamps and photographs, so that a test scene shows new objects and
backgrounds; only the kinds of objects are the same.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from benchmarks.packages import unpack_debian
from polymodal.datasets.planted import Columns
from polymodal.datasets.scenes import arrange, choose, describe

Part = Literal["train", "validation", "test"]
SIDE = 224
#: The kinds of objects, and the folders or files of their stamps.
KINDS = {
    "ball": ["sports/*ball*", "sports/soccer*"],
    "bird": ["animals/birds/*"],
    "fish": ["animals/fish/*"],
    "flag": ["town/flags/*"],
    "flower": ["plants/flowers/*"],
    "fruit": ["food/fruit/*", "food/fruit/cartoon/*"],
    "gravestone": ["seasonal/halloween/grave*"],
    "hat": ["clothes/hats/*", "seasonal/*/*hat*"],
    "house": ["town/houses/cartoon/*"],
    "road sign": ["town/roadsigns/*"],
    "tool": ["household/tools/*"],
    "vehicle": ["vehicles/auto/*", "vehicles/construction/*", "vehicles/construction/cartoon/*", "vehicles/*truck*"],
}
#: Stamps in these folders that are of another kind.
NOT_OF_KIND = ("lobster", "seahorse", "shrimp", "hoverfly", "chick-hatched", "cementmixer", "football_helmet")
PHOTOS: dict[Part, tuple[str, ...]] = {
    "train": ("aloeL", "baboon", "basketball1", "board", "building", "graf1", "home", "leuvenA", "messi5", "stuff"),
    "validation": ("starry_night", "ml"),
    "test": ("aero1", "rubberwhale1", "squirrel_cls", "licenseplate_motion", "box_in_scene"),
}


def fetch_photos(folder: Path) -> Path:
    """The photographs in `folder`, unpacked from Debian's package if necessary."""
    photos = folder / "usr/share/doc/opencv-doc/examples/data"
    if not photos.is_dir():
        unpack_debian("opencv-doc", folder)
    return photos


def cut_outs(stamps: Path) -> dict[str, list[Path]]:
    """The stamps of each kind with a transparent background, in order."""
    found = {}
    for noun, patterns in KINDS.items():
        paths = sorted({path for pattern in patterns for path in stamps.glob(f"{pattern}.png")})
        found[noun] = [
            path for path in paths if "_mirror" not in path.stem and path.stem not in NOT_OF_KIND and _transparent(path)
        ]
    return found


def stamps_of(part: Part, paths: list[Path]) -> list[Path]:
    """Every fourth stamp is for the test, every eighth for validation, the others for training."""
    chosen: dict[Part, list[Path]] = {"train": [], "validation": [], "test": []}
    for index, path in enumerate(paths):
        chosen["test" if index % 4 == 3 else "validation" if index % 8 == 1 else "train"].append(path)
    return chosen[part]


def compose(stamps: Path, photos: Path, part: Part, rows: int, seed: int, max_objects: int = 3) -> Columns:
    """`image`: JPEG bytes, 224 x 224 pixels, up to `max_objects` stamps of 56 to 96 pixels on a crop of a photograph,
    without overlap; `caption` and `boxes` as in `datasets.scenes`."""
    generator = np.random.default_rng(seed)
    kinds = {noun: [_trimmed(path) for path in stamps_of(part, paths)] for noun, paths in cut_outs(stamps).items()}
    backgrounds = [Image.open(next(photos.glob(f"{name}.*"))).convert("RGB") for name in PHOTOS[part]]
    columns: Columns = {"image": [], "caption": [], "boxes": []}
    for _ in range(rows):
        nouns = choose(list(kinds), max_objects, generator)
        stamp_images = [kinds[noun][int(generator.integers(len(kinds[noun])))] for noun in nouns]
        sized = [_resized(stamp_image, int(generator.integers(56, 97))) for stamp_image in stamp_images]
        boxes = arrange(nouns, [stamp_image.size for stamp_image in sized], SIDE, generator)
        scene = _crop(backgrounds[int(generator.integers(len(backgrounds)))], generator)
        for stamp_image, box in zip(sized, boxes, strict=True):
            scene.paste(stamp_image, (box.left, box.top), stamp_image)
        file = io.BytesIO()
        scene.save(file, "JPEG", quality=92)
        columns["image"].append(file.getvalue())
        columns["caption"].append(describe(boxes))
        columns["boxes"].append([box._asdict() for box in boxes])
    return columns


def _transparent(path: Path) -> bool:
    with Image.open(path) as image:
        if image.mode != "RGBA" and "transparency" not in image.info:
            return False
        alpha = np.asarray(image.convert("RGBA"))[:, :, 3]
    return bool((alpha == 0).mean() > 0.02)


def _trimmed(path: Path) -> Image.Image:
    """The stamp without empty edges, its longer side at most 128 pixels."""
    with Image.open(path) as image:
        whole = image.convert("RGBA")
    solid = whole.getchannel("A").point(lambda alpha: 255 * (alpha > 32)).getbbox()
    trimmed = whole.crop(solid)
    trimmed.thumbnail((128, 128))
    return trimmed


def _resized(stamp_image: Image.Image, longer_side: int) -> Image.Image:
    scale = longer_side / max(stamp_image.size)
    width, height = (max(8, round(side * scale)) for side in stamp_image.size)
    return stamp_image.resize((width, height), Image.Resampling.LANCZOS)


def _crop(photo: Image.Image, generator: np.random.Generator) -> Image.Image:
    """A square of at least half of the shorter side, resized."""
    side = int(min(photo.size) * generator.uniform(0.5, 1.0))
    left, top = (int(generator.integers(0, length - side + 1)) for length in photo.size)
    return photo.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
