"""Output files: never an input of the command, never a file of a model, and an existing file only on request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polymodal.checkpoint.directory_kinds import kind_of
from polymodal.checkpoint.write_lock import is_written_by_this_process
from polymodal.core.errors import OutputError
from polymodal.core.writing import atomic_path


@dataclass(frozen=True)
class OutputFile:
    """A file that a command writes.

    overwrite: replace an existing file
    inputs: files and folders that the command reads
    """

    path: Path
    overwrite: bool = False
    inputs: tuple[Path, ...] = ()

    def check(self) -> None:
        """Check that the file may be written.

        Raises:
            OutputError: the file is an input, or inside an input folder; it is inside a directory that another command
                wrote; it is a directory or a device; or it exists and `overwrite` is not set.
        """
        for given in self.inputs:
            if is_same_or_inside(self.path, given):
                raise OutputError(f"{self.path} is read by this command and is not replaced: choose another file")
        check_outside(self.path)
        if self.path.is_dir():
            raise OutputError(f"{self.path} is a directory: choose a file")
        if self.path.exists() and not self.path.is_file():
            raise OutputError(f"{self.path} is not a regular file: choose another file")
        if self.path.exists() and not self.overwrite:
            raise OutputError(f"{self.path} already exists: set overwrite (--overwrite), or choose another file")

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Check the file, and yield the path of a new file that replaces it at the end. A link stays a link to its
        file, which is replaced.

        Raises:
            OutputError: as `check`, or the file cannot be written.
        """
        self.check()
        with atomic_path(self.path.resolve() if self.path.is_symlink() else self.path) as part:
            yield part


def check_reports(folder: Path, names: Sequence[str], *, overwrite: bool, inputs: tuple[Path, ...] = ()) -> None:
    """Check that each of the files `names` may be written into `folder`, which may hold other files.

    Raises:
        OutputError: as `OutputFile.check`; or `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file: choose a directory")
    for name in names:
        OutputFile(folder / name, overwrite, inputs).check()


def is_same_or_inside(path: Path, given: Path) -> bool:
    """Whether `path` exists and is `given` (by any name), or a file in the folder `given`."""
    if not path.exists() or not given.exists():
        return False
    return path.samefile(given) or (given.is_dir() and path.resolve().is_relative_to(given.resolve()))


def check_outside(path: Path) -> None:
    """Check that `path` is not inside a directory that a command wrote, unless this process is writing it.

    Raises:
        OutputError: it is.
    """
    for folder in path.resolve().parents:
        if is_written_by_this_process(folder):
            return
        kind = kind_of(folder)
        if kind is not None:
            raise OutputError(f"{path} is inside {folder}, which is a {kind.name}: choose another place")


def paths_in(*sources: Any) -> tuple[Path, ...]:
    """The paths among the sources of tables: texts and paths that exist, in lists and mappings too."""
    return tuple(_paths(sources))


def _paths(sources: Iterable[Any]) -> Iterator[Path]:
    for source in sources:
        if isinstance(source, str | Path):
            try:
                if source and Path(source).exists():
                    yield Path(source)
            except (OSError, ValueError):  # a row as JSON is too long for a path, or holds a NUL
                continue
        elif isinstance(source, list | tuple):
            yield from _paths(source[:1000])
        elif isinstance(source, Mapping):
            yield from _paths([one for one in source.values() if isinstance(one, str | Path)])
