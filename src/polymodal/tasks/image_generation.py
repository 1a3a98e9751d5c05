"""Image generation: an image per row."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from PIL import Image as Pillow
from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor
from typing_extensions import TypedDict

from polymodal.checkpoint.reading import parsing, read_tensors
from polymodal.checkpoint.tensor_files import write_tensors
from polymodal.core.errors import ArtifactError, DataError
from polymodal.core.options import SizedModel, sized_field
from polymodal.core.registry import register
from polymodal.core.types import Space, TextShape
from polymodal.data.table.block import RowBlock
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.generation.image_sampling import ImageSamplingConfig
from polymodal.generation.image_tokenizer import AutoencoderConfig, ImageTokenizer
from polymodal.metrics.base import Metric
from polymodal.metrics.images import image_metrics
from polymodal.modalities.image import Image
from polymodal.tasks.base import Task, TaskOptions

AUTOENCODER_FILE = "autoencoder.safetensors"
#: Training images of the autoencoder, drawn at random from more.
MAX_AUTOENCODER_IMAGES = 10_000
#: Tokens in the height and width of an image by default.
DEFAULT_GRID = 8


class ImageGenerationState(TypedDict):
    """The saved state, beside the weights of the autoencoder: the shape of the autoencoder, the mean image as PNG in
    base64, and the loss of the token frequencies."""

    image_size: PositiveInt
    patch_size: PositiveInt
    channels: PositiveInt
    levels: list[PositiveInt]
    mean_image: str
    baseline_loss: FiniteFloat
    images: NonNegativeInt


@register
class ImageGenerationTask(Task):
    """Image generation, token by token (Ramesh et al., "Zero-Shot Text-to-Image Generation", 2021).

    `fit` trains a discrete autoencoder on the training images (`nn.layers.image_autoencoder`). It turns an image into a
    grid of tokens, and tokens into an image. A text decoder predicts the tokens, row by row from the upper left, from
    the inputs and the previous tokens. The loss of a row is the mean over its tokens of -log p(token | previous tokens,
    inputs). Its perplexity is a score.

    A cell is any cell of the modality `image`. An image that cannot be read is a cell error and a missing target.
    Prepared targets are `[rows, 2 num_tokens + 3 image_size^2]` uint8: the tokens as int16, then the pixels. A
    distribution holds the pixels `[rows, 3 image_size^2]` of one image per row, from 0 to 255. A prediction is a PNG
    file as a `data:` address, which every table format and the modality `image` can hold.
    """

    class Options(TaskOptions, SizedModel):
        name: Literal["image_generation"] = "image_generation"
        image_size: int = sized_field(32, 64, 64, ge=32, le=256)
        """Height and width of the images."""
        resize_mode: Literal["crop", "pad", "stretch"] = "crop"
        """How a rectangular image becomes a square: crop the ends, pad with bars, or stretch."""
        patch_size: Literal[4, 8, 16] | None = None
        """Pixels per token in height and width. Default: that of a grid of 8 x 8 tokens, from 4 to 16. Fewer tokens are
        faster, more tokens keep more details."""
        levels: Annotated[list[Annotated[int, Field(ge=2, le=16)]], Field(min_length=1, max_length=6)] = [8, 8, 8]
        """Values of each number in the code of a token; their product is the number of different tokens, at most
        32,767."""
        autoencoder_channels: int = sized_field(32, 64, 128, ge=4, le=512)
        """Channels of the autoencoder."""
        autoencoder_steps: int = sized_field(400, 1_500, 5_000, ge=1)
        """Training steps of the autoencoder, each on 32 images."""
        generation: ImageSamplingConfig = ImageSamplingConfig()
        """Configuration of image generation: temperature, filters, seed."""

        @model_validator(mode="after")
        def _check_shape(self) -> Self:
            if self.patch_size is not None and self.image_size % self.patch_size:
                raise ValueError(f"patch_size {self.patch_size} does not divide image_size {self.image_size}")
            if self.patch_size is None and self.image_size % _default_patch(self.image_size):
                raise ValueError(f"image_size must be a multiple of {_default_patch(self.image_size)}")
            if np.prod(self.levels) > np.iinfo(np.int16).max:
                raise ValueError("the product of levels is above 32,767; lower one of them")
            return self

    space: ClassVar[Space] = "image"
    is_generative: ClassVar[bool] = True
    default_decoder: ClassVar[str] = "transformer"
    default_fusion: ClassVar[str | None] = "attention"
    state_type = ImageGenerationState
    options: Options

    def __init__(self, options: Options, *, columns: list[str]) -> None:
        super().__init__(options, columns=columns)
        self.image_size = options.image_size
        pixels = Image.Options(image_size=options.image_size, resize_mode=options.resize_mode, translate=0.0)
        self._reader = Image(pixels, columns=columns)

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        return Image.match_column(sample)

    def fit(self, blocks: Iterable[RowBlock]) -> None:
        draw = np.random.default_rng(0)
        kept: list[np.ndarray] = []
        total, seen = np.zeros((self.image_size, self.image_size, 3)), 0
        for image in self._images(blocks):
            total, seen = total + image, seen + 1
            if len(kept) < MAX_AUTOENCODER_IMAGES:
                kept.append(image)
            elif (place := int(draw.integers(seen))) < MAX_AUTOENCODER_IMAGES:
                kept[place] = image
        if not kept:
            raise DataError("the training rows have no image that can be read", column=self.columns[0])
        options = self.options
        patch = options.patch_size or _default_patch(options.image_size)
        config = AutoencoderConfig(self.image_size, patch, options.autoencoder_channels, tuple(options.levels))
        images = np.stack(kept)
        self.tokenizer = ImageTokenizer.train(images, config, steps=options.autoencoder_steps)
        tokens = self.tokenizer.encode(images)
        frequencies = np.bincount(tokens.ravel()) / tokens.size
        frequencies = frequencies[frequencies > 0]
        self._baseline_loss = float(-(frequencies * np.log(frequencies)).sum())
        self._mean_image = (total / seen).round().astype(np.uint8)
        self._num_images = seen
        self._set_notes()

    def _images(self, blocks: Iterable[RowBlock]) -> Iterator[np.ndarray]:
        for block in blocks:
            prepared = self._reader.prepare(block)
            for item in prepared.index[prepared.index >= 0]:
                yield prepared.items.take(np.array([item]))["pixels"][0]

    def _set_notes(self) -> None:
        tokenizer = self.tokenizer
        self._notes = [
            f"images of {self.image_size} x {self.image_size} pixels as {tokenizer.num_tokens} tokens of "
            f"{tokenizer.vocab_size}; the autoencoder was trained on {self._num_images:,} images"
        ]

    def prepare(self, block: RowBlock) -> tuple[np.ndarray, np.ndarray]:
        prepared = self._reader.prepare(block)
        present = prepared.index >= 0
        count = self.tokenizer.num_tokens
        value = np.zeros((len(block), 2 * count + self.output_size), np.uint8)
        value[:, : 2 * count] = 255  # -1 as int16: a row without an image has no tokens
        if present.any():
            pixels = prepared.items.take(np.arange(len(prepared.items)))["pixels"]
            tokens = self.tokenizer.encode(pixels).astype(np.int16).view(np.uint8)
            items = np.concatenate([tokens, pixels.reshape(len(pixels), -1)], axis=1)
            value[present] = items[prepared.index[present]]
        return value, present

    @property
    def output_size(self) -> int:
        return 3 * self.image_size**2

    @property
    def text_shape(self) -> TextShape:
        return TextShape(self.tokenizer.vocab_size, 0, -1, 0, self.tokenizer.num_tokens)

    def collate(self, value: np.ndarray) -> Tensor:
        tokens = np.ascontiguousarray(value[:, : 2 * self.tokenizer.num_tokens]).view(np.int16)
        return torch.from_numpy(tokens.astype(np.int64))

    def loss(self, values: Tensor, target: Tensor) -> Tensor:
        return values[:, 0] / values[:, 1].clamp_min(1)

    def row_loss_weights(self, values: Tensor) -> Tensor:
        return values[:, 1]

    def baseline_loss(self) -> float:
        """Entropy of the token frequencies of the training images, in nats per token."""
        return self._baseline_loss

    def baseline_prediction(self) -> np.ndarray:
        """The mean of the training images."""
        return self._mean_image.reshape(-1).astype(np.float64)

    def distribution(self, values: Tensor) -> np.ndarray:
        """Generated tokens `[rows, num_tokens]` -> pixels `[rows, 3 image_size^2]` float64; NaN where nothing was
        generated."""
        found = np.full((len(values), self.output_size), np.nan)
        if values.shape[1]:
            found[:] = self.tokenizer.decode(values.cpu().numpy()).reshape(len(values), -1)
        return found

    def images(self, distribution: np.ndarray) -> list[Pillow.Image | None]:
        """The image of each row of a distribution; None where nothing was generated."""
        shape = (self.image_size, self.image_size, 3)
        return [
            None if np.isnan(row[0]) else Pillow.fromarray(row.reshape(shape).astype(np.uint8)) for row in distribution
        ]

    def predict(self, distribution: np.ndarray) -> list[Any]:
        return [None if image is None else png_address(image) for image in self.images(distribution)]

    def truth(self, value: np.ndarray) -> np.ndarray:
        """The pixels `[rows, 3 image_size^2]` of the target images."""
        return value[:, 2 * self.tokenizer.num_tokens :]

    @property
    def metrics(self) -> list[Metric]:
        return image_metrics(self.image_size)

    def write_files(self, folder: Path) -> None:
        write_tensors(folder / AUTOENCODER_FILE, self.tokenizer.state_dict())

    def read_files(self, folder: Path) -> None:
        file = folder / AUTOENCODER_FILE
        if not file.is_file():
            raise ArtifactError(f"{file} is missing: the autoencoder of {self.columns[0]!r}")
        self._weights, self._file = read_tensors(file), file

    def save(self) -> dict[str, Any]:
        config = self.tokenizer.config
        return {
            "image_size": config.image_size,
            "patch_size": config.patch_size,
            "channels": config.channels,
            "levels": list(config.levels),
            "mean_image": base64.b64encode(_png(Pillow.fromarray(self._mean_image))).decode(),
            "baseline_loss": self._baseline_loss,
            "images": self._num_images,
        }

    def load(self, state: dict[str, Any]) -> None:
        shape = (state["image_size"], state["patch_size"], state["channels"])
        with parsing(self._file):
            self.tokenizer = ImageTokenizer.load(self._weights, AutoencoderConfig(*shape, tuple(state["levels"])))
        self._mean_image = np.asarray(Pillow.open(io.BytesIO(base64.b64decode(state["mean_image"]))))
        self.image_size, self._baseline_loss = state["image_size"], state["baseline_loss"]
        self._num_images = state["images"]
        self._set_notes()


def png_address(image: Pillow.Image) -> str:
    """An image as a PNG file in a `data:` address.

    Example:
        >>> png_address(Pillow.new("RGB", (1, 1)))[:30]
        'data:image/png;base64,iVBORw0K'
    """
    return "data:image/png;base64," + base64.b64encode(_png(image)).decode()


def _png(image: Pillow.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _default_patch(image_size: int) -> int:
    """Pixels per token: 4, 8 or 16, for about `DEFAULT_GRID` tokens in the height of an image."""
    return next((patch for patch in (4, 8) if image_size <= DEFAULT_GRID * patch), 16)
