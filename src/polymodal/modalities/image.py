"""Images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image as Pillow
from pydantic import Field
from torch import Tensor

from polymodal.data.block import Block
from polymodal.data.decoded import Item
from polymodal.data.media.facts import facts
from polymodal.data.media.formats import IMAGE_SUFFIXES
from polymodal.data.media.image import ImageRequest, decode_image, square
from polymodal.data.media.source import MediaError
from polymodal.data.sample import ColumnSample, Guess
from polymodal.modalities import augment, picture_changes
from polymodal.modalities.base import ModalityOptions
from polymodal.modalities.media import MediaModality, looks_like, recognised
from polymodal.recipe.data import LimitOptions
from polymodal.recipe.options import Sized, sized
from polymodal.registry import register

#: Images whose sizes are looked at.
OPENED = 200
SIDES = (32, 64, 96, 128, 160, 192, 224)


@register
class Image(MediaModality):
    """Images as square 8-bit RGB pixels.

    A cell is a path below the table's folder, encoded bytes, a `data:` address, a record of `bytes` and
    `path`, a PIL image or an array (see `data.media`).

    Prepared: `pixels [items, side, side, 3]` uint8; collated: `pixels [items, 3, side, side]`, the same
    memory seen channels-first, as convolutions want it. Items are distinct by content, not by path.
    """

    class Options(ModalityOptions, Sized):
        name: Literal["image"] = "image"
        pixels: int | None = Field(default=None, ge=32, le=1_024)
        """Height and width that images are brought to. Silent: the largest of 32, 64, 96, 128, 160, 192 and
        224 that is not above `max_pixels` nor above the shorter side of half the images of a sample."""
        max_pixels: int = sized(64, 128, 224, ge=32, le=1_024)
        """Upper bound of the side that is chosen while `pixels` is silent."""
        fit: Literal["crop", "pad", "stretch"] = "crop"
        """How an oblong image becomes a square: cut off the ends, add black bars, or distort."""
        shift: float = Field(default=0.06, ge=0, le=0.5)
        """In training: move images by up to this share of their side. 0: never."""
        flip: bool = False
        """In training: mirror half of the images. Only where left and right mean the same."""
        brightness: float = Field(default=0.0, ge=0, le=1)
        """In training: make images brighter or darker by up to this share."""
        contrast: float = Field(default=0.0, ge=0, le=1)
        """In training: raise or lower the contrast by up to this share."""

    media = "image"
    ragged = False
    default_encoder = "resnet"
    corruptions = ("noise", "blur", "jpeg", "contrast", "occlusion")
    options: Options

    def __init__(self, options: Options, *, columns: list[str]) -> None:
        super().__init__(options, columns=columns)
        self.side = options.pixels or options.max_pixels

    @classmethod
    def recognise(cls, sample: ColumnSample) -> Guess | None:
        return recognised(sample, _looks_like_image, "image")

    @classmethod
    def resolve(cls, options: Options, samples: list[ColumnSample]) -> Options:
        """Fill `pixels` from the headers of up to 200 sampled images; those that cannot be read do not
        count.
        """
        if options.pixels is not None:
            return options
        sizes = [size for sample in samples for size in _sizes(sample)]
        return options.model_copy(update={"pixels": side_for(sizes, options.max_pixels)})

    def fit(self, blocks: Iterable[Block]) -> None:
        """Images have nothing to learn from the training rows."""

    def request(self) -> ImageRequest:
        return ImageRequest(self.side, self.options.fit)

    def from_memory(self, cell: Any, limits: LimitOptions) -> tuple[bytes, Item] | None:
        """PIL images and arrays."""
        if not isinstance(cell, Pillow.Image | np.ndarray):
            return None
        image = decode_image(cell, limits)
        return b"%d x %d " % image.size + image.tobytes(), {"pixels": square(image, self.side, self.options.fit)}

    def collate(self, items: dict[str, np.ndarray]) -> dict[str, Tensor]:
        return {"pixels": torch.from_numpy(items["pixels"]).permute(0, 3, 1, 2)}

    def augment(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        pixels, chosen = data["pixels"], self.options
        if chosen.shift:
            pixels = augment.shift(pixels, chosen.shift)
        if chosen.flip:
            pixels = augment.flip(pixels)
        if chosen.brightness:
            pixels = augment.brightness(pixels, chosen.brightness)
        if chosen.contrast:
            pixels = augment.contrast(pixels, chosen.contrast)
        return {"pixels": pixels}

    def corrupt(
        self, items: dict[str, np.ndarray], kind: str, strength: float, draw: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """`noise`, `blur`, `jpeg`, `contrast` and `occlusion` as in `picture_changes`."""
        if kind not in self.corruptions:
            return super().corrupt(items, kind, strength, draw)
        drawn = (draw,) if kind in ("noise", "occlusion") else ()
        return {"pixels": getattr(picture_changes, kind)(items["pixels"], strength, *drawn)}

    def shape(self) -> dict[str, Any]:
        """`height`, `width` and `channels` of an image."""
        return {"height": self.side, "width": self.side, "channels": 3}

    def save(self, folder: Path) -> dict[str, Any]:
        return {"side": self.side}

    def load(self, folder: Path, state: dict[str, Any]) -> None:
        self.side = state["side"]

    def picture(self, item: dict[str, np.ndarray]) -> Pillow.Image:
        return Pillow.fromarray(np.ascontiguousarray(item["pixels"]))

    def show(self) -> str:
        return f"images of {self.side} x {self.side} pixels ({self.options.fit})"


def side_for(sizes: list[tuple[float, float]], most: int) -> int:
    """The largest of `SIDES` that is not above `most`, nor above the shorter side of half of the pictures."""
    bound = min(most, float(np.median([min(size) for size in sizes])) if sizes else most)
    return max([SIDES[0], *(side for side in SIDES if side <= bound)])


def _sizes(sample: ColumnSample) -> Iterator[tuple[float, float]]:
    """Width and height of images, those of files from their headers."""
    files = []
    for cell in sample.values[:: max(1, len(sample.values) // OPENED)]:
        if not isinstance(cell, Pillow.Image | np.ndarray):
            files.append(cell)
            continue
        try:
            yield decode_image(cell, sample.limits).size
        except MediaError:  # reported when it is prepared
            continue
    for found in facts("image", files, sample.root, sample.limits):
        if not isinstance(found, MediaError) and found.width and found.height:
            yield found.width, found.height


def _looks_like_image(cell: Any) -> bool:
    if isinstance(cell, np.ndarray):
        return (cell.ndim == 3 and cell.shape[2] in (1, 3, 4)) or (cell.ndim == 2 and cell.dtype == np.uint8)
    return isinstance(cell, Pillow.Image) or looks_like("image", cell, IMAGE_SUFFIXES)
