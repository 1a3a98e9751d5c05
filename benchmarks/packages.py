"""Data from packages, unpacked into a folder."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path


def unpack_debian(package: str, folder: Path) -> None:
    """Download Debian's `package` and unpack its files into `folder`, which is created if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as download:
        subprocess.run(["apt-get", "download", package], cwd=download, check=True)
        (file,) = Path(download).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", str(file), str(folder)], check=True)
