"""Guarded reading of media: valid cells are read correctly, and others are refused with a reason."""

from __future__ import annotations

import base64
import contextlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from polymodal.data.media.formats import FORMATS as ALLOWED
from polymodal.data.media.formats import check_format, detect_format
from polymodal.data.media.image import FORMATS, ImageRequest, decode, decode_image, layout, read_image_size
from polymodal.data.media.image_preprocessing import ImagePreprocessing
from polymodal.data.media.source import MediaError, read_bytes
from polymodal.recipe.data import LimitOptions

LIMITS = LimitOptions()
SMALL = LimitOptions(megabytes=0.001, megapixels=0.001)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def halves(width: int = 64, height: int = 48) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), (255, 0, 0))
    image.paste((0, 0, 255), (width // 2, 0, width, height))
    return image


# bytes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_bytes(b"secret")
    home = tmp_path / "home"
    (home / "in").mkdir(parents=True)
    (home / "in" / "a.bin").write_bytes(b"abc")
    (home / "big.bin").write_bytes(bytes(2000))
    (home / "out").symlink_to(tmp_path / "secret.txt")
    (home / "link").symlink_to(home / "in" / "a.bin")
    os.mkfifo(home / "pipe")
    return home


def test_bytes_come_from_paths_addresses_and_bytes(root: Path) -> None:
    address = "data:image/png;base64," + base64.b64encode(b"abc").decode()
    for cell, file in [
        ("in/a.bin", "in/a.bin"),
        (Path("in/../in/a.bin"), "in/../in/a.bin"),
        (str(root / "in" / "a.bin"), str(root / "in" / "a.bin")),
        ("link", "link"),
        (address, None),
        (b"abc", None),
        ({"bytes": b"abc", "path": "x.png"}, "x.png"),
        ({"bytes": None, "path": "in/a.bin"}, "in/a.bin"),
    ]:
        assert read_bytes(cell, root, LIMITS) == (b"abc", file)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("../secret.txt", "leaves the root"),
        ("in/../../secret.txt", "leaves the root"),
        ("out", "leaves the root"),
        ("/etc/hostname", "leaves the root"),
        ("../home-too/x", "leaves the root"),
        ("no.png", "does not exist"),
        ("in", "is a folder"),
        ("pipe", "not a file"),
        ("", "empty"),
        ("a\0b", "not valid"),
        ("x" * 5000, "cannot be read"),
        ("https://example.org/a.png", "web addresses"),
        ("big.bin", "over the limit"),
        (bytes(2000), "over the limit"),
        ("data:;base64," + "A" * 3000, "over the limit"),
        ("data:image/png,abc", "base64"),
        ("data:image/png;base64,a$b", "damaged"),
        (3, "not int"),
        ({"path": None}, "not NoneType"),
    ],
)
def test_refused_cells(cell: object, reason: str, root: Path) -> None:
    with pytest.raises(MediaError, match=reason):
        read_bytes(cell, root, SMALL)


def test_a_path_without_root_is_refused(root: Path) -> None:
    for path in ("in/a.bin", str(root / "in" / "a.bin")):
        with pytest.raises(MediaError, match="root folder"):
            read_bytes(path, None, LIMITS)


def test_a_link_as_root_is_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    assert read_bytes("in/a.bin", tmp_path / "alias", LIMITS)[0] == b"abc"


# formats

STARTS = {
    "PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "JPEG": b"\xff\xd8\xff\xe0\0\x10JFIF",
    "WebP": b"RIFF\x24\0\0\0WEBPVP8 ",
    "GIF": b"GIF89a\x10\0\x10\0",
    "BMP": b"BM\x7a\0\0\0\0\0\0\0\x7a\0\0\0\x6c\0\0\0",
    "TIFF": b"II*\0\x08\0\0\0",
    "AVIF": b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf",
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0heicmif1",
    "SVG": b"<?xml version='1.0'?>\n<svg xmlns='x'/>",
    "PDF": b"%PDF-1.7\n%",
    "DICOM": b"\0" * 128 + b"DICM\2\0",
    "WAV": b"RIFF\x24\0\0\0WAVEfmt ",
    "FLAC": b"fLaC\0\0\0\x22",
    "OGG": b"OggS\0\x02\0\0",
    "MP3": b"\xff\xfb\x90\x64\0\0",
    "AAC": b"\xff\xf1\x50\x80\0\0",
    "MP4": b"\0\0\0\x20ftypisom\0\0\2\0",
    "Matroska": b"\x1a\x45\xdf\xa3\x01\0\0\0",
    "AVI": b"RIFF\x24\0\0\0AVI LIST",
    "MPEG": b"\0\0\x01\xba\x21\0\1\0",
    "npy": b"\x93NUMPY\x01\0v\0{'descr': '<f4'",
    "text": "größe,BM\n1,2\n".encode(),
}
OTHERS = {
    "Photoshop": b"8BPS\0\1\0\0",
    "ZIP": b"PK\x03\x04\x14\0\0\0",
    "AIFF": b"FORM\0\0\0\x24AIFFCOMM",
    None: b"\x01\x02\x03\x04\x05\x06\x07\x08",
}


@pytest.mark.parametrize("name", STARTS)
def test_formats_are_detected_by_their_first_bytes(name: str) -> None:
    assert detect_format(STARTS[name]) == name
    kinds = [kind for kind, formats in ALLOWED.items() if name in formats]
    assert kinds
    for kind in ALLOWED:
        if kind in kinds:
            assert check_format(kind, STARTS[name]) == name
        else:
            with pytest.raises(MediaError, match=f"supported format .*first bytes are those of {name}"):
                check_format(kind, STARTS[name])


@pytest.mark.parametrize("name", OTHERS)
def test_formats_on_no_list(name: str | None) -> None:
    assert detect_format(OTHERS[name]) == name
    for kind in ALLOWED:
        with pytest.raises(MediaError, match=f"those of {name}" if name else r"npy|WebP\)$|GIF|OGG\)$"):
            check_format(kind, OTHERS[name])


def test_formats_behind_tags_and_later_packets() -> None:
    tag = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)
    assert detect_format(tag + STARTS["FLAC"]) == "FLAC"
    assert detect_format(tag + STARTS["AAC"]) == "AAC"
    assert detect_format(tag + STARTS["MP3"]) == detect_format(tag) == "MP3"
    assert detect_format((b"G" + bytes(187)) * 4) == "MPEG"
    assert detect_format(b"BM, the code of a column,\n1,2\n") == "text"
    assert detect_format("a,b\n1,ü"[:-1].encode() + "ü".encode()[:1]) == "text"
    assert detect_format("größe\n".encode("latin-1")) is None
    assert detect_format("a,b\n".encode("utf-16")) is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600), st.sampled_from(list(STARTS.values())), st.integers(0, 20))
def test_any_bytes_have_a_format_or_none(data: bytes, start: bytes, kept: int) -> None:
    found = detect_format(start[:kept] + data)
    assert found is None or isinstance(found, str)


# images


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_images_as_asked_for(fit: str) -> None:
    request = ImageRequest(20, fit)
    found = decode(encoded(halves()), request, LIMITS)
    ((name, (dtype, shape)),) = layout(request).items()
    assert list(found) == [name]
    assert (found[name].dtype, found[name].shape) == (np.dtype(dtype), shape)
    rows, columns = found[name][:, 10].sum(axis=1) > 0, found[name][10].argmax(axis=1)
    assert rows.sum() == (15 if fit == "pad" else 20)
    assert (columns[:9] == 0).all()
    assert (columns[11:] == 2).all()
    with pytest.raises(MediaError, match="megapixels"):
        decode(encoded(halves()), request, SMALL)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format(kind: str) -> None:
    data = encoded(halves(), kind)
    image = decode_image(data, LIMITS)
    assert (image.mode, image.size) == ("RGB", (64, 48)) == ("RGB", read_image_size(data))
    assert np.abs(np.asarray(image).astype(int) - np.asarray(halves())).mean() < 4


@pytest.mark.parametrize("kind", ["ICO", "PPM", "TGA"])
def test_other_formats_are_refused(kind: str) -> None:
    with pytest.raises(MediaError, match="supported format"):
        decode_image(encoded(halves(), kind), LIMITS)


def test_transparency_lies_on_white() -> None:
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30] * 256)
    for data in (
        encoded(clear),
        encoded(clear.convert("LA")),
        encoded(palette, transparency=0),
        encoded(Image.new("RGB", (4, 4), (1, 2, 3)), transparency=(1, 2, 3)),
        encoded(Image.new("L", (4, 4), 7), transparency=7),
    ):
        assert np.asarray(decode_image(data, LIMITS)).min() == 255
    assert np.asarray(decode_image(clear, LIMITS)).min() == 255
    half = encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 128)))
    assert np.asarray(decode_image(half, LIMITS))[0, 0].tolist() == [127, 127, 127]


@pytest.mark.parametrize(
    ("color", "beside"), [((200, 0, 0, 128), 255), ((200, 0, 0, 255), 0), ((200, 0, 0), 0), ((0, 0, 0, 0), 255)]
)
def test_bars_next_to_what_was_transparent_are_white(color: tuple[int, ...], beside: int) -> None:
    """As what shows through it; beside a picture that covers all of its own, in RGBA or not, they are black."""
    source = io.BytesIO()
    Image.new("RGBA" if len(color) == 4 else "RGB", (64, 32), color).save(source, "PNG")
    for geometry in (None, ImagePreprocessing(64, 64, resample=2, pad=True)):
        request = ImageRequest(64, "pad", geometry)
        pixels = decode(source.getvalue(), request, LimitOptions())["pixels"]
        assert (pixels[:16] == beside).all()
        assert (pixels[48:] == beside).all()
        assert (pixels[18:46] == pixels[32, 32]).all()


def test_palette_grey_and_one_bit() -> None:
    color = np.asarray(decode_image(encoded(halves().convert("P")), LIMITS))
    assert color[0, 0].tolist() == [255, 0, 0]
    assert np.asarray(decode_image(encoded(Image.new("L", (2, 2), 7)), LIMITS))[0, 0].tolist() == [7, 7, 7]
    assert np.asarray(decode_image(encoded(Image.new("1", (2, 2), 1)), LIMITS)).min() == 255


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_cut(kind: str) -> None:
    deep = np.array([[0, 257], [128 * 257, 65535]], dtype=np.uint16)
    image = decode_image(encoded(Image.fromarray(deep), kind), LIMITS)
    assert np.asarray(image)[:, :, 0].tolist() == [[0, 1], [128, 255]]


def test_cmyk_jpeg() -> None:
    image = decode_image(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"), LIMITS)
    assert np.asarray(image)[0, 0].tolist() == pytest.approx([254, 0, 0], abs=4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_turns_the_image_upright(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by 90 degrees to the left: left half becomes the upper half
    data = encoded(halves(), kind, exif=exif)
    upright = np.asarray(decode_image(data, LIMITS)).astype(int)
    assert upright.shape == (64, 48, 3)
    assert upright[4, 24, 0] > 240
    assert upright[60, 24, 2] > 240


def test_draft_keeps_at_least_the_wanted_size() -> None:
    data = encoded(halves(640, 400), "JPEG")
    assert decode_image(data, LIMITS, target_size=(100, 100)).size == (160, 100)
    assert decode_image(data, LIMITS, target_size=(641, 10)).size == (640, 400)
    assert decode_image(encoded(halves(640, 400)), LIMITS, target_size=(10, 10)).size == (640, 400)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = decode_image(encoded(halves(640, 400), "JPEG", exif=exif), LIMITS, target_size=(50, 160))
    assert turned.size == (100, 160)


def test_first_frame() -> None:
    data = encoded(halves(), "GIF", save_all=True, append_images=[Image.new("RGB", (64, 48), (0, 255, 0))])
    assert np.asarray(decode_image(data, LIMITS))[0, 0].tolist() == [255, 0, 0]


def test_pixel_limit_is_read_from_the_header() -> None:
    data = encoded(Image.new("1", (20_000, 5_000)))
    assert len(data) < 50_000
    with pytest.raises(MediaError, match="20000 x 5000 pixels"):
        decode_image(data, LIMITS)
    with pytest.raises(MediaError, match="megapixels"):
        decode_image(halves(), SMALL)
    with pytest.raises(MediaError, match="megapixels"):
        decode_image(np.zeros((64, 64), np.uint8), SMALL)
    header = data[:60]  # a broken body is not even looked at
    with pytest.raises(MediaError, match="20000 x 5000 pixels"):
        decode_image(header, LIMITS)


def test_more_pixels_than_the_decoder_allows() -> None:
    with pytest.raises(ValueError, match="less than or equal to 178"):
        LimitOptions(megapixels=1000)
    with pytest.raises(MediaError, match="more pixels than the decoder"):
        decode_image(encoded(Image.new("1", (14_000, 14_000))), LimitOptions(megapixels=178))


@pytest.mark.parametrize("kind", FORMATS)
def test_cut_off_files(kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    for length in (0, 1, 20, len(data) // 2, len(data) - 60):
        with pytest.raises(MediaError) as caught:
            decode_image(data[:length], LIMITS)
        assert "Error" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FORMATS), st.integers(0, 10**6), st.integers(0, 255))
def test_a_changed_byte_gives_an_image_or_a_media_error(kind: str, place: int, value: int) -> None:
    data = bytearray(encoded(halves(), kind))
    data[place % len(data)] = value
    with contextlib.suppress(MediaError):
        assert decode_image(bytes(data), LIMITS).mode == "RGB"


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 1), (3, 4, 3), (3, 4, 4)])
def test_arrays(shape: tuple[int, ...]) -> None:
    array = np.full(shape, 255, np.uint8)
    for one in (array, (array / 255).astype(np.float32), np.asfortranarray(array)):
        image = decode_image(one, LIMITS)
        assert (image.mode, image.size) == ("RGB", (4, 3))
        assert np.asarray(image).min() == 255


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 4, 4, 3), np.uint8),
        np.zeros((3, 4, 2), np.uint8),
        np.zeros(3, np.uint8),
        np.zeros((0, 4), np.uint8),
        np.zeros((3, 4), np.int64),
        np.full((3, 4), 2.0),
        np.full((3, 4), np.nan),
    ],
)
def test_bad_arrays(array: np.ndarray) -> None:
    with pytest.raises(MediaError):
        decode_image(array, LIMITS)


def test_the_callers_image_is_not_changed() -> None:
    image = Image.open(io.BytesIO(encoded(halves(), "JPEG")))
    result = decode_image(image, LIMITS, target_size=(8, 6))
    result.paste((0, 0, 0), (0, 0, 64, 48))
    assert image.size == (64, 48)
    assert np.asarray(image).max() > 200
    plain = halves()
    decode_image(plain, LIMITS).paste((0, 0, 0), (0, 0, 64, 48))
    assert np.asarray(plain).max() == 255
    array = np.full((3, 4, 3), 255, np.uint8)
    decode_image(array, LIMITS).paste((0, 0, 0), (0, 0, 4, 3))
    assert array.min() == 255
