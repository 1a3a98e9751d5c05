"""Image formats that Pillow does not read by itself: HEIC, SVG, PDF and DICOM. Each needs a package of the extra
`images`."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from polymodal.core.errors import MissingExtraError
from polymodal.data.media.source import MediaError
from polymodal.recipe.data import LimitOptions

#: The longer side of a rendered drawing in pixels, the dots per inch of a rendered page, and its longest side.
SVG_PIXELS, PDF_DPI, PDF_PIXELS = 1024, 144, 4096
_PROBE_PIXELS = 64
#: What a drawing may not have: entities, and images or parts in other files, which would be read from this machine.
_ENTITY = re.compile(rb"<!ENTITY", re.IGNORECASE)
_OTHER_FILE = re.compile(
    rb"<(?:[\w-]+:)?(?:image|use|feImage)\b[^>]*?href\s*=\s*[\"'](?!\s*(?:#|data:))", re.IGNORECASE
)
CheckSize = Callable[[tuple[int, ...], LimitOptions], None]


def open_still(name: str, data: bytes, limits: LimitOptions, check_size: CheckSize) -> Image.Image:
    """An image of one of the formats in `OPENERS`; its size is checked before it is decoded, as far as it is known.

    Raises:
        MediaError: it is damaged or over a limit, or the package that reads it is not installed.
    """
    try:
        return OPENERS[name](data, limits, check_size)
    except MissingExtraError as error:
        raise MediaError(f"{error}; or convert it to JPEG or PNG") from error


def _heic(data: bytes, limits: LimitOptions, check_size: CheckSize) -> Image.Image:
    """The first image, which Pillow opens by the plugin of pillow-heif."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise MissingExtraError("pillow-heif", "images", "a HEIC image") from None
    register_heif_opener()
    return Image.open(io.BytesIO(data), formats=("HEIF",))


def _svg(data: bytes, limits: LimitOptions, check_size: CheckSize) -> Image.Image:
    """The drawing at `SVG_PIXELS` pixels for its longer side. Texts use the fonts of the machine."""
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        raise MissingExtraError("resvg-py", "images", "an SVG drawing") from None
    if _ENTITY.search(data):
        raise MediaError("the drawing declares entities, which are not read")
    if _OTHER_FILE.search(data):
        raise MediaError("the drawing has parts in other files, which are not read; embed them")
    text = data.decode("utf-8")
    small = Image.open(io.BytesIO(bytes(svg_to_bytes(svg_string=text, width=_PROBE_PIXELS))), formats=("PNG",))
    width = max(1, round(SVG_PIXELS * min(1.0, small.width / small.height)))
    check_size((width, round(width * small.height / small.width)), limits)
    return Image.open(io.BytesIO(bytes(svg_to_bytes(svg_string=text, width=width))), formats=("PNG",))


def _pdf(data: bytes, limits: LimitOptions, check_size: CheckSize) -> Image.Image:
    """The first page at `PDF_DPI` dots per inch, at most `PDF_PIXELS` pixels long."""
    try:
        import pypdfium2
    except ImportError:
        raise MissingExtraError("pypdfium2", "images", "a PDF page") from None
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise MediaError("the PDF is damaged or protected by a password") from error
    try:
        if len(document) == 0:
            raise MediaError("the PDF has no pages")
        page = document[0]
        width, height = page.get_size()
        scale = min(PDF_DPI / 72, PDF_PIXELS / max(width, height, 1))
        check_size((round(width * scale), round(height * scale)), limits)
        image: Image.Image = page.render(scale=scale).to_pil().convert("RGB")
        return image
    finally:
        document.close()


def _dicom(data: bytes, limits: LimitOptions, check_size: CheckSize) -> Image.Image:
    """The first frame: gray values in the first window of the file (DICOM PS3.3, C.11.2.1.2.1), or else from the
    smallest to the largest value; RGB as it is."""
    try:
        import pydicom
        from pydicom.pixels.processing import apply_modality_lut
        from pydicom.pixels.utils import pixel_array
    except ImportError:
        raise MissingExtraError("pydicom", "images", "a DICOM image") from None
    found = pydicom.dcmread(io.BytesIO(data))
    if "PixelData" not in found:
        raise MediaError("the DICOM file has no image")
    check_size((int(found.Columns), int(found.Rows)), limits)
    try:
        pixels = pixel_array(found, index=0)
    except (RuntimeError, NotImplementedError) as error:
        kind = found.file_meta.TransferSyntaxUID.name
        raise MediaError(f"the DICOM image is compressed by {kind}, which is not read; decompress it") from error
    if pixels.ndim == 3:
        if pixels.dtype != np.uint8:
            raise MediaError(f"the DICOM image has colors of {pixels.dtype.itemsize * 8} bits; 8 bits are read")
        return Image.fromarray(pixels)
    values = np.asarray(apply_modality_lut(pixels, found), np.float64)
    gray = _windowed(values, found)
    if found.PhotometricInterpretation == "MONOCHROME1":  # the smallest value is white
        gray = 1.0 - gray
    return Image.fromarray(np.rint(gray * 255).astype(np.uint8))


def _windowed(values: np.ndarray, found: Any) -> np.ndarray:
    """Gray values from 0 to 1."""
    center, width = (_first(found.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if center is not None and width is not None and width > 1:
        return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)


OPENERS: dict[str, Callable[[bytes, LimitOptions, CheckSize], Image.Image]] = {
    "HEIC": _heic,
    "SVG": _svg,
    "PDF": _pdf,
    "DICOM": _dicom,
}
