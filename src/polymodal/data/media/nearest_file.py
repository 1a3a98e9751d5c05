"""The existing file that a path which does not exist most likely means."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from polymodal.data.objects import ObjectPath, Root

#: Entries of a folder and subfolders that are listed, and searches for similar names, which are slow.
MAX_ENTRIES, MAX_FOLDERS, MAX_SIMILAR = 2000, 50, 5
#: Paths of which `find_root` looks up whether they exist, and the fraction that must exist.
MAX_PATHS, MIN_FOUND = 20, 0.8


class NearestFiles:
    """Finds existing files for paths that do not exist. Each folder is listed once, below `root` only, without
    following links."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listed: dict[str, dict[str, bool]] = {}
        self._elsewhere: dict[str, str] | None = None
        self._similar = 0

    def find(self, path: str) -> str | None:
        """The nearest existing file, relative to the root; None if there is none."""
        parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts or ".." in parts or os.path.isabs(path):
            return None
        folder = ""
        for part in parts[:-1]:
            entries = self._entries(folder)
            name = part if entries.get(part) else self._match(part, [one for one, is_dir in entries.items() if is_dir])
            if name is None:
                return self._in_subfolders().get(parts[-1])
            folder = f"{folder}/{name}" if folder else name
        last, files = parts[-1], [name for name, is_dir in self._entries(folder).items() if not is_dir]
        if last not in files and last in self._in_subfolders():
            return self._in_subfolders()[last]
        found = last if last in files else self._match(last, files)
        return f"{folder}/{found}" if found and folder else found

    def _match(self, name: str, names: list[str]) -> str | None:
        """The name that differs in case or suffix only, or else the most similar one."""
        lower, stem = name.lower(), os.path.splitext(name)[0].lower()
        for other in names:
            if other.lower() == lower:
                return other
        for other in names:
            if os.path.splitext(other)[0].lower() == stem:
                return other
        if self._similar >= MAX_SIMILAR:
            return None
        self._similar += 1
        return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.8)), None)

    def _in_subfolders(self) -> dict[str, str]:
        """Files in the folders of the root by name, with their paths."""
        if self._elsewhere is None:
            folders = [name for name, is_dir in self._entries("").items() if is_dir][:MAX_FOLDERS]
            found = ((folder, name) for folder in folders for name, sub in self._entries(folder).items() if not sub)
            self._elsewhere = {name: f"{folder}/{name}" for folder, name in found}
        return self._elsewhere

    def _entries(self, folder: str) -> dict[str, bool]:
        """The entries of a folder, in order, and whether they are folders."""
        if folder not in self._listed:
            try:
                with os.scandir(self.root / folder) as entries:
                    listed = [entry for entry in islice(entries, MAX_ENTRIES) if not entry.is_symlink()]
                    found = {entry.name: entry.is_dir() for entry in sorted(listed, key=lambda entry: entry.name)}
            except OSError:  # an unreadable folder holds no file that could be named
                found = {}
            self._listed[folder] = found
        return self._listed[folder]


def find_root(paths: Iterable[str], root: Root | None) -> Path | None:
    """A folder below which most of `paths` exist, which do not exist below `root`: the working folder, a folder above
    the root or in it, or the folder of absolute paths; None if there is none."""
    some = list(islice(paths, MAX_PATHS))
    if not some or isinstance(root, ObjectPath):
        return None
    if all(os.path.isabs(path) for path in some):
        common = Path(os.path.commonpath([os.path.dirname(path) for path in some]))
        candidates = [common]
    else:
        candidates = [Path.cwd()]
        if root is not None:
            home = root.resolve()
            candidates += [home.parent, home.parent.parent]
            entries = NearestFiles(home)._entries("")
            candidates += [home / name for name, is_dir in entries.items() if is_dir][:MAX_FOLDERS]
    for folder in candidates:
        within = (path for path in some if ".." not in Path(path).parts and _is_file(folder, path))
        if sum(1 for _ in within) >= MIN_FOUND * len(some):
            return folder
    return None


def _is_file(folder: Path, path: str) -> bool:
    try:
        return (folder / path).is_file()
    except (OSError, ValueError):  # too long, or with a zero character
        return False
