"""Compressed tables: `table.csv.gz`, `.bz2`, `.xz` and `.zst` are read as `table.csv`. A `.zip` holds tables."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import pyarrow as pa

from polymodal.core.errors import DataError, did_you_mean
from polymodal.core.paths import cache_writes
from polymodal.data.media.formats import AUDIO_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES

ZIP = ".zip"
_MEDIA = IMAGE_SUFFIXES | AUDIO_SUFFIXES | VIDEO_SUFFIXES


def _open_zstandard(path: Path) -> Any:
    return pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")


_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _open_zstandard,
}
COMPRESSIONS = tuple(_OPENERS)
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, pa.ArrowException)


def format_of(path: Path) -> str:
    """The suffix that names the format of a table, without that of its compression: `.csv` for `a.csv.gz`.

    >>> format_of(Path("a.CSV.gz")), format_of(Path("a.parquet"))
    ('.csv', '.parquet')
    """
    suffix = path.suffix.lower()
    return path.with_suffix("").suffix.lower() if suffix in COMPRESSIONS else suffix


@contextmanager
def decompressed(path: Path, cache: Path, member: str | None = None) -> Iterator[Path]:
    """The path itself, or for a compressed file a temporary copy of its content in `cache`.

    member: the file in a `.zip`

    Raises:
        DataError: the file is damaged. The error of a reader names the compressed file.
    """
    suffix = path.suffix.lower()
    if suffix not in COMPRESSIONS and member is None:
        yield path
        return
    name = path.with_suffix("").name if member is None else PurePosixPath(member).name
    with temporary_copy(path, cache, name) as copy:
        if member is None:
            _copy(_OPENERS[suffix](path), copy, path, cache)
        else:
            with _opened_zip(path) as archive:
                _copy(_open_member(archive, member, path), copy, path, cache)
        yield copy


@contextmanager
def temporary_copy(path: Path, cache: Path, name: str) -> Iterator[Path]:
    """The path of a new file `name` in `cache`, which is deleted at the end. An error that names it names `path`."""
    folder = cache / f"{uuid.uuid4().hex}.copy"
    copy = folder / name
    try:
        with cache_writes(cache):
            folder.mkdir(parents=True)
        yield copy
    except DataError as error:
        if error.file != str(copy):
            raise
        raise DataError(error.problem, row=error.row, column=error.column, file=str(path)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def find_member(path: Path, name: str | None, formats: Collection[str]) -> str:
    """The table in a `.zip`: the file `name`, or without a name the only one that is a table.

    Raises:
        DataError: there is none, or there are several. The message lists them. Without a name also if the archive holds
            media, which can be read only after it is unpacked.
    """
    with _opened_zip(path) as archive:
        names = [one.filename for one in archive.infolist() if not one.is_dir() and not _is_hidden(one.filename)]
    tables = [one for one in names if PurePosixPath(one).suffix.lower() in formats]
    if name is not None:
        if name in tables:
            return name
        raise DataError(f"the archive has no table {name!r}; {did_you_mean(name, tables)}", file=str(path))
    if not tables:
        known = ", ".join(sorted(formats))
        raise DataError(f"the archive holds no table ({known}); unpack it with `unzip`", file=str(path))
    if any(PurePosixPath(one).suffix.lower() in _MEDIA for one in names):
        problem = f"the archive holds media beside {tables[0]!r}: unpack it with `unzip` and give the table in it"
        raise DataError(problem, file=str(path))
    if len(tables) > 1:
        listed = ", ".join(repr(one) for one in tables[:5])
        problem = f"the archive holds {len(tables)} tables ({listed}): name one of them, as in {path.name}#{tables[0]}"
        raise DataError(problem, file=str(path))
    return tables[0]


@contextmanager
def _opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    with archive:
        yield archive


def _open_member(archive: zipfile.ZipFile, member: str, path: Path) -> Any:
    try:
        return archive.open(member)
    except (RuntimeError, NotImplementedError, *_DAMAGED) as error:  # a password, or another kind of compression
        raise DataError(f"{member!r} cannot be unpacked: {error}", file=str(path)) from error


def _copy(source: BinaryIO, copy: Path, path: Path, cache: Path) -> None:
    with source, cache_writes(cache), copy.open("wb") as target:
        while block := _read(source, path):
            target.write(block)


def _read(source: BinaryIO, path: Path) -> bytes:
    try:
        return source.read(1 << 20)
    except _DAMAGED as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    kind = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "Zstandard", ZIP: "zip"}[path.suffix.lower()]
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"the file is damaged or not compressed by {kind} ({reason})", file=str(path))


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
