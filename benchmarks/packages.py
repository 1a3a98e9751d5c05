"""Data that packages carry: unpacked below a folder, where it is not there yet."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path


def unpack_debian(package: str, folder: Path) -> None:
    """Download Debian's `package` and unpack its files into `folder`, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as download:
        subprocess.run(["apt-get", "download", package], cwd=download, check=True)
        (file,) = Path(download).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", str(file), str(folder)], check=True)
