"""Clips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any, Literal, Self, cast

import numpy as np
import PIL.Image
from pydantic import Field
from torch import Tensor

from polymodal.core.errors import MissingExtraError, RecipeError
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
from polymodal.modalities.image import side_for
from polymodal.modalities.media import Item, MediaModality, inline_or_path, is_missing
from polymodal.modalities.previews import strip
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.video_checkpoint import video_checkpoint_config, required_num_frames, frame_geometry
from polymodal.recipe.data import LimitOptions

#: Files that are opened to see what a column holds.
OPENED = 50
_ANIMATED_SUFFIXES = frozenset({".gif", ".webp", ".apng"})


@register
class Video(MediaModality):
    """Clips as a few 8-bit RGB frames of one size and their times.

    A cell is a path below the table's folder, encoded bytes, a `data:` address, a record of `bytes` and `path`, or an
    array `[frames, height, width, 1, 3 or 4]` of uint8, or of floats from 0 to 1, at 25 frames a second. Video files,
    GIF, WebP and PNG (with one frame too) are read.

    Prepared: `pixels [items, frames, height, width, 3]` uint8, `times [items, frames]` float32 (seconds from the first
    frame of the clip), `length [items]`; shorter clips are padded with zeros. Collated: `pixels [items, frames, 3,
    height, width]`, the same memory seen channels-first; `times` and `length` as they are.

    With a checkpoint, frames are resized, cut and resampled as its own processor does it, and as many as its network
    reads are kept. Which frames those are, its files do not say: they are chosen as `sampling` has it.
    """

    class Options(ModalityOptions, SizedModel):
        name: Literal["video"] = "video"
        checkpoint: str | None = None
        """A pretrained checkpoint whose preparation clips get: a preset, a hub id or a folder; with `image:` before it
        where it reads single images. Encoders with a checkpoint set it themselves. It decides the number of frames
        (unless it reads single images), `image_size` and `resize_mode`, and is given no random changes that are not asked for."""
        num_frames: int = sized_field(8, 16, 16, ge=1, le=1_024)
        """The most frames that stand for a clip."""
        sampling: Literal["uniform", "keyframe", "scene"] = "uniform"
        """Which frames: those shown at the middles of equal parts of the duration; keyframes (fastest, but only as many
        and where the encoder put them); or those in the middle of the longest scenes."""
        image_size: int | None = Field(default=None, ge=32, le=1_024)
        """Height and width that frames are brought to. Silent: the largest of 32, 64, 96, 128, 160, 192 and 224 that is
        not above `max_image_size` nor above the shorter side of half the clips of a sample."""
        max_image_size: int = sized_field(64, 112, 160, ge=32, le=1_024)
        """Upper bound of the side that is chosen while `image_size` is silent."""
        resize_mode: Literal["crop", "pad", "stretch"] = "crop"
        """How an oblong frame becomes a square: cut off the ends, add black bars, or distort."""
        translate: float = Field(default=0.06, ge=0, le=0.5)
        """In training: move clips by up to this share of their side, all frames alike. 0: never."""
        horizontal_flip: bool = False
        """In training: mirror half of the clips. Only where left and right mean the same."""
        frame_dropout: float = Field(default=0.0, ge=0, lt=1)
        """In training: leave out each frame with this chance."""

        def at_size(self, size: Size) -> Self:
            """The number of frames stays silent where it is left to a checkpoint."""
            filled = super().at_size(size)
            if self.checkpoint is None or "num_frames" in self.model_fields_set:
                return filled
            given = filled.model_fields_set - {"num_frames"}
            return cast(Self, filled.model_construct(_fields_set=given, **dict(filled)))

    media = "video"
    default_encoder = "frame_encoder"
    corruptions = ("noise", "blur", "jpeg", "contrast", "occlusion", "frame_loss", "shuffle")
    options: Options

    def __init__(self, options: Options, *, columns: list[str]) -> None:
        super().__init__(options, columns=columns)
        self.side = options.image_size or options.max_image_size
        self._card: CheckpointConfig | None = None

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        """Nine of ten cells are clips or animated pictures; of the latter, more than half must move."""
        values = [value for value in sample.values if not is_missing(value)]
        found = [_looks_like(value) for value in values]
        share = sum(kind is not None for kind in found) / len(values) if values else 0.0
        if share < 0.9:
            return None
        unsure = [value for value, kind in zip(values, found, strict=True) if kind == "perhaps"]
        unsure = unsure[:: -(-len(unsure) // OPENED)] if unsure else []
        if unsure and _moving(unsure, sample) <= len(unsure) / 2:
            return None
        return Match(0.98, f"clip {'paths' if isinstance(values[0], str) else 'data'} in {share:.0%} of the rows")

    @classmethod
    def resolve(cls, options: Options, samples: list[ColumnSample]) -> Options:
        """Fill `pixels` from the headers of up to 50 sampled clips; those that cannot be read do not count. With a
        checkpoint, what its files say.

        Raises:
            RecipeError: an option is not what the checkpoint's network reads.
        """
        if options.checkpoint is not None:
            return _of_checkpoint(options, options.checkpoint)
        if options.image_size is not None:
            return options
        sizes = [size for sample in samples for size in _sizes(sample)]
        return options.model_copy(update={"image_size": side_for(sizes, options.max_image_size)})

    @property
    def card(self) -> CheckpointConfig | None:
        """What the checkpoint's files say; read when it is first asked for, or from a model directory."""
        if self._card is None and self.options.checkpoint is not None:
            self._card = video_checkpoint_config(self.options.checkpoint)
        return self._card

    def fit(self, blocks: Iterable[RowBlock]) -> None:
        """Clips have nothing to learn from the training rows."""

    def request(self) -> VideoRequest:
        chosen = self.options
        geometry = None if self.card is None else frame_geometry(self.card).without_normalization()
        return VideoRequest(chosen.num_frames, self.side, chosen.resize_mode, chosen.sampling, geometry)

    def from_memory(self, cell: Any, limits: LimitOptions) -> tuple[bytes, Item] | None:
        """Arrays of frames."""
        if not isinstance(cell, np.ndarray):
            return None
        if cell.ndim != 4 or not len(cell):
            raise MediaError(f"an array [frames, height, width, 1, 3 or 4] was expected, not {list(cell.shape)}")
        if len(cell) > limits.frames:
            raise MediaError(f"{len(cell)} frames are over the limit of {limits.frames}")
        if len(cell) / DEFAULT_FRAME_RATE > limits.seconds:
            raise MediaError(f"{len(cell)} frames last longer than {limits.seconds:g} seconds, the limit")
        frames = (decode_image(frame, limits) for frame in cell)
        timeline = FrameTimeline(range(len(cell)), len(cell), 1 / DEFAULT_FRAME_RATE)
        key = f"{cell.dtype} {cell.shape} ".encode() + np.ascontiguousarray(cell).tobytes()
        return key, select_frames(frames, timeline, self.request())

    def longest(self) -> int:
        return self.options.num_frames

    def collate(self, items: dict[str, np.ndarray]) -> dict[str, Tensor]:
        tensors = super().collate(items)
        return {**tensors, "pixels": tensors["pixels"].permute(0, 1, 4, 2, 3)}

    @property
    def changes(self) -> bool:
        return bool(self.options.frame_dropout or self.options.translate or self.options.horizontal_flip)

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
        """noise, blur, jpeg, contrast, occlusion: as `picture_changes` describes; the square stays in its place for the
            whole clip
        frame_loss: frames freeze to the one before, each with a chance of `strength`
        shuffle: the share `strength` of the frames change their places; the times stay
        """
        if kind not in self.corruptions:
            return super().corrupt(items, kind, strength, draw)
        changed = items["pixels"].copy()
        for clip, length in zip(changed, items["length"], strict=True):
            clip[:length] = _damaged(clip[:length], kind, strength, draw)
        return {**items, "pixels": changed}

    def shape(self) -> dict[str, Any]:
        """The most `frames`, and `height`, `width` and `channels` of each; `checkpoint`, its card, where there is
        one."""
        height, width = self.request().frame_size
        shape = {"frames": self.options.num_frames, "height": height, "width": width, "channels": 3}
        return shape if self.card is None else {**shape, "checkpoint": self.card.to_dict()}

    def picture(self, item: dict[str, np.ndarray]) -> PIL.Image.Image:
        return strip(item["pixels"])

    def save(self, folder: Path) -> dict[str, Any]:
        return {"side": self.side, "checkpoint": None if self.card is None else self.card.to_dict()}

    def load(self, folder: Path, state: dict[str, Any]) -> None:
        self.side = state["side"]
        self._card = CheckpointConfig.from_dict(state["checkpoint"]) if state.get("checkpoint") else None

    def show(self) -> str:
        chosen, (height, width) = self.options, self.request().frame_size
        said = chosen.resize_mode if self.card is None else f"{chosen.resize_mode}, as {self.card.name} wants it"
        return f"{chosen.num_frames} frames of {width} x {height} pixels ({chosen.sampling}, {said})"


def _of_checkpoint(options: Video.Options, checkpoint: str) -> Video.Options:
    """The options with what the files of the checkpoint say, and without random changes that were not asked for."""
    card = video_checkpoint_config(checkpoint)
    frames, geometry = required_num_frames(checkpoint, card), frame_geometry(card)
    said: dict[str, Any] = {
        "num_frames": options.num_frames if frames is None else frames,
        "image_size": geometry.height if geometry.height == geometry.width else None,
        "resize_mode": "crop" if geometry.stretch_to is None else "stretch",
    }
    given = options.model_fields_set
    for name, value in said.items():
        asked = getattr(options, name)
        if name in given and asked is not None and asked != value:
            needed = f"{geometry.height} x {geometry.width}" if name == "image_size" else value
            raise RecipeError(name, f"the checkpoint {checkpoint!r} reads {needed}, not {asked}; leave it out")
    still = {} if "translate" in given else {"translate": 0.0}
    return options.model_copy(update={**said, **still})


def _damaged(frames: np.ndarray, kind: str, strength: float, draw: np.random.Generator) -> np.ndarray:
    if kind == "occlusion":
        return image_corruption.occlusion(frames, strength, draw, group=max(1, len(frames)))
    if kind == "noise":
        return image_corruption.noise(frames, strength, draw)
    if kind in ("frame_loss", "shuffle"):
        return {"frame_loss": video_corruption.frame_loss, "shuffle": video_corruption.shuffle}[kind](frames, strength, draw)
    changes = {"blur": image_corruption.blur, "jpeg": image_corruption.jpeg, "contrast": image_corruption.contrast}
    return changes[kind](frames, strength)


def _looks_like(cell: Any) -> Literal["video", "perhaps"] | None:
    """What a cell is by its name or its first bytes; `perhaps` where only opening it tells (a picture that may move, a
    container that may hold sound alone)."""
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
    """How many files hold moving pictures; one that cannot be read does not count as such."""
    try:
        told = [
            found for found in read_metadata("video", cells, sample.root, sample.limits) if not isinstance(found, MediaError)
        ]
    except MissingExtraError:  # reading the clips says what is missing
        return len(cells)
    return sum(found.format not in ANIMATIONS or (found.frames or 0) > 1 for found in told)


def _sizes(sample: ColumnSample) -> Iterator[tuple[float, float]]:
    """Width and height of frames, those of files from their headers."""
    files = []
    for cell in sample.values[:: max(1, len(sample.values) // OPENED)]:
        if not isinstance(cell, np.ndarray):
            files.append(cell)
        elif cell.ndim == 4:
            yield cell.shape[2], cell.shape[1]
    for found in read_metadata("video", files, sample.root, sample.limits):
        if not isinstance(found, MediaError) and found.width and found.height:
            yield found.width, found.height
