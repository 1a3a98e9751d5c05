"""Media formats that cannot be decoded: their suffixes, their first bytes, and how to convert them."""

from __future__ import annotations

from typing import NamedTuple


class UnsupportedFormat(NamedTuple):
    """A format that cannot be decoded.

    kind: the kind of media that it holds
    advice: what to do
    """

    kind: str
    suffixes: tuple[str, ...]
    advice: str


_TO_JPEG = "convert it to JPEG or PNG, for example with `magick photo{} photo.jpg`"
_TO_WAV = "convert it to WAV or FLAC, for example with `ffmpeg -i sound{} sound.wav`"
_TO_MP4 = "convert it to MP4, for example with `ffmpeg -i film{} film.mp4`"

UNSUPPORTED: dict[str, UnsupportedFormat] = {
    "compressed SVG": UnsupportedFormat("image", (".svgz",), "decompress it, for example with `gunzip -S .svgz`"),
    "Photoshop": UnsupportedFormat("image", (".psd",), _TO_JPEG.format(".psd")),
    "JPEG XL": UnsupportedFormat("image", (".jxl",), _TO_JPEG.format(".jxl")),
    "JPEG 2000": UnsupportedFormat("image", (".jp2", ".j2k"), _TO_JPEG.format(".jp2")),
    "camera raw": UnsupportedFormat("image", (".cr2", ".nef", ".arw", ".dng"), _TO_JPEG.format(".dng")),
    "ICO": UnsupportedFormat("image", (".ico",), _TO_JPEG.format(".ico")),
    "AIFF": UnsupportedFormat("audio", (".aiff", ".aif", ".aifc"), _TO_WAV.format(".aiff")),
    "AMR": UnsupportedFormat("audio", (".amr",), _TO_WAV.format(".amr")),
    "MIDI": UnsupportedFormat("audio", (".mid", ".midi"), "synthesize it as WAV, for example with `fluidsynth`"),
    "Windows Media": UnsupportedFormat("video", (".wmv", ".asf"), _TO_MP4.format(".wmv")),
    "Windows Media audio": UnsupportedFormat("audio", (".wma",), _TO_WAV.format(".wma")),
    "FLV": UnsupportedFormat("video", (".flv",), _TO_MP4.format(".flv")),
    "npz": UnsupportedFormat("time_series", (".npz",), "save each series as .npy with `numpy.save`"),
    "MATLAB": UnsupportedFormat("time_series", (".mat",), "save each series as .npy with `numpy.save`"),
}
_BY_SUFFIX = {suffix: name for name, one in UNSUPPORTED.items() for suffix in one.suffixes}
_MAGIC_BYTES = (
    (b"8BPS", "Photoshop"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\0\0\1\0", "ICO"),
    (b"#!AMR", "AMR"),
    (b"MThd", "MIDI"),
    (b"version https://git-lfs", "a Git LFS pointer"),
)
_OTHER_ADVICE = {
    "a Git LFS pointer": "fetch the file with `git lfs pull`",
    "a web page": "the download failed, so download it again",
}


def unsupported_format(suffix: str) -> str | None:
    """The name of the format that cannot be decoded and has this suffix (lower case, with the dot); None if there is
    none."""
    return _BY_SUFFIX.get(suffix)


def detect_unsupported(data: bytes) -> str | None:
    """The name of a format that cannot be decoded, from the first bytes."""
    for start, name in _MAGIC_BYTES:
        if data.startswith(start):
            return name
    if data[128:132] == b"DICM":
        return "DICOM"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        return "AVIF"
    text = bytes(data[:1024]).lstrip().lower()
    if text.startswith(b"<"):
        if b"<svg" in text:
            return "SVG"
        if text.startswith((b"<!doctype html", b"<html")):
            return "a web page"
    return None


def conversion_advice(name: str | None, kind: str) -> str:
    """What to do with a file of this format where media of this kind are expected; "" if there is no advice."""
    found = UNSUPPORTED.get(name or "")
    if found is None:
        return _OTHER_ADVICE.get(name or "", "")
    return found.advice if found.kind == kind else ""
