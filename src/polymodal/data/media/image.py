"""Guarded decoding of images."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from polymodal.data.media.formats import FORMATS as FORMATS_OF_MEDIA
from polymodal.data.media.formats import detect_format
from polymodal.data.media.image_preprocessing import TRANSPARENT, ImagePreprocessing, background_color
from polymodal.data.media.source import MediaError
from polymodal.data.media.still_formats import OPENERS, open_still
from polymodal.recipe.data import LimitOptions

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
VERSION = "rgb8, bilinear, 2"


@dataclass(frozen=True)
class ImageRequest:
    """A square image of `image_size` pixels.

    resize_mode: how a rectangular image becomes a square: crop, pad or stretch
    preprocessing: resizing of a pretrained checkpoint, which replaces `image_size` and `resize_mode`
    """

    image_size: int
    resize_mode: str
    preprocessing: ImagePreprocessing | None = None

    def __post_init__(self) -> None:
        if isinstance(self.preprocessing, dict):  # after transport as JSON
            object.__setattr__(self, "preprocessing", ImagePreprocessing(**self.preprocessing))

    def apply(self, image: Image.Image) -> np.ndarray:
        """An RGB image as pixels `[height, width, 3]` uint8."""
        return (
            resize_to_square(image, self.image_size, self.resize_mode)
            if self.preprocessing is None
            else self.preprocessing.apply(image)
        )


def layout(request: ImageRequest) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and shape of each field that `decode` returns. An image is one record."""
    given = request.preprocessing
    height, width = (request.image_size, request.image_size) if given is None else (given.height, given.width)
    return {"pixels": ("uint8", (height, width, 3))}


def decode(data: bytes, request: ImageRequest, limits: LimitOptions) -> dict[str, np.ndarray]:
    """`{"pixels": [height, width, 3] uint8}` of an encoded image.

    With the preprocessing of a checkpoint, a JPEG is decoded at full size: decoding at a reduced size is faster, but
    changes pixels.

    Raises:
        MediaError: damaged, in another format, or over a limit.
    """
    wanted = (request.image_size, request.image_size) if request.preprocessing is None else None
    return {"pixels": request.apply(decode_image(data, limits, wanted))}


def read_image_size(data: bytes, limits: LimitOptions | None = None) -> tuple[int, int]:
    """`(width, height)` of the upright image (EXIF), from the header only; of drawings and pages as rendered.

    limits: of the image. Default: those of a recipe that sets none

    Raises:
        MediaError: not an image of a supported format.
    """
    with translate_errors("image", "the image is damaged or incomplete"):
        image = _open(data, limits or LimitOptions())
        return image.size[::-1] if image.getexif().get(0x0112, 1) in (5, 6, 7, 8) else image.size


def decode_image(
    source: bytes | Image.Image | np.ndarray, limits: LimitOptions, target_size: tuple[int, int] | None = None
) -> Image.Image:
    """The image as 8-bit RGB: upright (EXIF), first frame, transparency on white, 16-bit gray scaled to 8 bits.

    source: encoded bytes (PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF; with packages HEIC, SVG, PDF, DICOM), a PIL image, or
        an array `[height, width]` or `[height, width, 1 | 3 | 4]` of uint8, or of floats from 0 to 1. Never changed in
        place.
    target_size: `(width, height)` that the caller will shrink to. A JPEG is then decoded at the smallest of its
        built-in scales (1, 1/2, 1/4, 1/8) that is not below it, which is 2-4 times faster.

    Raises:
        MediaError: damaged, in another format, or over `limits.megapixels` (checked in the header before decoding, and
            again afterwards).

    Example:
        >>> from polymodal.recipe.data import LimitOptions
        >>> gray = np.full((2, 3), 0.5, np.float32)
        >>> image = decode_image(gray, LimitOptions())
        >>> image.size, image.getpixel((0, 0))
        ((3, 2), (128, 128, 128))
    """
    with translate_errors("image", "the image is damaged or incomplete"):
        if isinstance(source, np.ndarray):
            _check_pixels(source.shape[1::-1] if source.ndim >= 2 else (0, 0), limits)
            image = _from_array(source)
        elif isinstance(source, Image.Image):
            _check_pixels(source.size, limits)
            image = source
        else:
            image = _open(source, limits)
            _check_pixels(image.size, limits)
            if target_size is not None and image.format in ("JPEG", "MPO"):
                turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
                image.draft("RGB" if image.mode != "L" else "L", target_size[::-1] if turned else target_size)
        decoded = _to_rgb(ImageOps.exif_transpose(image))
        _check_pixels(decoded.size, limits)
        return decoded


def resize_to_square(image: Image.Image, side: int, fit: str) -> np.ndarray:
    """An RGB image as pixels `[side, side, 3]` uint8, resized with an antialiasing bilinear filter. Padding has the
    image's `background_color`."""
    width, height = image.size
    bilinear = Image.Resampling.BILINEAR
    if fit == "pad":
        scale = side / max(width, height)
        small = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), bilinear, reducing_gap=2.0)
        canvas = Image.new("RGB", (side, side), background_color(image))
        canvas.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
        return np.array(canvas)
    box = (0.0, 0.0, float(width), float(height))
    if fit == "crop":
        short = min(width, height)
        left, top = (width - short) / 2, (height - short) / 2
        box = (left, top, left + short, top + short)
    return np.array(image.resize((side, side), bilinear, box=box, reducing_gap=2.0))


@contextmanager
def translate_errors(noun: str, damaged: str) -> Iterator[None]:
    """Turn any exception of Pillow, which damaged files cause, into a message for the user."""
    try:
        yield
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(f"the {noun} has more pixels than the decoder allows") from error
    except MemoryError as error:
        raise MediaError(f"the {noun} does not fit into memory") from error
    except Exception as error:
        raise MediaError(damaged) from error


def _open(data: bytes, limits: LimitOptions) -> Image.Image:
    if not data:
        raise MediaError("the file is empty (0 bytes)")
    name = detect_format(data)
    if name in OPENERS:
        return open_still(name, data, limits, _check_pixels)
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise MediaError(f"not an image of a supported format ({', '.join(FORMATS_OF_MEDIA['image'])})") from error


def _check_pixels(size: tuple[int, ...], limits: LimitOptions) -> None:
    width, height = size
    if width * height > limits.megapixels * 1e6:
        raise MediaError(
            f"{width} x {height} pixels ({width * height / 1e6:.1f} megapixels) is over the limit of "
            f"{limits.megapixels:g} megapixels"
        )
    if width * height == 0:
        raise MediaError("the image has no pixels")


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] in (3, 4)):
        raise MediaError(f"expected an array [height, width, 1, 3 or 4], not {list(array.shape)}")
    if np.issubdtype(array.dtype, np.floating):
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise MediaError("an array of floats must have values from 0 to 1")
        array = np.rint(array.astype(np.float32) * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise MediaError(f"an array must be uint8, or floats from 0 to 1, not {array.dtype}")
    return Image.fromarray(np.ascontiguousarray(array))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image.copy() if image.readonly else image
    if image.mode == "I" or image.mode.startswith("I;16"):
        deep = np.asarray(image, dtype=np.int64)
        if deep.min() < 0 or deep.max() > 65535:
            raise MediaError("the image has pixel values outside 16 bits")
        return Image.fromarray(np.rint(deep / 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        return _from_array(np.asarray(image)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        laid = Image.alpha_composite(paper, layer).convert("RGB")
        laid.info[TRANSPARENT] = bool(np.asarray(layer)[:, :, 3].min() < 255)
        return laid
    return image.convert("RGB")
