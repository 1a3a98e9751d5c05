"""What an index directory says of itself, and how it changes: new files first, then the manifest in one step.

manifest.json                format, size and type of the vectors, the files below with their sizes and sums, the model
segment-N.vectors.npy        [rows, size] unit vectors, float32 or float16, in the order of their ids
segment-N.ids.npy            [rows] int64, ascending, greater than all of the segments before
segment-N.columns.arrow      the kept columns, uncompressed, so that they are mapped as well
deleted-N.npy                [deleted] int64, ascending: ids that are no longer there
graph-N.usearch              the graph of an approximate index

A file is never written twice. A reader therefore sees the index as its manifest described it, and a writer that dies
leaves files that no manifest names, which the next one removes.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from polymodal._version import __version__
from polymodal.checkpoint.model_directory import file_sha256, read_json, write_json
from polymodal.core.errors import ArtifactError

FORMAT: Final = 1
KIND: Final = "polymodal index"
MANIFEST_FILE = "manifest.json"
#: Files up to this many bytes are summed when an index is opened; of larger ones only the length is compared, since
#: reading them would load what is meant to stay on the disk.
CHECKSUM_BELOW = 16 << 20


class StoredFile(BaseModel):
    """A file of the index: its name, its length in bytes and, if it is small, its SHA-256."""

    model_config = ConfigDict(extra="forbid")
    name: str
    bytes: int
    sha256: str | None


class IndexSegment(BaseModel):
    """Rows that were added together. `first` and `last` are the smallest and the largest of their ids."""

    model_config = ConfigDict(extra="forbid")
    rows: int = Field(ge=1)
    first: int
    last: int
    vectors: StoredFile
    ids: StoredFile
    columns: StoredFile | None


class HNSWOptions(BaseModel):
    """How a graph is built and walked.

    connectivity: links of a row in the graph; more find more, and take more memory
    expansion_add, expansion_search: how many rows a walk through the graph keeps in view, when rows are added and when
        they are sought; more find more and take longer
    """

    model_config = ConfigDict(extra="forbid")
    connectivity: int = 16
    expansion_add: int = 128
    expansion_search: int = 128


class HNSWState(HNSWOptions):
    """The graph of an approximate index, over the ids up to `last`; see `graph.Graph`."""

    file: StoredFile | None = None
    rows: int = 0
    last: int = -1


class EmbeddingSource(BaseModel):
    """The model that made the vectors: its directory, the SHA-256 of its manifest, and what was embedded.

    input: the input of the rows; None: all inputs together
    size: the length of the vectors that was asked for; None: as the model has them
    """

    model_config = ConfigDict(extra="forbid")
    path: str
    sha256: str
    input: str | None
    size: int | None


class IndexManifest(BaseModel):
    """The contents of `manifest.json`. `next_id` is the id that the next row gets; ids are never used twice."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["polymodal index"] = KIND
    format: Literal[1] = FORMAT
    polymodal: str = __version__
    generation: int = 0
    size: int = Field(ge=1)
    dtype: Literal["float32", "float16"]
    next_id: int = 0
    segments: list[IndexSegment] = []
    deleted: StoredFile | None = None
    graph: HNSWState | None = None
    source: EmbeddingSource | None = None

    def files(self) -> list[StoredFile]:
        """Every file that belongs to the index."""
        found = [file for one in self.segments for file in (one.vectors, one.ids, one.columns)]
        found += [self.deleted, self.graph.file if self.graph else None]
        return [file for file in found if file is not None]


def sync_file(path: Path) -> StoredFile:
    """A file that was just written, brought safely to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    size = path.stat().st_size
    return StoredFile(name=path.name, bytes=size, sha256=file_sha256(path) if size <= CHECKSUM_BELOW else None)


def read_manifest(folder: Path) -> IndexManifest:
    """The manifest of an index, all of whose files are there and as they were written.

    Raises:
        ArtifactError: the folder holds no index, one of another format, or a file is missing or was altered.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        state = "it has no manifest.json" if folder.is_dir() else "there is no such folder"
        raise ArtifactError(f"{folder} is not an index: {state}")
    if not is_index(folder):
        raise ArtifactError(f"{folder} is not an index: its manifest.json is of something else")
    raw = read_json(path)
    if raw.get("format") != FORMAT:
        raise ArtifactError(
            f"{folder} has format {raw.get('format')}, written by polymodal {raw.get('polymodal')}; this is polymodal "
            f"{__version__}, which reads format {FORMAT}; build the index again"
        )
    try:
        manifest = IndexManifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ArtifactError(f"{path} is damaged: {place}: {first['msg']}") from None
    for file in manifest.files():
        _check(folder, file)
    return manifest


def is_index(folder: Path) -> bool:
    """Whether `folder` holds an index, of any format and in any state."""
    path = folder / MANIFEST_FILE
    raw = read_json(path) if path.is_file() else None
    return isinstance(raw, dict) and raw.get("kind") == KIND


def write_manifest(folder: Path, manifest: IndexManifest) -> None:
    """Replace the manifest in one step, then remove files that it does not name."""
    part = folder / f"{MANIFEST_FILE}.part"
    write_json(part, manifest.model_dump())
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(folder / MANIFEST_FILE)
    remove_orphans(folder, manifest)


def remove_orphans(folder: Path, manifest: IndexManifest) -> None:
    """Remove files of replaced or interrupted changes. Who has them mapped keeps them until they are closed."""
    named = {file.name for file in manifest.files()}
    for pattern in ("segment-*", "deleted-*", "graph-*"):
        for path in folder.glob(pattern):
            if path.name not in named:
                with contextlib.suppress(PermissionError):  # a mapped file cannot be removed on Windows; next time
                    path.unlink(missing_ok=True)


@contextlib.contextmanager
def write_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of those who change the index.

    Raises:
        ArtifactError: another process is changing it.
    """
    with (folder / "lock").open("wb") as file:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ArtifactError(f"another process is changing {folder}; try again when it is done") from None
            except OSError:
                pass  # a file system without locks
        yield


def _check(folder: Path, file: StoredFile) -> None:
    path = folder / file.name
    if Path(file.name).name != file.name:
        raise ArtifactError(f"{folder / MANIFEST_FILE} names a file outside the index: {file.name}")
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; build the index again")
    altered = path.stat().st_size != file.bytes or (file.sha256 is not None and file_sha256(path) != file.sha256)
    if altered:
        raise ArtifactError(f"{path} was altered after it was written; restore it or build the index again")
