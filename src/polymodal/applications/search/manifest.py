"""The manifest of an index directory. A change writes new files first, then replaces the manifest atomically.

manifest.json                format, dimension and type of the vectors, the model, the files below with their sizes and
                             checksums, and the checksum of its own content
segment-N.vectors.npy        [rows, dim] unit vectors, float32 or float16, in the order of their ids
segment-N.ids.npy            [rows] int64, ascending, greater than the ids of all earlier segments
segment-N.columns.arrow      the metadata columns, uncompressed, so that they can be memory-mapped
deleted-N.npy                [deleted] int64, ascending: the ids of deleted rows
graph-N.usearch              the HNSW graph of an approximate index

A file is never overwritten. A reader therefore sees the index in the state of its manifest. A writer that crashes
leaves files that are not in the manifest; the next writer removes them.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from polymodal._version import __version__
from polymodal.checkpoint.model_directory import file_sha256, read_json, unsigned, write_signed
from polymodal.checkpoint.reading import parsing
from polymodal.core.errors import ArtifactError
from polymodal.core.record import read_record
from polymodal.core.writing import atomic_path

FORMAT: Final = 3
KIND: Final = "polymodal index"
MANIFEST_FILE = "manifest.json"
#: Files up to this many bytes are checked by their checksum when an index is opened. Larger files are checked only by
#: their length, since reading them would load the vectors that should stay on disk.
CHECKSUM_BELOW = 16 << 20


class StoredFile(BaseModel):
    """A file of the index: its name, its length in bytes and, for a small file, its SHA-256."""

    model_config = ConfigDict(extra="forbid")
    name: str
    bytes: int
    sha256: str | None


class IndexSegment(BaseModel):
    """Rows that were added together. `first_id` and `last_id` are their smallest and largest ids."""

    model_config = ConfigDict(extra="forbid")
    num_rows: int = Field(ge=1)
    first_id: int
    last_id: int
    vectors: StoredFile
    ids: StoredFile
    columns: StoredFile | None


class HNSWOptions(BaseModel):
    """Options of an HNSW graph.

    connectivity: links per row (M); more links increase the recall and the memory
    ef_construction, ef_search: number of candidates when rows are added and when they are searched; more candidates
        increase the recall and the time
    """

    model_config = ConfigDict(extra="forbid")
    connectivity: int = 16
    ef_construction: int = 128
    ef_search: int = 128


class HNSWState(HNSWOptions):
    """The HNSW graph of an approximate index, which contains the ids up to `last_id`; see `HNSWGraph`."""

    file: StoredFile | None = None
    num_rows: int = 0
    last_id: int = -1


class EmbeddingSource(BaseModel):
    """The model that computed the vectors: its directory, the SHA-256 of its manifest, and the embedding options.

    input: the embedded input; None: the whole row
    dim: number of leading dimensions that were kept; None: all
    """

    model_config = ConfigDict(extra="forbid")
    path: str
    sha256: str
    input: str | None
    dim: int | None


class IndexManifest(BaseModel):
    """The contents of `manifest.json`. `next_id` is the id of the next row; ids are never reused."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["polymodal index"] = KIND
    format: Literal[3] = FORMAT
    polymodal: str = __version__
    generation: int = 0
    dim: int = Field(ge=1)
    dtype: Literal["float32", "float16"]
    next_id: int = 0
    segments: list[IndexSegment] = []
    deleted: StoredFile | None = None
    graph: HNSWState | None = None
    source: EmbeddingSource | None = None

    def files(self) -> list[StoredFile]:
        """All files of the index."""
        files = [file for segment in self.segments for file in (segment.vectors, segment.ids, segment.columns)]
        files += [self.deleted, self.graph.file if self.graph else None]
        return [file for file in files if file is not None]


def sync_file(path: Path) -> StoredFile:
    """Flush a file that was just written to disk, and return its manifest entry."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    size = path.stat().st_size
    return StoredFile(name=path.name, bytes=size, sha256=file_sha256(path) if size <= CHECKSUM_BELOW else None)


def read_manifest(folder: Path) -> IndexManifest:
    """Read the manifest of an index and check its files.

    Raises:
        ArtifactError: the folder contains no index or an index of another format, or a file is missing or was modified.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        state = "manifest.json is missing" if folder.is_dir() else "the folder does not exist"
        raise ArtifactError(f"{folder} is not an index: {state}")
    if not is_index(folder):
        raise ArtifactError(f"{folder} is not an index: its manifest.json belongs to something else")
    raw = read_json(path)
    if raw.get("format") != FORMAT:
        raise ArtifactError(
            f"{folder} has format {raw.get('format')}, written by polymodal {raw.get('polymodal')}; this is polymodal "
            f"{__version__}, which reads format {FORMAT}; build the index again"
        )
    manifest = read_record(IndexManifest, unsigned(raw, path), path)
    for file in manifest.files():
        _check(folder, file)
    return manifest


def is_index(folder: Path) -> bool:
    """Whether `folder` contains an index, of any format and in any state."""
    path = folder / MANIFEST_FILE
    raw = read_json(path) if path.is_file() else None
    return isinstance(raw, dict) and raw.get("kind") == KIND


def write_manifest(folder: Path, manifest: IndexManifest) -> None:
    """Replace the manifest atomically, then remove files that are not in it."""
    with atomic_path(folder / MANIFEST_FILE) as part:
        write_signed(part, manifest.model_dump())
        with part.open("rb+") as file:
            os.fsync(file.fileno())
    remove_orphans(folder, manifest)


def remove_orphans(folder: Path, manifest: IndexManifest) -> None:
    """Remove files of replaced or interrupted changes. A process that has mapped such a file can still read it."""
    known = {file.name for file in manifest.files()}
    for pattern in ("segment-*", "deleted-*", "graph-*", f".{MANIFEST_FILE}.*.part"):
        for path in folder.glob(pattern):
            if path.name not in known:
                with contextlib.suppress(
                    PermissionError
                ):  # Windows cannot remove a mapped file; the next writer tries again
                    path.unlink(missing_ok=True)


def _check(folder: Path, file: StoredFile) -> None:
    path = folder / file.name
    if Path(file.name).name != file.name:
        raise ArtifactError(f"{folder / MANIFEST_FILE} contains a file outside of the index: {file.name}")
    with parsing(folder / MANIFEST_FILE):  # a name may hold characters that no file name may have
        exists = path.is_file()
    if not exists:
        raise ArtifactError(f"{path} is missing; build the index again")
    modified = path.stat().st_size != file.bytes or (file.sha256 is not None and file_sha256(path) != file.sha256)
    if modified:
        raise ArtifactError(f"{path} was modified after it was written; restore it or build the index again")
