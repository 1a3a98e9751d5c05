"""Names a file's format by its first bytes, never by its suffix, and says which formats each kind of media may have."""

from __future__ import annotations

import codecs

from polymodal.data.media.source import MediaError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac"})
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".ogv"})
SERIES_SUFFIXES = frozenset({".npy", ".csv", ".tsv", ".txt"})

#: Formats of pictures that may move; a clip in one of them has no sound.
ANIMATIONS = ("GIF", "WebP", "PNG")
_VIDEO_CONTAINERS = ("MP4", "Matroska", "AVI", "MPEG", "OGG")
FORMATS = {
    "image": ("PNG", "JPEG", "WebP", "GIF", "BMP", "TIFF"),
    "audio": ("WAV", "FLAC", "MP3", "AAC", *_VIDEO_CONTAINERS, *ANIMATIONS),
    "video": (*_VIDEO_CONTAINERS, *ANIMATIONS),
    "series": ("npy", "text"),
}
"""The formats that each kind of media may have. `MP4` includes QuickTime and M4A, `Matroska` WebM, `OGG` Opus and
OGV, and `MPEG` programme and transport streams; a series in `text` is a CSV table."""

_NOUNS = {"image": "an image", "audio": "a sound", "video": "a clip", "series": "a series"}
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
_STILL_BRANDS = (b"heic", b"heix", b"heim", b"hevc", b"mif1", b"msf1", b"avif", b"avis")
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


def format_of(data: bytes) -> str | None:
    """The name of the format of `data` by its first bytes; None if it is none that is known here.

    Formats that are never decoded are named too, so that an error can say what a file is instead.
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
    if data[:3] == b"ID3":
        return _after_tag(data)
    if data[4:8] in _BOXES:
        return "HEIF" if data[4:8] == b"ftyp" and data[8:12] in _STILL_BRANDS else "MP4"
    if data[:1] == b"G" and data[188:189] == b"G" and data[376:377] in (b"G", b""):
        return "MPEG"
    return _audio_frames(data) or ("text" if _is_text(data[:1024]) else None)


def check_format(kind: str, data: bytes) -> str:
    """The name of the format of `data`, one of `FORMATS[kind]`.

    Raises:
        MediaError: it is of no format that media of this kind may have.
    """
    if not data:
        raise MediaError("the file is empty (0 bytes)")
    found = format_of(data)
    if found in FORMATS[kind]:
        return str(found)
    heard = [name for name in FORMATS[kind] if kind != "audio" or name not in ANIMATIONS]
    known = ", ".join("CSV" if name == "text" else name for name in heard)
    seen = f"; its first bytes are those of {found}" if found else ""
    raise MediaError(f"not {_NOUNS[kind]} of a known format ({known}){seen}")


def _after_tag(data: bytes) -> str | None:
    """What follows an ID3 tag, whose length is in four bytes of seven bits."""
    length = 0
    for byte in data[6:10]:
        length = length << 7 | byte & 0x7F
    rest = data[10 + length : 10 + length + 400].lstrip(b"\x00")
    return "FLAC" if rest[:4] == b"fLaC" else _audio_frames(rest) or "MP3"


def _audio_frames(data: bytes) -> str | None:
    """MPEG audio (layers 2 and 3) and AAC in ADTS have no header: a frame starts with eleven or twelve ones."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return None
    layer = data[1] >> 1 & 3
    if layer == 0:
        return "AAC" if data[1] & 0xF0 == 0xF0 else None
    plausible = data[1] >> 3 & 3 != 1 and data[2] >> 4 != 15 and data[2] >> 2 & 3 != 3
    return "MP3" if layer in (1, 2) and plausible else None


def _is_text(start: bytes) -> bool:
    """UTF-8 without control characters; a character that the end cuts through is no fault."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return all(byte >= 32 or byte in b"\t\r\n" for byte in start)
