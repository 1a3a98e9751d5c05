"""Guarded decoding of videos: video files, and animated images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from polymodal.data.media import video_reader
from polymodal.data.media.animation import Animation
from polymodal.data.media.formats import ANIMATIONS, check_format
from polymodal.data.media.frame_sampling import FrameTimeline, even_positions, scene_frames, uniform_frames
from polymodal.data.media.image import resize_to_square
from polymodal.data.media.image_preprocessing import ImagePreprocessing
from polymodal.data.media.video_reader import PacketMismatch, VideoReader, translate_errors
from polymodal.recipe.data import LimitOptions

Sampling = Literal["uniform", "keyframe", "scene"]

VERSION = "rgb8, bilinear, 1"
# Scenes are detected in this many candidates per requested frame, as gray thumbnails of this size.
_CANDIDATES = 4
_THUMBNAIL_SIZE = 32


@dataclass(frozen=True)
class VideoRequest:
    """Target format of a video.

    num_frames: maximum number of frames
    image_size: height and width of the frames
    resize_mode: how a rectangular frame becomes a square
    sampling: which frames are kept
        uniform: the frames at the centers of equal parts of the duration
        keyframe: keyframes (decodable on their own), evenly by number. Nothing else is decoded. A video without
            keyframes is represented by its first frame
        scene: the frames at the centers of the longest scenes, found among `4 num_frames` candidates (keyframes if
            there are enough, else uniform frames); see `data.media.frame_sampling.scene_frames`
    preprocessing: resizing of a pretrained checkpoint, which replaces `image_size` and `resize_mode`
    """

    num_frames: int
    image_size: int
    resize_mode: str
    sampling: Sampling
    preprocessing: ImagePreprocessing | None = None

    def __post_init__(self) -> None:
        if isinstance(self.preprocessing, dict):  # after transport as JSON
            object.__setattr__(self, "preprocessing", ImagePreprocessing(**self.preprocessing))

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return (
            (self.image_size, self.image_size)
            if self.preprocessing is None
            else (self.preprocessing.height, self.preprocessing.width)
        )

    def to_pixels(self, image: Image.Image) -> np.ndarray:
        """An RGB frame as `[height, width, 3]` uint8."""
        if self.preprocessing is None:
            return resize_to_square(image, self.image_size, self.resize_mode)
        return self.preprocessing.apply(image)


@dataclass(frozen=True)
class VideoMetadata:
    """Metadata in the header: duration in seconds and number of frames (None if unknown), and the size of a frame as
    stored."""

    seconds: float | None
    frames: int | None
    width: int
    height: int


def layout(request: VideoRequest) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and shape of one record (a frame) of each field."""
    return {"pixels": ("uint8", (*request.frame_size, 3)), "times": ("float32", ())}


def decode(data: bytes, request: VideoRequest, limits: LimitOptions) -> dict[str, np.ndarray]:
    """The selected frames of a video: `pixels [n, height, width, 3]` uint8 and `times [n]` float32, seconds from its
    first frame. n is `request.num_frames`, or the number of frames (of keyframes) of the video if this is less.

    Only what the selected frames need is decoded: from the keyframe before each of them, and in one run if that
    keyframe was already passed. The result equals that of decoding everything before the selection. Everything is
    decoded if the packet times do not give the frame times (missing or double times, AVI with reordered frames), or if
    the decoder returns other frames than the packets promise. Frames without increasing times are then assumed to
    follow the header's frame rate (25 per second if it has none). Keyframe sampling decodes nothing that could
    contradict the packets, so it uses their times unchanged.

    Raises:
        MediaError: damage in anything that had to be decoded, an incomplete file, no images, or over a limit.
        MissingExtraError: PyAV is not installed (for other formats than GIF, WebP and PNG).
    """
    if check_format("video", data) in ANIMATIONS:
        return _animated(Animation(data, limits), request)
    reader = VideoReader(data, limits)
    if reader.timeline is not None:
        try:
            return _by_packets(reader, reader.timeline, request)
        except PacketMismatch:
            pass
    return _by_frames(reader, request)


def select_frames(
    frames: Iterable[Image.Image], timeline: FrameTimeline, request: VideoRequest
) -> dict[str, np.ndarray]:
    """Select from `frames`, a sequence in which all frames are complete images: an animation, an array."""
    every = list(range(len(timeline)))
    return _select(_ImageSource(frames), timeline, every, request)


def read_video_metadata(data: bytes, limits: LimitOptions) -> VideoMetadata:
    """Duration, number of frames and frame size of a video, from its header. Nothing is decoded.

    Raises:
        MediaError: not a video of a supported format, without images, or its frames are over the limit.
    """
    if check_format("video", data) in ANIMATIONS:
        animation = Animation(data, limits)
        return VideoMetadata(None, animation.num_frames, *animation.size)
    with translate_errors(), video_reader.open_container(data, limits) as container:
        stream = video_reader.video_stream(container)
        width, height = stream.codec_context.width, stream.codec_context.height
        video_reader.check_size(width, height, limits)
        seconds = None if container.duration is None else container.duration / 1e6
        return VideoMetadata(seconds, stream.frames or None, width, height)


def count_frames(data: bytes, limits: LimitOptions) -> int:
    """The number of frames of a video, counted by decoding all of them.

    Raises:
        MediaError: see `decode`.
    """
    if check_format("video", data) in ANIMATIONS:
        return sum(1 for _ in Animation(data, limits).frames())
    return sum(1 for _ in VideoReader(data, limits).decode_from())


def _by_packets(reader: VideoReader, timeline: FrameTimeline, request: VideoRequest) -> dict[str, np.ndarray]:
    """Select frames by the times of the packets, then decode only these."""
    numbers = {tick: number for number, tick in enumerate(timeline.starts)}
    return _select(
        _SeekingSource(reader, timeline), timeline, [numbers[tick] for tick in reader.keyframe_ticks()], request
    )


def _by_frames(reader: VideoReader, request: VideoRequest) -> dict[str, np.ndarray]:
    """Decode everything to get the times, select frames, then decode again up to the last selected frame."""
    timeline, keys = reader.timeline_by_decoding()
    return _select(_SequentialSource(reader), timeline, keys, request)


def _animated(animation: Animation, request: VideoRequest) -> dict[str, np.ndarray]:
    return select_frames(animation.frames(), animation.timeline(), request)


class _ImageSource:
    """Frames given as a sequence of images."""

    def __init__(self, frames: Iterable[Image.Image]) -> None:
        self._frames = frames

    def take(self, wanted: list[int], only_keys: bool) -> Iterator[Image.Image]:
        """The frames with the numbers `wanted` (increasing)."""
        chosen, last = set(wanted), max(wanted)
        for number, frame in enumerate(self._frames):
            if number in chosen:
                yield frame
            if number == last:
                return


class _SequentialSource:
    """Frames of a video that is decoded from its beginning."""

    def __init__(self, reader: VideoReader) -> None:
        self._reader = reader

    def take(self, wanted: list[int], only_keys: bool) -> Iterator[Image.Image]:
        chosen, last = set(wanted), max(wanted)
        for number, frame in enumerate(self._reader.decode_from()):
            if number in chosen:
                yield _to_image(frame)
            if number == last:
                return


class _SeekingSource:
    """Frames of a video that is decoded only where necessary."""

    def __init__(self, reader: VideoReader, timeline: FrameTimeline) -> None:
        self._reader, self._timeline = reader, timeline

    def take(self, wanted: list[int], only_keys: bool) -> Iterator[Image.Image]:
        ticks = [self._timeline.starts[number] for number in wanted]
        yield from map(_to_image, self._reader.decode_keyframes(ticks) if only_keys else self._reader.decode_at(ticks))


def _select(
    source: _ImageSource | _SequentialSource | _SeekingSource,
    timeline: FrameTimeline,
    keys: list[int],
    request: VideoRequest,
) -> dict[str, np.ndarray]:
    """The frames that `request` selects from a source.

    keys: numbers of the keyframes
    """
    frames = request.num_frames
    if request.sampling == "scene" and len(timeline) > frames:
        many = _CANDIDATES * frames
        only_keys = len(keys) >= many
        candidates = (
            [keys[position] for position in even_positions(len(keys), many)]
            if only_keys
            else uniform_frames(timeline, many)
        )
        candidates = sorted(set(candidates))
        images = list(_pixels(source, candidates, only_keys, request))
        starts = [timeline.starts[number] for number in candidates]
        gray = np.stack([_thumbnail(image) for image in images])
        positions = scene_frames(gray, FrameTimeline(starts, timeline.end, timeline.tick), frames)
        wanted, pixels = [candidates[position] for position in positions], [images[position] for position in positions]
        return {"pixels": np.stack(pixels), "times": timeline.times(wanted)}
    only_keys = request.sampling == "keyframe"
    keys = keys or [0]
    wanted = (
        [keys[position] for position in even_positions(len(keys), frames)]
        if only_keys
        else uniform_frames(timeline, frames)
    )
    distinct = sorted(set(wanted))
    found = dict(zip(distinct, _pixels(source, distinct, only_keys, request), strict=True))
    return {"pixels": np.stack([found[number] for number in wanted]), "times": timeline.times(wanted)}


def _pixels(
    source: _ImageSource | _SequentialSource | _SeekingSource, wanted: list[int], only_keys: bool, request: VideoRequest
) -> Iterator[np.ndarray]:
    for image in source.take(wanted, only_keys):
        yield request.to_pixels(image)


def _to_image(frame: Any) -> Image.Image:
    """A decoded frame as RGB, upright."""
    with translate_errors():
        image: Image.Image = frame.to_image()
        turn = round(frame.rotation / 90) % 4
        return image.transpose(_TURNS[turn]) if turn else image


_TURNS = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    return np.array(
        Image.fromarray(pixels).convert("L").resize((_THUMBNAIL_SIZE, _THUMBNAIL_SIZE), Image.Resampling.BOX)
    )
