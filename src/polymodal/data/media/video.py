"""Guarded decoding of clips: video files, and animated pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from polymodal.data.media import video_reader
from polymodal.data.media.animation import Animation
from polymodal.data.media.formats import ANIMATIONS, check_format
from polymodal.data.media.frame_sampling import Timeline, evenly, scenes, uniform
from polymodal.data.media.image import square
from polymodal.data.media.image_preprocessing import Geometry
from polymodal.data.media.video_reader import Clip, Mismatch, plain_reasons
from polymodal.recipe.data import LimitOptions

Sampling = Literal["uniform", "keyframe", "scene"]

VERSION = "rgb8, bilinear, 1"
# Scenes are sought among this many candidates for each frame that is wanted, grey and of this side.
_CANDIDATES = 4
_GREY = 32


@dataclass(frozen=True)
class VideoRequest:
    """What one clip is brought to.

    frames: the most frames that are kept; side: their height and width; fit: how an oblong frame becomes a square
    sampling: which frames stand for the clip
        uniform: those shown at the middles of equal parts of its duration
        keyframe: keyframes (complete in themselves), evenly by number; nothing else is decoded. The first frame stands
            for a clip that shows none
        scene: those in the middle of the longest scenes, found among `4 frames` candidates (keyframes if there are as
            many, else uniform ones); see `data.media.frame_sampling.scenes`
    geometry: how a checkpoint brings frames to size, in place of `side` and `fit`
    """

    frames: int
    side: int
    fit: str
    sampling: Sampling
    geometry: Geometry | None = None

    def __post_init__(self) -> None:
        if isinstance(self.geometry, dict):  # as JSON has it
            object.__setattr__(self, "geometry", Geometry(**self.geometry))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return (self.side, self.side) if self.geometry is None else (self.geometry.height, self.geometry.width)

    def pixels(self, picture: Image.Image) -> np.ndarray:
        """An RGB frame as `[height, width, 3]` uint8."""
        if self.geometry is None:
            return square(picture, self.side, self.fit)
        return self.geometry.apply(picture)


@dataclass(frozen=True)
class ClipFacts:
    """What the header says: seconds and frames (None where it does not say), and the size of a frame as stored."""

    seconds: float | None
    frames: int | None
    width: int
    height: int


def layout(request: VideoRequest) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of one record (a frame) of each field."""
    return {"pixels": ("uint8", (*request.size, 3)), "times": ("float32", ())}


def decode(data: bytes, request: VideoRequest, limits: LimitOptions) -> dict[str, np.ndarray]:
    """The chosen frames of a clip: `pixels [n, height, width, 3]` uint8 and `times [n]` float32, seconds from its first
    frame, where n is `request.frames` or the number of frames (of keyframes) in the clip, whichever is less.

    Only what the chosen frames need is decoded: from the keyframe before each of them, and on in one run where it was
    passed already. The result is the same as that of decoding everything and choosing then. Everything is decoded
    where the times of the packets do not tell the times of the frames (missing or double times, AVI with reordered
    frames), and where the decoder gives other frames than the packets promise; frames without increasing times are
    then taken as shown at the header's rate (25 a second if it has none). Keyframe sampling decodes nothing that could
    contradict the packets, so it takes their times as they are.

    Raises:
        MediaError: damage in anything that had to be decoded, an incomplete file, no pictures, or over a limit.
        MissingExtraError: PyAV is not installed (for other formats than GIF, WebP and PNG).
    """
    if check_format("video", data) in ANIMATIONS:
        return _animated(Animation(data, limits), request)
    clip = Clip(data, limits)
    if clip.timeline is not None:
        try:
            return _by_packets(clip, clip.timeline, request)
        except Mismatch:
            pass
    return _by_frames(clip, request)


def choose(frames: Iterable[Image.Image], timeline: Timeline, request: VideoRequest) -> dict[str, np.ndarray]:
    """The chosen of `frames`, of which all are complete pictures: an animation, an array."""
    every = list(range(len(timeline)))
    return _select(_ImageSource(frames), timeline, every, request)


def clip_facts(data: bytes, limits: LimitOptions) -> ClipFacts:
    """Duration, number of frames and size of a clip, from its header; nothing is decoded.

    Raises:
        MediaError: not a clip of a known format, without pictures, or its frames are over the limit.
    """
    if check_format("video", data) in ANIMATIONS:
        animation = Animation(data, limits)
        return ClipFacts(None, animation.count, *animation.size)
    with plain_reasons(), video_reader.open_container(data, limits) as container:
        stream = video_reader.picture_stream(container)
        width, height = stream.codec_context.width, stream.codec_context.height
        video_reader.check_size(width, height, limits)
        seconds = None if container.duration is None else container.duration / 1e6
        return ClipFacts(seconds, stream.frames or None, width, height)


def count_frames(data: bytes, limits: LimitOptions) -> int:
    """The frames of a clip, counted by decoding all of them.

    Raises:
        MediaError: see `decode`.
    """
    if check_format("video", data) in ANIMATIONS:
        return sum(1 for _ in Animation(data, limits).frames())
    return sum(1 for _ in Clip(data, limits).decoded())


def _by_packets(clip: Clip, timeline: Timeline, request: VideoRequest) -> dict[str, np.ndarray]:
    """Choose by the times of the packets, then decode what was chosen."""
    places = {tick: number for number, tick in enumerate(timeline.starts)}
    return _select(_SeekingSource(clip, timeline), timeline, [places[tick] for tick in clip.key_ticks()], request)


def _by_frames(clip: Clip, request: VideoRequest) -> dict[str, np.ndarray]:
    """Decode everything to learn the times, choose, and decode once more up to the last chosen frame."""
    timeline, keys = clip.timed_by_decoding()
    return _select(_SequentialSource(clip), timeline, keys, request)


def _animated(animation: Animation, request: VideoRequest) -> dict[str, np.ndarray]:
    return choose(animation.frames(), animation.timeline(), request)


class _ImageSource:
    """Frames that come one after the other as pictures."""

    def __init__(self, frames: Iterable[Image.Image]) -> None:
        self._frames = frames

    def take(self, wanted: list[int], only_keys: bool) -> Iterator[Image.Image]:
        """The frames of the numbers `wanted` (increasing)."""
        chosen, last = set(wanted), max(wanted)
        for number, frame in enumerate(self._frames):
            if number in chosen:
                yield frame
            if number == last:
                return


class _SequentialSource:
    """Frames of a clip that is decoded from its beginning."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip

    def take(self, wanted: list[int], only_keys: bool) -> Iterator[Image.Image]:
        chosen, last = set(wanted), max(wanted)
        for number, frame in enumerate(self._clip.decoded()):
            if number in chosen:
                yield _to_image(frame)
            if number == last:
                return


class _SeekingSource:
    """Frames of a clip that is decoded only where it must be."""

    def __init__(self, clip: Clip, timeline: Timeline) -> None:
        self._clip, self._timeline = clip, timeline

    def take(self, wanted: list[int], only_keys: bool) -> Iterator[Image.Image]:
        ticks = [self._timeline.starts[number] for number in wanted]
        yield from map(_to_image, self._clip.alone(ticks) if only_keys else self._clip.at(ticks))


def _select(
    source: _ImageSource | _SequentialSource | _SeekingSource, timeline: Timeline, keys: list[int], request: VideoRequest
) -> dict[str, np.ndarray]:
    """The frames that `request` wants from a source.

    keys: numbers of the frames that are complete in themselves
    """
    frames = request.frames
    if request.sampling == "scene" and len(timeline) > frames:
        many = _CANDIDATES * frames
        only_keys = len(keys) >= many
        candidates = [keys[place] for place in evenly(len(keys), many)] if only_keys else uniform(timeline, many)
        candidates = sorted(set(candidates))
        pictures = list(_pixels(source, candidates, only_keys, request))
        starts = [timeline.starts[number] for number in candidates]
        grey = np.stack([_thumbnail(picture) for picture in pictures])
        places = scenes(grey, Timeline(starts, timeline.end, timeline.tick), frames)
        wanted, pixels = [candidates[place] for place in places], [pictures[place] for place in places]
        return {"pixels": np.stack(pixels), "times": timeline.times(wanted)}
    only_keys = request.sampling == "keyframe"
    keys = keys or [0]
    wanted = [keys[place] for place in evenly(len(keys), frames)] if only_keys else uniform(timeline, frames)
    distinct = sorted(set(wanted))
    found = dict(zip(distinct, _pixels(source, distinct, only_keys, request), strict=True))
    return {"pixels": np.stack([found[number] for number in wanted]), "times": timeline.times(wanted)}


def _pixels(
    source: _ImageSource | _SequentialSource | _SeekingSource, wanted: list[int], only_keys: bool, request: VideoRequest
) -> Iterator[np.ndarray]:
    for picture in source.take(wanted, only_keys):
        yield request.pixels(picture)


def _to_image(frame: Any) -> Image.Image:
    """A decoded frame as RGB, upright."""
    with plain_reasons():
        picture: Image.Image = frame.to_image()
        turn = round(frame.rotation / 90) % 4
        return picture.transpose(_TURNS[turn]) if turn else picture


_TURNS = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    return np.array(Image.fromarray(pixels).convert("L").resize((_GREY, _GREY), Image.Resampling.BOX))
