"""File formats, detected from the first bytes and never from the suffix, and the formats of each kind of media."""

from __future__ import annotations

import codecs

from polymodal.data.media.source import MediaError
from polymodal.data.media.unsupported_formats import conversion_advice, detect_unsupported

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
    | {".heic", ".heif", ".svg", ".pdf", ".dcm", ".dicom"}
)
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac"})
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".ogv"})
SERIES_SUFFIXES = frozenset({".npy", ".csv", ".tsv", ".txt"})

#: Image formats that may be animated. They have no audio.
ANIMATIONS = ("GIF", "WebP", "PNG")
_VIDEO_CONTAINERS = ("MP4", "Matroska", "AVI", "MPEG", "OGG")
FORMATS = {
    "image": ("PNG", "JPEG", "WebP", "GIF", "BMP", "TIFF", "AVIF", "HEIC", "SVG", "PDF", "DICOM"),
    "audio": ("WAV", "FLAC", "MP3", "AAC", *_VIDEO_CONTAINERS, *ANIMATIONS),
    "video": (*_VIDEO_CONTAINERS, *ANIMATIONS),
    "time_series": ("npy", "text"),
}
"""The formats of each kind of media. `MP4` includes QuickTime and M4A, `Matroska` includes WebM, `OGG` includes Opus
and OGV, and `MPEG` includes program and transport streams. A time series in `text` is a CSV table."""

_NOUNS = {"image": "an image", "audio": "an audio file", "video": "a video", "time_series": "a time series"}
_MAGIC_BYTES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"fLaC", "FLAC"),
    (b"OggS", "OGG"),
    (b"\x1a\x45\xdf\xa3", "Matroska"),
    (b"\x00\x00\x01\xba", "MPEG"),
    (b"\x00\x00\x01\xb3", "MPEG"),
    (b"\x93NUMPY", "npy"),
    (b"%PDF", "PDF"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media"),
    (b"FLV\x01", "FLV"),
)
_RIFF = {b"WEBP": "WebP", b"WAVE": "WAV", b"AVI ": "AVI"}
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_STILL_BRANDS = (b"heic", b"heix", b"heim", b"hevc", b"mif1", b"msf1")
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


def detect_format(data: bytes) -> str | None:
    """The format of `data` from its first bytes; None if it is unknown.

    Formats that cannot be decoded are detected too, so that errors can name them.
    """
    for start, name in _MAGIC_BYTES:
        if data.startswith(start):
            return name
    if data[:4] in (b"RIFF", b"RF64"):
        return _RIFF.get(bytes(data[8:12]))
    if data[:4] == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if (unsupported := detect_unsupported(data)) is not None:
        return unsupported
    if data[:3] == b"ID3":
        return _after_tag(data)
    if data[4:8] in _BOXES:
        if data[4:8] != b"ftyp" or data[8:12] not in _STILL_BRANDS:
            return "MP4"
        return "AVIF" if b"avif" in data[16 : int.from_bytes(data[:4], "big")] else "HEIC"
    if data[:1] == b"G" and data[188:189] == b"G" and data[376:377] in (b"G", b""):
        return "MPEG"
    return _audio_frames(data) or ("text" if _is_text(data[:1024]) else None)


def check_format(kind: str, data: bytes) -> str:
    """The format of `data`, one of `FORMATS[kind]`.

    Raises:
        MediaError: its format is not one of this kind of media.
    """
    if not data:
        raise MediaError("the file is empty (0 bytes)")
    found = detect_format(data)
    if found in FORMATS[kind]:
        return str(found)
    listed = [name for name in FORMATS[kind] if kind != "audio" or name not in ANIMATIONS]
    known = ", ".join("CSV" if name == "text" else name for name in listed)
    advice = conversion_advice(found, kind)
    seen = (f"; its first bytes are those of {found}" if found else "") + (f"; {advice}" if advice else "")
    raise MediaError(f"not {_NOUNS[kind]} of a supported format ({known}){seen}")


def _after_tag(data: bytes) -> str | None:
    """The format after an ID3 tag, whose length is in four bytes of seven bits."""
    length = 0
    for byte in data[6:10]:
        length = length << 7 | byte & 0x7F
    rest = data[10 + length : 10 + length + 400].lstrip(b"\x00")
    return "FLAC" if rest[:4] == b"fLaC" else _audio_frames(rest) or "MP3"


def _audio_frames(data: bytes) -> str | None:
    """MPEG audio (layers 2 and 3) and AAC in ADTS, which have no header: a frame starts with eleven or twelve ones."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return None
    layer = data[1] >> 1 & 3
    if layer == 0:
        return "AAC" if data[1] & 0xF0 == 0xF0 else None
    plausible = data[1] >> 3 & 3 != 1 and data[2] >> 4 != 15 and data[2] >> 2 & 3 != 3
    return "MP3" if layer in (1, 2) and plausible else None


def _is_text(start: bytes) -> bool:
    """Whether the bytes are UTF-8 without control characters. The last character may be truncated."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return all(byte >= 32 or byte in b"\t\r\n" for byte in start)
