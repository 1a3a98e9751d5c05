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

from polymodal.core.errors import RecipeError
from polymodal.core.options import SizedModel, sized_field
from polymodal.core.registry import register
from polymodal.data.media.formats import IMAGE_SUFFIXES
from polymodal.data.media.image import ImageRequest, decode_image
from polymodal.data.media.image_preprocessing import ImagePreprocessing, background_color
from polymodal.data.media.metadata import read_metadata
from polymodal.data.media.source import MediaError
from polymodal.data.store.decode_buffer import Item
from polymodal.data.table.block import RowBlock
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.modalities import image_augment, image_corruption
from polymodal.modalities.base import ModalityOptions
from polymodal.modalities.media import MediaModality, looks_like, recognised
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.resolve import read_checkpoint_config
from polymodal.recipe.data import LimitOptions

#: Images whose sizes are looked at.
OPENED = 200
SIDES = (32, 64, 96, 128, 160, 192, 224)


@register
class Image(MediaModality):
    """Images as square 8-bit RGB pixels, or as a checkpoint's own processor brings them to size.

    A cell is a path below the table's folder, encoded bytes, a `data:` address, a record of `bytes` and
    `path`, a PIL image or an array (see `data.media`).

    Prepared: `pixels [items, side, side, 3]` uint8; collated: `pixels [items, 3, side, side]`, the same
    memory seen channels-first, as convolutions want it. Items are distinct by content, not by path.
    """

    class Options(ModalityOptions, SizedModel):
        name: Literal["image"] = "image"
        checkpoint: str | None = None
        """The pretrained checkpoint that images are prepared for, exactly as its makers do: its size, crop and
        resampling filter. Pretrained encoders set it; then `pixels` and `fit` follow from it."""
        image_size: int | None = Field(default=None, ge=32, le=1_024)
        """Height and width that images are brought to. Silent: the checkpoint's; without one the largest of 32, 64,
        96, 128, 160, 192 and 224 that is not above `max_pixels` nor above the shorter side of half the images of a
        sample."""
        max_image_size: int = sized_field(64, 128, 224, ge=32, le=1_024)
        """Upper bound of the side that is chosen while `pixels` is silent."""
        resize_mode: Literal["crop", "pad", "stretch"] = "crop"
        """How an oblong image becomes a square: cut off the ends, add bars (black, beside pictures with transparency
        white as what shows through them), or distort. Silent with a checkpoint: as its own processor does."""
        translate: float = Field(default=0.06, ge=0, le=0.5)
        """In training: move images by up to this share of their side. 0: never, as where there is a checkpoint and
        this is silent."""
        horizontal_flip: bool = False
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
        self.side = options.image_size or options.max_image_size
        self.card: CheckpointConfig | None = None
        self.geometry: ImagePreprocessing | None = None

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        return recognised(sample, _looks_like_image, "image")

    @classmethod
    def resolve(cls, options: Options, samples: list[ColumnSample]) -> Options:
        """Fill `pixels` from the headers of up to 200 sampled images; those that cannot be read do not count. With a
        checkpoint, fill `pixels` and `fit` from its files, and change nothing in training that was not asked for.

        Raises:
            RecipeError: the checkpoint cannot be read, or takes no images of these `pixels`.
        """
        if options.checkpoint is not None:
            return _of_checkpoint(options, _geometry(_card(options.checkpoint)))
        if options.image_size is not None:
            return options
        sizes = [size for sample in samples for size in _sizes(sample)]
        return options.model_copy(update={"image_size": side_for(sizes, options.max_image_size)})

    def fit(self, blocks: Iterable[RowBlock]) -> None:
        """Images have nothing to learn from the training rows; the files of a checkpoint are read."""
        if self.options.checkpoint is not None:
            self._take(_card(self.options.checkpoint))

    def _take(self, card: CheckpointConfig) -> None:
        own = _geometry(card)
        self.card, self.geometry = card, own.with_resize_mode(self.options.resize_mode) if "resize_mode" in self.options.model_fields_set else own
        self.side = self.geometry.height

    def request(self) -> ImageRequest:
        return ImageRequest(self.side, self.options.resize_mode, self.geometry and self.geometry.without_normalization())

    def from_memory(self, cell: Any, limits: LimitOptions) -> tuple[bytes, Item] | None:
        """PIL images and arrays."""
        if not isinstance(cell, Pillow.Image | np.ndarray):
            return None
        image = decode_image(cell, limits)
        what = f"{image.width} x {image.height}, {background_color(image)} "
        return what.encode() + image.tobytes(), {"pixels": self.request().apply(image)}

    def collate(self, items: dict[str, np.ndarray]) -> dict[str, Tensor]:
        return {"pixels": torch.from_numpy(items["pixels"]).permute(0, 3, 1, 2)}

    @property
    def changes(self) -> bool:
        chosen = self.options
        return bool(chosen.translate or chosen.horizontal_flip or chosen.brightness or chosen.contrast)

    def augment(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        pixels, chosen = data["pixels"], self.options
        if chosen.translate:
            pixels = image_augment.translate(pixels, chosen.translate)
        if chosen.horizontal_flip:
            pixels = image_augment.horizontal_flip(pixels)
        if chosen.brightness:
            pixels = image_augment.brightness(pixels, chosen.brightness)
        if chosen.contrast:
            pixels = image_augment.contrast(pixels, chosen.contrast)
        return {"pixels": pixels}

    def corrupt(
        self, items: dict[str, np.ndarray], kind: str, strength: float, draw: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """`noise`, `blur`, `jpeg`, `contrast` and `occlusion` as in `image_corruption`."""
        if kind not in self.corruptions:
            return super().corrupt(items, kind, strength, draw)
        drawn = (draw,) if kind in ("noise", "occlusion") else ()
        return {"pixels": getattr(image_corruption, kind)(items["pixels"], strength, *drawn)}

    def shape(self) -> dict[str, Any]:
        """`height`, `width` and `channels` of an image; with a checkpoint its card, as `checkpoint`."""
        plain = {"height": self.side, "width": self.side, "channels": 3}
        return plain if self.card is None else {**plain, "checkpoint": self.card.to_dict()}

    def save(self, folder: Path) -> dict[str, Any]:
        return {"side": self.side} if self.card is None else {"checkpoint": self.card.to_dict()}

    def load(self, folder: Path, state: dict[str, Any]) -> None:
        if "checkpoint" in state:
            self._take(CheckpointConfig.from_dict(state["checkpoint"]))
        else:
            self.side = state["side"]

    def picture(self, item: dict[str, np.ndarray]) -> Pillow.Image:
        return Pillow.fromarray(np.ascontiguousarray(item["pixels"]))

    def show(self) -> str:
        return f"images of {self.side} x {self.side} pixels ({self.options.resize_mode})"


def _card(checkpoint: str) -> CheckpointConfig:
    try:
        return read_checkpoint_config(checkpoint, "image")
    except RecipeError as error:
        raise error.with_prefix("checkpoint") from None


def _geometry(card: CheckpointConfig) -> ImagePreprocessing:
    """How a checkpoint's images are prepared.

    Raises:
        RecipeError: its files ask for what is not known here, or for oblong images.
    """
    try:
        geometry = ImagePreprocessing.from_config(card.preprocessor, card.config)
    except RecipeError as error:
        raise RecipeError("checkpoint", f"{card.name!r} cannot be used: {error.problem}") from None
    if geometry.height != geometry.width:
        size = f"{geometry.width} x {geometry.height}"
        raise RecipeError("checkpoint", f"{card.name!r} takes images of {size} pixels; only squares can be prepared")
    return geometry


def _of_checkpoint(options: Image.Options, geometry: ImagePreprocessing) -> Image.Options:
    """The options with the size that their checkpoint takes, its own fit and no random change where nothing else is
    asked for.

    Raises:
        RecipeError: they ask for another size.
    """
    if options.image_size not in (None, geometry.height):
        raise RecipeError(
            "image_size", f"the checkpoint {options.checkpoint!r} takes images of {geometry.height} pixels; leave this out"
        )
    silent = {"resize_mode": geometry.resize_mode, "translate": 0.0}
    chosen = {key: value for key, value in silent.items() if key not in options.model_fields_set}
    return options.model_copy(update={"image_size": geometry.height, **chosen})


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
    for found in read_metadata("image", files, sample.root, sample.limits):
        if not isinstance(found, MediaError) and found.width and found.height:
            yield found.width, found.height


def _looks_like_image(cell: Any) -> bool:
    if isinstance(cell, np.ndarray):
        return (cell.ndim == 3 and cell.shape[2] in (1, 3, 4)) or (cell.ndim == 2 and cell.dtype == np.uint8)
    return isinstance(cell, Pillow.Image) or looks_like("image", cell, IMAGE_SUFFIXES)
