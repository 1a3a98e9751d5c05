"""A folder of files that are written whole or not at all: on this machine, or in an object store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from polymodal.core.errors import OutputError
from polymodal.core.writing import atomic_path, write_errors
from polymodal.data.objects import ObjectPath, Root


class ShardFolder:
    """A folder in which several processes and machines write files of different names.

    Example:
        >>> folder = ShardFolder(Path("shards"))
        >>> folder.write_text("part-0.txt", "done")
        >>> folder.names(), folder.read_text("part-0.txt")
        (['part-0.txt'], 'done')
    """

    def __init__(self, root: Root) -> None:
        self.root = root

    @property
    def address(self) -> str:
        """The path or address for another process."""
        return self.root.whole if isinstance(self.root, ObjectPath) else str(self.root)

    def names(self) -> list[str]:
        """The names of all files, sorted.

        Raises:
            DataError: the object store cannot be read.
            OutputError: the path is no folder.
        """
        if isinstance(self.root, ObjectPath):
            return sorted(self.root.names())
        if self.root.exists() and not self.root.is_dir():
            raise OutputError(f"{self.root} is a file: choose a directory")
        return sorted(file.name for file in self.root.iterdir()) if self.root.is_dir() else []

    def has(self, name: str) -> bool:
        """Whether there is a file of this name.

        Raises:
            DataError: the object store cannot be read.
        """
        path = self.root / name
        return path.exists()

    def open(self, name: str) -> Any:
        """A file for reading at any place, a `pyarrow.NativeFile`.

        Raises:
            OSError: it does not exist, or cannot be read.
        """
        return self.path(name).open()

    def path(self, name: str) -> ObjectPath:
        """The address of a file."""
        path = self.root / name
        return path if isinstance(path, ObjectPath) else ObjectPath.of_file(path)

    def read_text(self, name: str) -> str:
        """The text in a file.

        Raises:
            OSError: it does not exist, or cannot be read.
        """
        with self.open(name) as file:
            data: bytes = file.read()
            return data.decode()

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield the path of a new file of this machine. At the end it becomes the file `name`; if the block raises an
        error, it does not.

        Raises:
            OutputError: the file cannot be written.
        """
        path = self.root / name
        if not isinstance(path, ObjectPath):
            with atomic_path(path) as part:
                yield part
            return
        with TemporaryDirectory(prefix="polymodal-") as folder:
            part = Path(folder) / name
            yield part
            try:
                path.upload(part)
            except OSError as error:
                raise OutputError(f"{path} cannot be written: {error}") from error

    def write_text(self, name: str, text: str) -> None:
        """Write a text as a file.

        Raises:
            OutputError: the file cannot be written.
        """
        with self.writing(name) as part:
            part.write_text(text, encoding="utf-8")

    def delete(self, name: str) -> None:
        """Delete a file, if it exists.

        Raises:
            OutputError: it cannot be deleted.
        """
        path = self.root / name
        if isinstance(path, ObjectPath):
            try:
                path.delete()
            except FileNotFoundError:
                pass  # another process has deleted it
            except OSError as error:
                raise OutputError(f"{path} cannot be deleted: {error}") from error
            return
        with write_errors(path):
            path.unlink(missing_ok=True)
