"""Compressed tables: `table.csv.gz` is read as `table.csv`."""

from __future__ import annotations

import gzip
import shutil
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polymodal.core.errors import DataError
from polymodal.core.paths import cache_writes

SUFFIX = ".gz"


def format_of(path: Path) -> str:
    """The suffix that names the format of a table, without that of its compression: `.csv` for `a.csv.gz`.

    >>> format_of(Path("a.CSV.gz")), format_of(Path("a.parquet"))
    ('.csv', '.parquet')
    """
    suffix = path.suffix.lower()
    return path.with_suffix("").suffix.lower() if suffix == SUFFIX else suffix


@contextmanager
def decompressed(path: Path, cache: Path) -> Iterator[Path]:
    """The path itself, or for a compressed file a temporary copy of its content in `cache`.

    Raises:
        DataError: the file is damaged. The error of a reader names the compressed file.
    """
    if path.suffix.lower() != SUFFIX:
        yield path
        return
    folder = cache / f"{uuid.uuid4().hex}.decompressed"
    copy = folder / path.with_suffix("").name
    try:
        with cache_writes(cache):
            folder.mkdir(parents=True)
        _decompress(path, copy, cache)
        yield copy
    except DataError as error:
        if error.file != str(copy):
            raise
        raise DataError(error.problem, row=error.row, column=error.column, file=str(path)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _decompress(path: Path, copy: Path, cache: Path) -> None:
    with gzip.open(path, "rb") as source, cache_writes(cache), copy.open("wb") as target:
        while block := _read(source, path):
            target.write(block)


def _read(source: gzip.GzipFile, path: Path) -> bytes:
    try:
        return source.read(1 << 20)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"the file is damaged or not compressed by gzip ({error})", file=str(path)) from error
