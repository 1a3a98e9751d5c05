"""Files and folders in object stores, by their addresses: `s3://bucket/folder/a.parquet`. `pyarrow.fs` reads them."""

from __future__ import annotations

import functools
import os
import posixpath
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeAlias

from polymodal.core.errors import DataError

#: Schemes of the addresses that are read.
SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "file")
#: Environment variables with the name of the storage account of `az://container/...`, which the address lacks.
AZURE_ACCOUNT = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")
#: Seconds after which Google's store counts as unreachable; without a limit it is tried for 15 minutes.
RETRY_SECONDS = 60
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/+([^?]*)(\?.*)?", re.DOTALL)


@dataclass(frozen=True)
class ObjectPath:
    """A file or folder of an object store, or with the scheme `file` of this machine.

    address: without options and without a slash at the end
    options: what follows the question mark of the address, for the file system: `region=eu-west-1`

    Example:
        >>> one = ObjectPath.parse("s3://bucket/data/a.parquet?region=eu-west-1")
        >>> one.name, str(one.parent), str(one.parent / "b.png"), one.options
        ('a.parquet', 's3://bucket/data', 's3://bucket/data/b.png', 'region=eu-west-1')
    """

    address: str
    options: str = ""

    @classmethod
    def parse(cls, text: str) -> ObjectPath | None:
        """The path of an address of one of `SCHEMES`; None for other texts. A single slash after the scheme, which is
        left of two where an address was taken for a path, stands for both."""
        matched = _ADDRESS.fullmatch(text)
        if matched is None or matched[1].lower() not in SCHEMES:
            return None
        scheme, rest = matched[1].lower(), matched[2].rstrip("/")
        return cls(f"{scheme}://{'/' if scheme == 'file' else ''}{rest}", (matched[3] or "?")[1:])

    @classmethod
    def of_file(cls, path: Path) -> ObjectPath:
        """The path of a file of this machine."""
        return cls(f"file://{path.absolute().as_posix()}")

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(f"{self.address}/{name}", self.options)

    @property
    def scheme(self) -> str:
        return self.address.partition(":")[0]

    @property
    def name(self) -> str:
        """The last part."""
        return self.address.rpartition("/")[2]

    @property
    def parent(self) -> ObjectPath:
        """The folder of the path."""
        return ObjectPath(self.address.rpartition("/")[0], self.options)

    @property
    def local(self) -> Path | None:
        """The path on this machine, with the scheme `file`."""
        return Path(self._inner) if self.scheme == "file" else None

    @property
    def whole(self) -> str:
        """The address with its options, for another process."""
        return f"{self.address}?{self.options}" if self.options else self.address

    @property
    def shown(self) -> str:
        """The path for messages: of this machine, or the address."""
        return str(self.local or self.address)

    @property
    def _inner(self) -> str:
        """The path within the file system: with the bucket, without the scheme."""
        return self.address.partition("://")[2]

    def open(self) -> Any:
        """The file for reading at any place, a `pyarrow.NativeFile`.

        Raises:
            OSError: it does not exist, or cannot be read.
        """
        return self._file_system().open_input_file(self._inner)

    def names(self) -> list[str]:
        """The names of the files in the folder; empty if it does not exist.

        Raises:
            DataError: the store cannot be read.
        """
        from pyarrow import fs  # slow to import

        with object_errors(self):
            found = self._file_system().get_file_info(fs.FileSelector(self._inner, allow_not_found=True))
        return [one.base_name for one in found if one.type == fs.FileType.File]

    def exists(self) -> bool:
        """Whether there is a file at this address.

        Raises:
            DataError: the store cannot be read.
        """
        from pyarrow import fs  # slow to import

        with object_errors(self):
            (found,) = self._file_system().get_file_info([self._inner])
        return bool(found.type == fs.FileType.File)

    def upload(self, file: Path) -> None:
        """Write a file of this machine to this address. The object is there whole, or not at all.

        Raises:
            OSError: the store cannot be written to.
        """
        with file.open("rb") as source, self._file_system().open_output_stream(self._inner) as target:
            shutil.copyfileobj(source, target, 8 << 20)

    def delete(self) -> None:
        """Delete the file.

        Raises:
            OSError: the store cannot be written to.
        """
        self._file_system().delete_file(self._inner)

    def files(self) -> list[ObjectFile]:
        """The files of a pattern (`part-*.parquet`), of a folder (not of folders in it), or the file itself; sorted
        by name. Names that begin with `.` or `_` are left out of folders and patterns.

        Raises:
            DataError: there is nothing at this address, or the store cannot be read.
        """
        from pyarrow import fs  # slow to import

        with object_errors(self):
            if any(mark in self.name for mark in "*?["):
                selector = fs.FileSelector(self.parent._inner)
                found = [
                    one for one in self._file_system().get_file_info(selector) if fnmatchcase(one.base_name, self.name)
                ]
                base = self.parent._inner
            else:
                (own,) = self._file_system().get_file_info([self._inner])
                if own.type == fs.FileType.File:
                    return [self._stored(own)]
                if own.type == fs.FileType.NotFound:
                    raise FileNotFoundError(self.address)
                found = self._file_system().get_file_info(fs.FileSelector(self._inner))
                base = self._inner
        visible = [one for one in found if one.type == fs.FileType.File and not _is_hidden(one.path[len(base) :])]
        if not visible:
            raise DataError("there are no files at this address", file=self.shown)
        return [self._stored(one) for one in sorted(visible, key=lambda one: one.path)]

    def _stored(self, info: Any) -> ObjectFile:
        path = ObjectPath(f"{self.scheme}://{info.path}", self.options)
        return ObjectFile(path, int(info.size), str(info.mtime_ns))

    def _file_system(self) -> Any:
        bucket = self._inner.partition("/")[0]
        return _file_system(self.scheme, bucket, self.options)


#: The folder of relative media paths: on this machine, or in an object store.
Root: TypeAlias = Path | ObjectPath


@dataclass(frozen=True)
class ObjectFile:
    """A file with the facts by which a change of it is seen.

    size: in bytes
    version: the time of its last change
    """

    path: ObjectPath
    size: int
    version: str

    @property
    def identity(self) -> str:
        """Another text for another file or another content."""
        return f"{self.path} {self.size} {self.version}"


def object_file(path: Path) -> ObjectFile:
    """A file of this machine."""
    status = path.stat()
    return ObjectFile(ObjectPath.of_file(path), status.st_size, str(status.st_mtime_ns))


def as_root(root: str | os.PathLike[str] | ObjectPath | None) -> Root | None:
    """A root folder as users give it: a path, or an address.

    >>> as_root("s3://bucket/photos/"), as_root("file:///data"), as_root(None)
    (ObjectPath(address='s3://bucket/photos', options=''), PosixPath('/data'), None)
    """
    if root is None or isinstance(root, ObjectPath):
        return root
    found = ObjectPath.parse(os.fspath(root))
    return Path(root) if found is None else found.local or found


@contextmanager
def object_errors(path: ObjectPath) -> Iterator[None]:
    """Turn an error of the object store into a `DataError` that names the address and what to check."""
    import pyarrow as pa  # processes that decode media start without it

    try:
        yield
    except FileNotFoundError as error:
        raise DataError("there is nothing at this address", file=path.shown) from error
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"the object store cannot be read: {reason}; check the address, the network and the credentials in the "
            "environment",
            file=path.shown,
        ) from error


def path_below(root: ObjectPath, cell: str) -> ObjectPath | None:
    """The path that a cell names: relative to `root`, or an address below it; None if it leaves `root`.

    >>> root = ObjectPath.parse("s3://bucket/data")
    >>> [str(path_below(root, cell)) for cell in ("a/b.png", "s3://bucket/data/c.png", "../d.png", "s3://other/e.png")]
    ['s3://bucket/data/a/b.png', 's3://bucket/data/c.png', 'None', 'None']
    """
    address = ObjectPath.parse(cell) if "://" in cell else None
    if address is not None:
        if not address.address.startswith(root.address + "/"):
            return None
        cell = address.address[len(root.address) + 1 :]
    relative = posixpath.normpath(cell)
    return None if relative.startswith(("/", "..")) or "://" in cell else root / relative


def _is_hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.split("/") if part)


@functools.cache
def _file_system(scheme: str, bucket: str, options: str) -> Any:
    from pyarrow import fs  # slow to import

    if scheme == "file":
        return fs.LocalFileSystem()
    address = f"{'gs' if scheme == 'gcs' else scheme}://{bucket}"
    if address.startswith("gs:") and "retry_limit_seconds" not in options:
        options = "&".join(filter(None, [options, f"retry_limit_seconds={RETRY_SECONDS}"]))
    if scheme == "az":
        account = next((os.environ[name] for name in AZURE_ACCOUNT if os.environ.get(name)), None)
        if account is None:
            raise DataError(
                f"the address az://{bucket} does not name the storage account; set {AZURE_ACCOUNT[0]}, or write "
                f"abfs://ACCOUNT@{bucket}/..."
            )
        address = f"abfs://{account}@{bucket}"
    found, _ = fs.FileSystem.from_uri(address + (f"?{options}" if options else ""))
    return found
