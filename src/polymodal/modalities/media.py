"""Shared base of image, audio, video and time series modalities: from cells to decoded items, each decoded once."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from importlib import import_module
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from polymodal.data.media.nearest_file import NearestFiles
from polymodal.data.media.source import MediaError, MissingFileError, MissingRootError, read_bytes
from polymodal.data.media.unsupported_formats import conversion_advice, unsupported_format
from polymodal.data.objects import ObjectPath, Root
from polymodal.data.store.decode_buffer import DecodeBuffer, Layout
from polymodal.data.store.decode_buffer import Item as Item
from polymodal.data.store.items import PreparedInput, Store
from polymodal.data.store.store import MediaStore, content_key
from polymodal.data.table.block import RowBlock
from polymodal.modalities.base import Modality, ModalityOptions
from polymodal.modalities.intended_media import inline_or_path, is_missing
from polymodal.recipe.data import LimitOptions

#: Cells, and bytes of encoded media, that are read before they are sent to the decoders.
CHUNK_CELLS = 256
CHUNK_BYTES = 128 * 2**20
#: Limits that do not change the content of decoded items: those on reading and on the decoding processes.
UNRELATED_LIMITS = {"megabytes", "timeout_seconds", "memory_mib", "num_workers"}


class MediaModality(Modality):
    """Base of the modalities whose cells are media: a path below the table's folder, encoded bytes, a `data:` address,
    a record of `bytes` and `path`, or arrays in memory.

    Each distinct item is decoded once, in processes that may crash; with a store, once across all runs. Items are
    distinct by content, not by path. A subclass defines the target format of decoded items (`request`) and handles
    cells that are already decoded (`from_memory`). `polymodal.data.media.<media>` decodes the others.
    """

    #: The kind of media, and the module in `polymodal.data.media` that decodes it.
    media: ClassVar[str]
    #: Whether an item has any number of records (samples, frames, steps), or exactly one.
    ragged: ClassVar[bool] = True

    def __init__(self, options: ModalityOptions, *, columns: list[str]) -> None:
        super().__init__(options, columns=columns)
        self.column = columns[0]
        self._stores: dict[tuple[Path, str], Store] = {}

    @abstractmethod
    def request(self) -> Any:
        """The target format of decoded items: the request of this kind of media, from the options and the fitted
        state."""

    @abstractmethod
    def from_memory(self, cell: Any, limits: LimitOptions) -> tuple[bytes, Item] | None:
        """Convert a cell that needs no decoder: bytes that identify its content, and the item. None if the cell must be
        read and decoded. Called in several threads at once.

        Raises:
            MediaError: the cell cannot be used, or is over a limit.
        """

    def check_packages(self) -> None:
        """Check that the packages which decode this kind of media are installed. Called before the first item is
        decoded.

        Raises:
            MissingExtraError: a package is not installed.
        """

    def max_records(self) -> int:
        """The maximum number of records of an item, which bounds blocks of rows. Ragged media override this with a
        tighter bound."""
        return max(1, 4 * 2**20 // self._record_bytes()) if self.ragged else 1

    @property
    def max_windows(self) -> int:
        """The maximum number of consecutive windows in which an item is encoded; 1 if the modality has no windows."""
        return int(getattr(self.options, "max_windows", 1))

    def windowed_shape(self, shape: dict[str, Any]) -> dict[str, Any]:
        """The shape with `windows`, the maximum number of windows, if an item can have several."""
        return shape if self.max_windows == 1 else {**shape, "windows": self.max_windows}

    def describe_windows(self) -> str:
        """The windows of an item, for `describe`; empty if it has one."""
        return f" in up to {self.max_windows} windows" if self.max_windows > 1 else ""

    def row_bytes(self) -> float:
        return float(self._record_bytes() * self.max_records())

    def prepare(self, block: RowBlock) -> PreparedInput:
        cells: dict[Any, Any] = {}
        positions: dict[Any, list[int]] = {}
        for position, cell in enumerate(block.cells(self.column)):
            if not is_missing(cell):
                name = _cell_identity(cell)
                cells.setdefault(name, cell)
                positions.setdefault(name, []).append(position)
        decoded = DecodeBuffer(self._store(block), self._layout(), self.ragged)
        index = np.full(len(block), -1, np.int64)
        numbers: dict[bytes, int] = {}
        errors: list[tuple[int, str, str | None]] = []
        nearest = NearestFiles(block.root) if isinstance(block.root, Path) else None
        for (name, cell), result in zip(cells.items(), self._decode(list(cells.values()), block, decoded), strict=True):
            if isinstance(result, MediaError):
                file = None if result.inline else _file(cell)
                reason = str(result)
                if isinstance(result, MissingFileError) and file is not None and nearest is not None:
                    reason += _hint(file, self.media, nearest)
                if isinstance(result, MissingFileError | MissingRootError) and block.root_advice:
                    reason += f"; {block.root_advice}"
                errors += [(position, reason, file) for position in positions[name]]
            elif result is not None:
                index[positions[name]] = numbers.setdefault(result, len(numbers))
        for position, reason, file in sorted(errors, key=lambda error: error[0]):
            block.add_error(position, self.column, reason, file)
        return PreparedInput(index, decoded.items(list(numbers)), list(numbers))

    def _decode(self, cells: list[Any], block: RowBlock, decoded: DecodeBuffer) -> list[bytes | MediaError | None]:
        """The content key of each cell, the reason why it cannot be used, or None if it has no such media. New items
        are added to `decoded`."""
        keys: list[bytes | MediaError] = []
        unusable: dict[bytes, MediaError | None] = {}
        waiting: deque[bytes] = deque()

        def record(key: bytes, result: Item | MediaError) -> None:
            if isinstance(result, MediaError):
                unusable[key] = result
            elif result:
                decoded.add(key, result)
            else:
                unusable[key] = None

        def jobs(apply: Callable[..., Any]) -> Iterator[tuple[bytes, Any]]:
            request, seen, checked = self.request(), set[bytes](), False
            for chunk in _chunks(cells, block.root):
                new: dict[bytes, bytes | Item] = {}
                for source in apply(lambda cell: self._source(cell, block), chunk):
                    keys.append(source if isinstance(source, MediaError) else source[0])
                    if not isinstance(source, MediaError) and source[0] not in seen:
                        seen.add(source[0])
                        new[source[0]] = source[1]
                for key in decoded.missing_keys(list(new)):
                    data = new.pop(key)
                    if isinstance(data, dict):
                        record(key, data)
                        continue
                    if not checked:
                        self.check_packages()
                        checked = True
                    waiting.append(key)
                    yield data, request

        from polymodal.data.media.workers.pool import decoding_pool  # processes: only models of media need them

        with ExitStack() as stack:
            apply: Callable[..., Any] = map
            if len(cells) >= 4:  # threads do not pay off for fewer cells
                apply = stack.enter_context(ThreadPoolExecutor(min(8, os.cpu_count() or 1))).map
            for result in decoding_pool(block.limits).map(jobs(apply)):
                record(waiting.popleft(), result)
        return [key if isinstance(key, MediaError) else unusable.get(key, key) for key in keys]

    def _source(self, cell: Any, block: RowBlock) -> tuple[bytes, bytes | Item] | MediaError:
        """The content key of a cell, and the bytes to decode or the item itself; or the reason why it cannot be
        used."""
        try:
            converted = self.from_memory(cell, block.limits)
        except MediaError as error:
            error.inline = True
            return error
        if converted is not None:
            return content_key(converted[0]), converted[1]
        try:
            data, _ = read_bytes(cell, block.root, block.limits)
            return content_key(data), data
        except MediaError as error:
            return error

    def _store(self, block: RowBlock) -> Store | None:
        """The store in `block.cache`, opened once: opening reads all its keys.

        Limits are part of the store's name, so items decoded under looser limits are never reused.
        """
        if block.cache is None:
            return None
        text = self.fingerprint(block.limits)
        if (block.cache, text) not in self._stores:
            store = MediaStore(block.cache, self._layout(), text, self.ragged, kind=self.media)
            self._stores[block.cache, text] = store
        return self._stores[block.cache, text]

    def fingerprint(self, limits: LimitOptions) -> str:
        kept = json.dumps(limits.model_dump(mode="json", exclude=UNRELATED_LIMITS), sort_keys=True)
        request = json.dumps(asdict(self.request()), sort_keys=True)
        return f"{self.media}, {_decoder(self.media).VERSION}\n{request}\n{kept}"

    def _layout(self) -> Layout:
        layout: Layout = _decoder(self.media).layout(self.request())
        return layout

    def _record_bytes(self) -> int:
        return sum(np.dtype(dtype).itemsize * int(np.prod(shape)) for dtype, shape in self._layout().values())


def _cell_identity(cell: Any) -> Any:
    """An identity of a cell before it is read: two cells of the same identity have the same content."""
    if isinstance(cell, dict) and cell.keys() <= {"bytes", "path"}:
        return ("record", inline_or_path(cell))
    return cell if isinstance(cell, str | bytes | PurePath) else ("object", id(cell))


def _chunks(cells: list[Any], root: Root | None) -> Iterator[list[Any]]:
    """Cells in order, in chunks of at most `CHUNK_CELLS` cells and `CHUNK_BYTES` bytes."""
    chunk: list[Any] = []
    held = 0
    for cell in cells:
        size = _file_bytes(cell, root)
        if chunk and (len(chunk) == CHUNK_CELLS or held + size > CHUNK_BYTES):
            yield chunk
            chunk, held = [], 0
        chunk.append(cell)
        held += size
    if chunk:
        yield chunk


def _file_bytes(cell: Any, root: Root | None) -> int:
    """Bytes needed to read a cell; 0 if it is in memory already, or if there is no such file."""
    if isinstance(cell, dict):
        cell = cell.get("path") if cell.get("bytes") is None else None
    if not isinstance(cell, str | PurePath):
        return 0
    if str(cell)[:5].lower() == "data:":
        return len(str(cell)) * 3 // 4
    if isinstance(root, ObjectPath):
        return CHUNK_BYTES // CHUNK_CELLS  # its size would cost a request
    try:
        return os.stat(os.path.join(root or "", cell)).st_size
    except (OSError, ValueError):  # reported when it is read
        return 0


def _file(cell: Any) -> str | None:
    if isinstance(cell, dict):
        cell = cell.get("path")
    if isinstance(cell, PurePath):
        return str(cell)
    return cell if isinstance(cell, str) and cell[:5].lower() != "data:" else None


def _hint(path: str, media: str, nearest: NearestFiles) -> str:
    """What may be done about a path that does not exist."""
    name = unsupported_format(PurePath(path).suffix.lower())
    if advice := conversion_advice(name, media):
        return f"; {name} cannot be read either: {advice}"
    found = nearest.find(path)
    return f"; the nearest existing file is {found!r}" if found else ""


def _decoder(media: str) -> ModuleType:
    return import_module(f"polymodal.data.media.{media}")
