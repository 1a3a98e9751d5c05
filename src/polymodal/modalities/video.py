"""The `video` modality."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, Self, cast

import numpy as np
import PIL.Image
from pydantic import Field, PositiveInt
from torch import Tensor
from typing_extensions import TypedDict

from polymodal.core.errors import MissingExtraError, RecipeError
from polymodal.core.needs import needs_above, needs_bound
from polymodal.core.options import Size, SizedModel, sized_field
from polymodal.core.registry import register
from polymodal.data.media.formats import ANIMATIONS, FORMATS, VIDEO_SUFFIXES, detect_format
from polymodal.data.media.frame_sampling import FrameTimeline
from polymodal.data.media.image import decode_image
from polymodal.data.media.metadata import read_metadata
from polymodal.data.media.source import MediaError
from polymodal.data.media.video import VideoRequest, select_frames
from polymodal.data.media.video_reader import DEFAULT_FRAME_RATE
from polymodal.data.table.block import RowBlock
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.modalities import image_corruption, video_augment, video_corruption
from polymodal.modalities.base import ModalityOptions
from polymodal.modalities.image import choose_image_size
from polymodal.modalities.intended_media import inline_or_path, match_media
from polymodal.modalities.media import Item, MediaModality
from polymodal.modalities.previews import frame_strip
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.video_checkpoint import frame_geometry, required_num_frames, video_checkpoint_config
from polymodal.recipe.data import LimitOptions

#: Number of files opened to detect the media of a column.
MAX_SAMPLED_FILES = 50
_ANIMATED_SUFFIXES = frozenset({".gif", ".webp", ".apng"})


_BOUND = needs_bound("image_size", "max_image_size")


class VideoState(TypedDict):
    """The saved state: the size of the frames, and the configuration of the checkpoint."""

    image_size: PositiveInt
    checkpoint: CheckpointConfig | None


@register
class Video(MediaModality):
    """Videos as a few 8-bit RGB frames of one size and their times.

    A cell is a path below the table's folder, encoded bytes, a `data:` address, a record of `bytes` and `path`, or an
    array `[frames, height, width, 1, 3 or 4]` of uint8, or of floats from 0 to 1, at 25 frames per second. Video files,
    GIF, WebP and PNG (also with one frame) are supported.

    Prepared: `pixels [items, frames, height, width, 3]` uint8, `times [items, frames]` float32 (seconds from the first
    frame of the video), `length [items]`; shorter videos are padded with zeros. Collated: `pixels [items, frames, 3,
    height, width]`, a channels-first view of the same memory; `times` and `length` unchanged.

    With a checkpoint, frames are resized, cropped and resampled as its own processor does, and the number of frames is
    that of its network. Its files do not define which frames are used: they are selected by `sampling`.
    """

    class Options(ModalityOptions, SizedModel):
        name: Literal["video"] = "video"
        checkpoint: str | None = None
        """Preprocess videos for this pretrained checkpoint: a preset, a hub id or a folder, with the prefix `image:`
        if it is an image network. Encoders with a checkpoint set it themselves. It sets `num_frames` (unless it is
        an image network), `image_size` and `resize_mode`, and disables augmentation by default."""
        num_frames: int = sized_field(8, 16, 16, ge=1, le=1_024)
        """Maximum number of frames of a video; of each window if `max_windows` is more than 1."""
        max_windows: int = Field(default=1, ge=1, le=1_000)
        """Maximum number of windows. Up to `num_frames` times as many frames are selected from a video, encoded in
        consecutive windows of at most `num_frames`, and averaged over them."""
        sampling: Literal["uniform", "keyframe", "scene"] = "uniform"
        """The selected frames: at the centers of equal parts of the duration; keyframes (fastest, but limited to the
        number and positions chosen by the encoder of the file); or at the centers of the longest scenes."""
        image_size: int | None = Field(default=None, ge=32, le=1_024)
        """Target height and width of frames. Default: the largest of 32, 64, 96, 128, 160, 192 and 224 that is at
        most `max_image_size` and at most the median shorter side of a sample."""
        max_image_size: Annotated[int, _BOUND] = sized_field(64, 112, 160, ge=32, le=1_024)
        """Upper bound of the default of `image_size`."""
        resize_mode: Literal["crop", "pad", "stretch"] = "crop"
        """How a rectangular frame becomes a square: crop the ends, pad with black bars, or stretch."""
        translate: float = Field(default=0.06, ge=0, le=0.5)
        """Augmentation: translate videos by up to this fraction of their size, all frames alike. 0: off."""
        horizontal_flip: bool = False
        """Augmentation: mirror half of the videos. Use only if left and right are equivalent."""
        frame_dropout: Annotated[float, needs_above("num_frames", 1)] = Field(default=0.0, ge=0, lt=1)
        """Augmentation: drop each frame with this probability."""

        @property
        def has_augmentation(self) -> bool:
            return bool(self.frame_dropout or self.translate or self.horizontal_flip)

        def at_size(self, size: Size) -> Self:
            """Fill options that depend on the recipe's size. The number of frames stays unset if a checkpoint
            defines it."""
            filled = super().at_size(size)
            if self.checkpoint is None or "num_frames" in self.model_fields_set:
                return filled
            given = filled.model_fields_set - {"num_frames"}
            return cast(Self, filled.model_construct(_fields_set=given, **dict(filled)))

    media = "video"
    time_preserving_options = {"max_windows": 1}  # windows have no times
    default_encoder = "frame_encoder"
    corruptions = ("noise", "blur", "jpeg", "contrast", "occlusion", "frame_loss", "shuffle")
    options: Options

    def __init__(self, options: Options, *, columns: list[str]) -> None:
        super().__init__(options, columns=columns)
        self.image_size = options.image_size or options.max_image_size
        self._card: CheckpointConfig | None = None

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        """Most cells are meant to be videos or animated images. More than half of the latter must have several
        frames."""
        found = match_media(sample, "video", lambda cell: _looks_like(cell) is not None, "video")
        if found is None:
            return None
        unsure = [cell for cell in sample.values if _looks_like(cell) == "perhaps"]
        unsure = unsure[:: -(-len(unsure) // MAX_SAMPLED_FILES)] if unsure else []
        if unsure and _moving(unsure, sample) <= len(unsure) / 2:
            return None
        return Match(0.98, found.reason)

    @classmethod
    def resolve(cls, options: Options, samples: list[ColumnSample]) -> Options:
        """Fill `image_size` from the headers of up to 50 sampled videos. Unreadable videos are ignored. With a
        checkpoint, fill the values in its files.

        Raises:
            RecipeError: an option contradicts the checkpoint's network.
        """
        if options.checkpoint is not None:
            return _of_checkpoint(options, options.checkpoint)
        if options.image_size is not None:
            return options
        sizes = [size for sample in samples for size in _sizes(sample)]
        return options.model_copy(update={"image_size": choose_image_size(sizes, options.max_image_size)})

    @property
    def card(self) -> CheckpointConfig | None:
        """The configuration of the checkpoint, read on first use, or loaded from a model directory."""
        if self._card is None and self.options.checkpoint is not None:
            self._card = video_checkpoint_config(self.options.checkpoint)
        return self._card

    def fit(self, blocks: Iterable[RowBlock]) -> None:
        """Do nothing: videos have no fitted state."""

    def request(self) -> VideoRequest:
        chosen = self.options
        preprocessing = None if self.card is None else frame_geometry(self.card).without_normalization()
        frames = self.max_records()
        return VideoRequest(frames, self.image_size, chosen.resize_mode, chosen.sampling, preprocessing)

    def is_cell(self, value: Any) -> bool | None:
        if isinstance(value, np.ndarray):  # [frames, height, width, channels]
            return value.ndim == 4
        return isinstance(value, dict) or super().is_cell(value)

    def from_memory(self, cell: Any, limits: LimitOptions) -> tuple[bytes, Item] | None:
        """Convert arrays of frames."""
        if not isinstance(cell, np.ndarray):
            return None
        if cell.ndim != 4 or not len(cell):
            raise MediaError(f"expected an array [frames, height, width, 1, 3 or 4], not {list(cell.shape)}")
        if len(cell) > limits.frames:
            raise MediaError(f"{len(cell)} frames are over the limit of {limits.frames}")
        if len(cell) / DEFAULT_FRAME_RATE > limits.seconds:
            raise MediaError(f"{len(cell)} frames last longer than {limits.seconds:g} seconds, the limit")
        frames = (decode_image(frame, limits) for frame in cell)
        timeline = FrameTimeline(range(len(cell)), len(cell), 1 / DEFAULT_FRAME_RATE)
        key = f"{cell.dtype} {cell.shape} ".encode() + np.ascontiguousarray(cell).tobytes()
        return key, select_frames(frames, timeline, self.request())

    def max_records(self) -> int:
        return self.options.num_frames * self.options.max_windows

    def collate(self, items: dict[str, np.ndarray]) -> dict[str, Tensor]:
        tensors = super().collate(items)
        return {**tensors, "pixels": tensors["pixels"].permute(0, 1, 4, 2, 3)}

    def augment(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        chosen = self.options
        if chosen.frame_dropout:
            data = video_augment.frame_dropout(data, chosen.frame_dropout)
        pixels = data["pixels"]
        if chosen.translate:
            pixels = video_augment.translate(pixels, chosen.translate)
        if chosen.horizontal_flip:
            pixels = video_augment.horizontal_flip(pixels)
        return {**data, "pixels": pixels}

    def corrupt(
        self, items: dict[str, np.ndarray], kind: str, strength: float, draw: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """noise, blur, jpeg, contrast, occlusion: as in `image_corruption`; the square keeps its position during the
        whole video
        frame_loss: frames freeze to the previous frame, each with probability `strength`
        shuffle: the fraction `strength` of the frames is shuffled; the times stay
        """
        if kind not in self.corruptions:
            return super().corrupt(items, kind, strength, draw)
        changed = items["pixels"].copy()
        for video, length in zip(changed, items["length"], strict=True):
            video[:length] = _corrupted(video[:length], kind, strength, draw)
        return {**items, "pixels": changed}

    def shape(self) -> dict[str, Any]:
        """`frames`, the maximum number of a window, and `height`, `width` and `channels` of each; `windows`, the
        maximum number of windows, if there can be several; `checkpoint`, its configuration, if there is one."""
        height, width = self.request().frame_size
        shape = {"frames": self.options.num_frames, "height": height, "width": width, "channels": 3}
        shape = self.windowed_shape(shape)
        return shape if self.card is None else {**shape, "checkpoint": self.card.to_dict()}

    def preview(self, item: dict[str, np.ndarray]) -> PIL.Image.Image:
        return frame_strip(item["pixels"])

    state_type = VideoState

    def save(self, folder: Path) -> dict[str, Any]:
        return {"image_size": self.image_size, "checkpoint": None if self.card is None else self.card.to_dict()}

    def load(self, folder: Path, state: dict[str, Any]) -> None:
        self.image_size = state["image_size"]
        self._card = CheckpointConfig.from_dict(state["checkpoint"]) if state.get("checkpoint") else None

    def describe(self) -> str:
        chosen, (height, width) = self.options, self.request().frame_size
        mode = chosen.resize_mode if self.card is None else f"{chosen.resize_mode}, as required by {self.card.name}"
        frames = f"{self.max_records()} frames{self.describe_windows()}"
        return f"{frames} of {width} x {height} pixels ({chosen.sampling}, {mode})"


def _of_checkpoint(options: Video.Options, checkpoint: str) -> Video.Options:
    """The options with the values in the checkpoint's files and without augmentation that is not set explicitly."""
    card = video_checkpoint_config(checkpoint)
    frames, geometry = required_num_frames(checkpoint, card), frame_geometry(card)
    required: dict[str, Any] = {
        "num_frames": options.num_frames if frames is None else frames,
        "image_size": geometry.height if geometry.height == geometry.width else None,
        "resize_mode": "crop" if geometry.stretch_to is None else "stretch",
    }
    given = options.model_fields_set
    for name, value in required.items():
        asked = getattr(options, name)
        if name in given and asked is not None and asked != value:
            needed = f"{geometry.height} x {geometry.width}" if name == "image_size" else value
            raise RecipeError(name, f"the checkpoint {checkpoint!r} requires {needed}, not {asked}; remove this option")
    augmentation = {} if "translate" in given else {"translate": 0.0}
    return options.model_copy(update={**required, **augmentation})


def _corrupted(frames: np.ndarray, kind: str, strength: float, draw: np.random.Generator) -> np.ndarray:
    if kind == "occlusion":
        return image_corruption.occlusion(frames, strength, draw, group=max(1, len(frames)))
    if kind == "noise":
        return image_corruption.noise(frames, strength, draw)
    if kind in ("frame_loss", "shuffle"):
        return {"frame_loss": video_corruption.frame_loss, "shuffle": video_corruption.shuffle}[kind](
            frames, strength, draw
        )
    changes = {"blur": image_corruption.blur, "jpeg": image_corruption.jpeg, "contrast": image_corruption.contrast}
    return changes[kind](frames, strength)


def _looks_like(cell: Any) -> Literal["video", "perhaps"] | None:
    """The kind of a cell by its name or its first bytes. `perhaps` if only opening it can decide (an image that may
    be animated, a container that may have only audio)."""
    if isinstance(cell, dict):
        return _looks_like(inline_or_path(cell))
    if isinstance(cell, np.ndarray):
        return "video" if cell.ndim == 4 and cell.shape[3] in (1, 3, 4) else None
    if isinstance(cell, str | PurePath):
        text = str(cell)
        if text[:11].lower() == "data:video/" or PurePath(text).suffix.lower() in VIDEO_SUFFIXES:
            return "video"
        animated = text[:15].lower().startswith(("data:image/gif", "data:image/webp"))
        return "perhaps" if animated or PurePath(text).suffix.lower() in _ANIMATED_SUFFIXES else None
    if not isinstance(cell, bytes) or (name := detect_format(cell)) not in FORMATS["video"]:
        return None
    return "video" if name == "AVI" else "perhaps"


def _moving(cells: list[Any], sample: ColumnSample) -> int:
    """The number of files with moving images. Unreadable files are not counted."""
    try:
        headers = [
            header
            for header in read_metadata("video", cells, sample.root, sample.limits)
            if not isinstance(header, MediaError)
        ]
    except MissingExtraError:  # decoding the videos reports the missing package
        return len(cells)
    return sum(header.format not in ANIMATIONS or (header.frames or 0) > 1 for header in headers)


def _sizes(sample: ColumnSample) -> Iterator[tuple[float, float]]:
    """Width and height of frames, for files from their headers."""
    files = []
    for cell in sample.values[:: max(1, len(sample.values) // MAX_SAMPLED_FILES)]:
        if not isinstance(cell, np.ndarray):
            files.append(cell)
        elif cell.ndim == 4:
            yield cell.shape[2], cell.shape[1]
    for header in read_metadata("video", files, sample.root, sample.limits):
        if not isinstance(header, MediaError) and header.width and header.height:
            yield header.width, header.height
