"""The `image` modality."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

import numpy as np
import torch
from PIL import Image as Pillow
from pydantic import Field, PositiveInt
from torch import Tensor
from typing_extensions import TypedDict

from polymodal.core.errors import RecipeError
from polymodal.core.needs import needs_bound
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
from polymodal.modalities.intended_media import looks_like, match_media
from polymodal.modalities.media import MediaModality
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.resolve import read_checkpoint_config
from polymodal.recipe.data import LimitOptions

#: Number of images whose sizes are read.
MAX_SAMPLED_FILES = 200
IMAGE_SIZES = (32, 64, 96, 128, 160, 192, 224)


_BOUND = needs_bound("image_size", "max_image_size")


class ImageState(TypedDict):
    """The saved state: the size of the images, or the configuration of the checkpoint that sets it."""

    side: NotRequired[PositiveInt]
    checkpoint: NotRequired[CheckpointConfig]


@register
class Image(MediaModality):
    """Images as square 8-bit RGB pixels, or preprocessed as for a checkpoint.

    A cell is a path below the table's folder, encoded bytes, a `data:` address, a record of `bytes` and `path`, a PIL
    image or an array (see `data.media`).

    Prepared: `pixels [items, size, size, 3]` uint8. Collated: `pixels [items, 3, size, size]`, a channels-first view of
    the same memory, as convolutions expect. Items are distinct by content, not by path.
    """

    class Options(ModalityOptions, SizedModel):
        name: Literal["image"] = "image"
        checkpoint: str | None = None
        """Preprocess images for this pretrained checkpoint, exactly as its own processor does: size, crop and
        resampling filter. Pretrained encoders set it; it then sets `image_size` and `resize_mode`."""
        image_size: int | None = Field(default=None, ge=32, le=1_024)
        """Target height and width. Default: that of the checkpoint; without one the largest of 32, 64, 96, 128, 160,
        192 and 224 that is at most `max_image_size` and at most the median shorter side of a sample."""
        max_image_size: Annotated[int, _BOUND] = sized_field(64, 128, 224, ge=32, le=1_024)
        """Upper bound of the default of `image_size`."""
        resize_mode: Literal["crop", "pad", "stretch"] = "crop"
        """How a rectangular image becomes a square: crop the ends, pad with bars (black, or white for images with
        transparency), or stretch. Default with a checkpoint: as its own processor does."""
        translate: float = Field(default=0.06, ge=0, le=0.5)
        """Augmentation: translate images by up to this fraction of their size. 0: off. Default with a checkpoint: 0."""
        horizontal_flip: bool = False
        """Augmentation: mirror half of the images. Use only if left and right are equivalent."""
        brightness: float = Field(default=0.0, ge=0, le=1)
        """Augmentation: change the brightness by up to this fraction."""
        contrast: float = Field(default=0.0, ge=0, le=1)
        """Augmentation: change the contrast by up to this fraction."""

        @property
        def has_augmentation(self) -> bool:
            return bool(self.translate or self.horizontal_flip or self.brightness or self.contrast)

    media = "image"
    ragged = False
    default_encoder = "resnet"
    corruptions = ("noise", "blur", "jpeg", "contrast", "occlusion")
    options: Options

    def __init__(self, options: Options, *, columns: list[str]) -> None:
        super().__init__(options, columns=columns)
        self.image_size = options.image_size or options.max_image_size
        self.card: CheckpointConfig | None = None
        self.geometry: ImagePreprocessing | None = None

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        return match_media(sample, "image", _looks_like_image, "image")

    @classmethod
    def resolve(cls, options: Options, samples: list[ColumnSample]) -> Options:
        """Fill `image_size` from the headers of up to 200 sampled images. Unreadable images are ignored. With a
        checkpoint, fill `image_size` and `resize_mode` from its files, and disable augmentation that is not set
        explicitly.

        Raises:
            RecipeError: the checkpoint cannot be read, or has another `image_size`.
        """
        if options.checkpoint is not None:
            return _of_checkpoint(options, _preprocessing(_card(options.checkpoint)))
        if options.image_size is not None:
            return options
        sizes = [size for sample in samples for size in _sizes(sample)]
        return options.model_copy(update={"image_size": choose_image_size(sizes, options.max_image_size)})

    def fit(self, blocks: Iterable[RowBlock]) -> None:
        """Read the files of the checkpoint. Without one, images have no fitted state."""
        if self.options.checkpoint is not None:
            self._set_checkpoint(_card(self.options.checkpoint))

    def _set_checkpoint(self, card: CheckpointConfig) -> None:
        own = _preprocessing(card)
        self.card, self.geometry = (
            card,
            own.with_resize_mode(self.options.resize_mode) if "resize_mode" in self.options.model_fields_set else own,
        )
        self.image_size = self.geometry.height

    def request(self) -> ImageRequest:
        return ImageRequest(
            self.image_size, self.options.resize_mode, self.geometry and self.geometry.without_normalization()
        )

    def is_cell(self, value: Any) -> bool | None:
        if isinstance(value, np.ndarray):  # [height, width] or [height, width, channels]
            return value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (1, 3, 4))
        return isinstance(value, dict) or super().is_cell(value)

    def from_memory(self, cell: Any, limits: LimitOptions) -> tuple[bytes, Item] | None:
        """Convert PIL images and arrays."""
        if not isinstance(cell, Pillow.Image | np.ndarray):
            return None
        image = decode_image(cell, limits)
        description = f"{image.width} x {image.height}, {background_color(image)} "
        return description.encode() + image.tobytes(), {"pixels": self.request().apply(image)}

    def collate(self, items: dict[str, np.ndarray]) -> dict[str, Tensor]:
        return {"pixels": torch.from_numpy(items["pixels"]).permute(0, 3, 1, 2)}

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
        """`noise`, `blur`, `jpeg`, `contrast` and `occlusion`, as in `image_corruption`."""
        if kind not in self.corruptions:
            return super().corrupt(items, kind, strength, draw)
        drawn = (draw,) if kind in ("noise", "occlusion") else ()
        return {"pixels": getattr(image_corruption, kind)(items["pixels"], strength, *drawn)}

    def shape(self) -> dict[str, Any]:
        """`height`, `width` and `channels` of an image; `checkpoint`, its configuration, if there is one."""
        plain = {"height": self.image_size, "width": self.image_size, "channels": 3}
        return plain if self.card is None else {**plain, "checkpoint": self.card.to_dict()}

    state_type = ImageState

    def save(self, folder: Path) -> dict[str, Any]:
        return {"side": self.image_size} if self.card is None else {"checkpoint": self.card.to_dict()}

    def load(self, folder: Path, state: dict[str, Any]) -> None:
        if "checkpoint" in state:
            self._set_checkpoint(CheckpointConfig.from_dict(state["checkpoint"]))
        else:
            self.image_size = state["side"]

    def preview(self, item: dict[str, np.ndarray]) -> Pillow.Image:
        return Pillow.fromarray(np.ascontiguousarray(item["pixels"]))

    def describe(self) -> str:
        return f"images of {self.image_size} x {self.image_size} pixels ({self.options.resize_mode})"


def _card(checkpoint: str) -> CheckpointConfig:
    try:
        return read_checkpoint_config(checkpoint, "image")
    except RecipeError as error:
        raise error.with_prefix("checkpoint") from None


def _preprocessing(card: CheckpointConfig) -> ImagePreprocessing:
    """The preprocessing of a checkpoint.

    Raises:
        RecipeError: its files have unsupported values, or its images are not square.
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
    """The options with the image size and resize mode of their checkpoint and without augmentation that is not set
    explicitly.

    Raises:
        RecipeError: they set another size.
    """
    if options.image_size not in (None, geometry.height):
        raise RecipeError(
            "image_size",
            f"the checkpoint {options.checkpoint!r} uses images of {geometry.height} pixels; remove this option",
        )
    defaults = {"resize_mode": geometry.resize_mode, "translate": 0.0}
    chosen = {key: value for key, value in defaults.items() if key not in options.model_fields_set}
    return options.model_copy(update={"image_size": geometry.height, **chosen})


def choose_image_size(sizes: list[tuple[float, float]], max_size: int) -> int:
    """The largest of `IMAGE_SIZES` that is at most `max_size` and at most the median shorter side of the images."""
    bound = min(max_size, float(np.median([min(size) for size in sizes])) if sizes else max_size)
    return max([IMAGE_SIZES[0], *(side for side in IMAGE_SIZES if side <= bound)])


def _sizes(sample: ColumnSample) -> Iterator[tuple[float, float]]:
    """Width and height of images, for files from their headers."""
    files = []
    for cell in sample.values[:: max(1, len(sample.values) // MAX_SAMPLED_FILES)]:
        if not isinstance(cell, Pillow.Image | np.ndarray):
            files.append(cell)
            continue
        try:
            yield decode_image(cell, sample.limits).size
        except MediaError:  # reported by `prepare`
            continue
    for header in read_metadata("image", files, sample.root, sample.limits):
        if not isinstance(header, MediaError) and header.width and header.height:
            yield header.width, header.height


def _looks_like_image(cell: Any) -> bool:
    if isinstance(cell, np.ndarray):
        return (cell.ndim == 3 and cell.shape[2] in (1, 3, 4)) or (cell.ndim == 2 and cell.dtype == np.uint8)
    return isinstance(cell, Pillow.Image) or looks_like("image", cell, IMAGE_SUFFIXES)
