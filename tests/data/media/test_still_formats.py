"""HEIC, AVIF, SVG, PDF and DICOM images and TIFF files of several pages, written by the reference library of each, and
decoded in the processes that may crash."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from polymodal.data.media.formats import detect_format
from polymodal.data.media.image import ImageRequest, decode_image
from polymodal.data.media.source import MediaError
from polymodal.data.media.workers.pool import decoding_pool
from polymodal.recipe.data import LimitOptions

LIMITS = LimitOptions(num_workers=1)
REQUEST = ImageRequest(32, "stretch")


def halves() -> Image.Image:
    """Red on the left, blue on the right."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32, 0] = pixels[:, 32:, 2] = 255
    return Image.fromarray(pixels)


def heic() -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    sink = io.BytesIO()
    pillow_heif.from_pillow(halves()).save(sink, quality=90)
    return sink.getvalue()


def saved(kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    halves().save(sink, kind, **options)
    return sink.getvalue()


def pages() -> bytes:
    return saved("TIFF", save_all=True, append_images=[Image.new("RGB", (64, 64), "white")])


def svg(inside: str = "") -> bytes:
    pytest.importorskip("resvg_py", reason="resvg-py is not installed")
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20"><rect width="10" height="20" fill="#f00"/>'
        f'<rect x="10" width="10" height="20" fill="#00f"/>{inside}</svg>'
    ).encode()


def pdf() -> bytes:
    """By pypdfium2: a page that is filled by an image, and an empty one."""
    pypdfium2 = pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")
    sink = io.BytesIO()
    halves().save(sink, "PDF", resolution=72, save_all=True, append_images=[Image.new("RGB", (64, 64), "white")])
    assert len(pypdfium2.PdfDocument(sink.getvalue())) == 2
    return sink.getvalue()


def dicom(pixels: np.ndarray, **tags: Any) -> bytes:
    pytest.importorskip("pydicom", reason="pydicom is not installed")
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    color = pixels.ndim == 3
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 3 if color else 1
    made.PhotometricInterpretation = "RGB" if color else "MONOCHROME2"
    if color:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = pixels.dtype.itemsize * 8
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, 0
    made.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(made, name, value)
    sink = io.BytesIO()
    made.save_as(sink, enforce_file_format=True)
    return sink.getvalue()


MAKERS: dict[str, Callable[[], bytes]] = {
    "HEIC": heic,
    "AVIF": lambda: saved("AVIF", quality=95),
    "TIFF": pages,
    "SVG": svg,
    "PDF": pdf,
    "DICOM": lambda: dicom(np.asarray(halves())),
}


@pytest.mark.parametrize("name", MAKERS)
def test_each_format_is_decoded_in_a_process(name: str) -> None:
    data = MAKERS[name]()
    assert detect_format(data) == name
    (found,) = decoding_pool(LIMITS).map(iter([(data, REQUEST)]))
    assert not isinstance(found, MediaError), found
    pixels = found["pixels"].astype(int)
    wanted = np.asarray(halves().resize((32, 32))).astype(int)
    assert np.abs(pixels - wanted)[:, [4, 28]].max() < 30


@pytest.mark.parametrize("name", MAKERS)
def test_a_damaged_or_large_image_is_refused_with_a_reason(name: str) -> None:
    data = MAKERS[name]()
    cut = data[:60] if name in ("PDF", "TIFF") else data[: len(data) // 2]
    with pytest.raises(MediaError, match=r"damaged|not an image"):
        decode_image(cut, LIMITS)
    with pytest.raises(MediaError, match=r"over the limit of 0.001 megapixels"):
        decode_image(data, LimitOptions(megapixels=0.001))


def test_gray_values_of_dicom_are_those_in_its_window() -> None:
    ramp = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)
    whole = np.asarray(decode_image(dicom(ramp), LIMITS))[:, :, 0].ravel()
    np.testing.assert_array_equal(whole, np.rint(ramp.ravel() / 4080 * 255))
    tags = {"WindowCenter": 1000, "WindowWidth": 201, "RescaleSlope": 2, "RescaleIntercept": -1000}
    windowed = np.asarray(decode_image(dicom(ramp, **tags), LIMITS))[:, :, 0].ravel()
    values = ramp.ravel() * 2.0 - 1000
    np.testing.assert_array_equal(windowed, np.rint(np.clip((values - 999.5) / 200 + 0.5, 0, 1) * 255))
    inverted = dicom(ramp, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(np.asarray(decode_image(inverted, LIMITS))[:, :, 0].ravel(), 255 - whole)


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        ('<image href="/etc/photo.png" width="5" height="5"/>', "parts in other files"),
        ('<image width="5"\n xlink:href = "photo.png"/>', "parts in other files"),
        ('<use href="https://example.org/a.svg#x"/>', "parts in other files"),
    ],
)
def test_a_drawing_reads_no_other_file(inside: str, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        decode_image(svg(inside), LIMITS)
    with pytest.raises(MediaError, match="declares entities"):
        decode_image(b'<!DOCTYPE svg [<!ENTITY x "y">]>' + svg(), LIMITS)
    assert decode_image(svg('<a href="https://example.org"><use href="#x"/></a>'), LIMITS).size == (1024, 1024)


@pytest.mark.parametrize(
    ("name", "package"), [("HEIC", "pillow_heif"), ("SVG", "resvg_py"), ("PDF", "pypdfium2"), ("DICOM", "pydicom")]
)
def test_a_missing_package_is_named(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = MAKERS[name]()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MediaError, match=r"needs .*pip install 'polymodal\[images\]'.*; or convert it to JPEG or PNG"):
        decode_image(data, LIMITS)
