"""The spoken prompts of Asterisk: short English sentences by one studio speaker, 8 kHz, with their texts."""

from __future__ import annotations

import gzip
from pathlib import Path

from benchmarks.packages import unpack_debian

PACKAGES = ("asterisk-core-sounds-en-wav", "asterisk-core-sounds-en")


def fetch(folder: Path) -> Path:
    """The files of the packages in `folder`, unpacked from Debian's packages if necessary."""
    for package in PACKAGES:
        place = folder / package
        if not place.is_dir():
            unpack_debian(package, place)
    return folder


def table(folder: Path, brackets: str = "[]<>()") -> dict[str, list[str]]:
    """Columns `sound` (path from `folder`) and `text`, one row for each prompt with words.

    Audio without words (tones, beeps, music: no text, or a text with one of these `brackets`) is left out.
    """
    (texts,) = (folder / PACKAGES[1]).rglob("core-sounds-en.txt.gz")
    audio_folder = next((folder / PACKAGES[0]).rglob("activated.wav")).parent
    texts_by_key: dict[str, str] = {}
    for line in gzip.decompress(texts.read_bytes()).decode("utf-8").splitlines():
        key, colon, text = line.partition(":")
        text = text.strip()
        if not colon or line.startswith(";") or not text or any(sign in text for sign in brackets):
            continue
        if (audio_folder / f"{key.strip()}.wav").is_file():
            texts_by_key[key.strip()] = text
    relative = audio_folder.relative_to(folder)
    return {"sound": [str(relative / f"{key}.wav") for key in texts_by_key], "text": list(texts_by_key.values())}
