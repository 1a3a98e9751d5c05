"""The frames of animated pictures: GIF, WebP and PNG."""

from __future__ import annotations

import io
from collections.abc import Iterator

from PIL import Image, UnidentifiedImageError

from polymodal.data.media.frame_sampling import Timeline
from polymodal.data.media.image import plain_reasons
from polymodal.data.media.source import MediaError
from polymodal.data.media.video_reader import DAMAGED, check_seconds, check_size
from polymodal.recipe.data import LimitOptions

FORMATS = ("GIF", "WEBP", "PNG")
#: Milliseconds that a frame without a duration is shown, as browsers do it.
SILENT = 100


def moving(data: bytes) -> bool:
    """Whether an animated format's file has more than one frame, from its headers.

    Raises:
        MediaError: the file is damaged.
    """
    with plain_reasons("animation", DAMAGED):
        return getattr(_open(data), "n_frames", 1) > 1


class Animation:
    """Frames as they are shown: each composed with those before it, transparency laid on white.

    A file with one frame is a clip of one frame.

    Raises:
        MediaError: damaged, or over a limit.
    """

    def __init__(self, data: bytes, limits: LimitOptions) -> None:
        with plain_reasons("animation", DAMAGED):
            self._image = _open(data)
            self.size = self._image.size
            check_size(*self.size, limits)
            self.count = int(getattr(self._image, "n_frames", 1))
        if self.count > limits.frames:
            raise MediaError(f"the animation has {self.count} frames, over the limit of {limits.frames}")
        self.limits = limits

    def timeline(self) -> Timeline:
        """When each frame is shown, in milliseconds; a frame with no duration is shown for 100 (as in browsers)."""
        starts, now = [], 0
        with plain_reasons("animation", DAMAGED):
            for number in range(self.count):
                self._image.seek(number)
                if self._image.format == "WEBP":
                    self._image.load()  # only then is the duration known
                starts.append(now)
                now += round(self._image.info.get("duration") or 0) or SILENT
                check_seconds(now / 1000, self.limits)
        return Timeline(starts, now, 0.001)

    def frames(self) -> Iterator[Image.Image]:
        """All frames in order, as RGB."""
        for number in range(self.count):
            with plain_reasons("animation", DAMAGED):
                self._image.seek(number)
                layer = self._image.convert("RGBA")
                paper = Image.new("RGBA", layer.size, (255, 255, 255, 255))
                frame = Image.alpha_composite(paper, layer).convert("RGB")
            yield frame


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise MediaError("not an animation of a known format (GIF, WebP, PNG)") from error
