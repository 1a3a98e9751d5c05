"""The store of decoded images: content-addressed, memory-mapped, shared by runs and processes."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from polymodal.errors import DataError

KEY_BYTES = 16


def content_key(data: bytes) -> bytes:
    """16 bytes that name `data`: its 128-bit xxh3 hash with its size as the seed."""
    return xxhash.xxh3_128(data, seed=len(data)).digest()


class ImageStore:
    """Images of one size, `[height, width, 3]` uint8, found by the key of the bytes they were decoded from.

    The folder below `folder` is named after the size and the `preparation` text (every option that changes
    pixels), so another preparation is another store. Images lie in packs: `<id>.u8` has the pixels,
    `<id>.keys` the 16-byte keys in the same order. A pack is written under a temporary name and renamed,
    pixels first: it counts from the moment its keys are there. So several processes may add at the same time,
    and an interrupted one leaves nothing that is read.
    """

    def __init__(self, folder: Path, height: int, width: int, preparation: str) -> None:
        name = xxhash.xxh3_128_hexdigest(f"{height} x {width}\n{preparation}".encode())
        self.folder, self.height, self.width = Path(folder) / name, height, width
        self.folder.mkdir(parents=True, exist_ok=True)
        self._packs: list[np.ndarray] = []
        self._seen: set[str] = set()
        self._place: dict[bytes, int] = {}
        self._starts = [0]

    def known(self, keys: list[bytes]) -> np.ndarray:
        """`[len(keys)]` bool: which images are in the store, those of other processes included.

        Raises:
            DataError: a pack is damaged.
        """
        self._refresh()
        return np.array([key in self._place for key in keys], dtype=bool)

    def add(self, keys: list[bytes], images: np.ndarray) -> None:
        """Store `images [n, height, width, 3]` uint8 under `keys` as one pack; what is known already is left
        out."""
        if images.shape != (len(keys), self.height, self.width, 3) or images.dtype != np.uint8:
            raise ValueError(f"images {images.shape} {images.dtype} do not fit {len(keys)} keys of this store")
        known = self.known(keys)
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        new = np.array([i for i, key in enumerate(keys) if not known[i] and first[key] == i], dtype=np.int64)
        if len(new) == 0:
            return
        name = uuid.uuid4().hex
        self._write(f"{name}.u8", np.ascontiguousarray(images[new]).data)
        self._write(f"{name}.keys", b"".join(keys[i] for i in new))
        self._refresh()

    def open(self, keys: list[bytes]) -> StoreItems:
        """A view whose item i is the image of `keys[i]`.

        Raises:
            KeyError: an image is not in the store.
            DataError: a pack is damaged.
        """
        return StoreItems(self, self.ids(keys))

    def ids(self, keys: list[bytes]) -> np.ndarray:
        """The place of each key's image in this process's view of the store, int64.

        Raises:
            KeyError: an image is not in the store.
        """
        self._refresh()
        return np.array([self._place[key] for key in keys], dtype=np.int64)

    def gather(self, ids: np.ndarray) -> np.ndarray:
        """The images `ids [n]` across packs, `[n, height, width, 3]`."""
        pack = np.searchsorted(self._starts, ids, side="right") - 1
        used = np.unique(pack)
        if len(used) == 1:
            return np.take(self._packs[used[0]], ids - self._starts[used[0]], axis=0)
        images = np.empty((len(ids), self.height, self.width, 3), dtype=np.uint8)
        for number in used:
            here = np.flatnonzero(pack == number)
            images[here] = np.take(self._packs[number], ids[here] - self._starts[number], axis=0)
        return images

    def _write(self, name: str, data: bytes | memoryview) -> None:
        partial = self.folder / f"{name}.partial"
        with open(partial, "wb") as file:
            file.write(data)
        os.replace(partial, self.folder / name)

    def _refresh(self) -> None:
        """Map the packs that have appeared since the last look."""
        names = {entry.name[:-5] for entry in os.scandir(self.folder) if entry.name.endswith(".keys")}
        for name in sorted(names - self._seen):
            raw = (self.folder / f"{name}.keys").read_bytes()
            count = len(raw) // KEY_BYTES
            pixels = self.folder / f"{name}.u8"
            size = pixels.stat().st_size if pixels.exists() else -1
            if count == 0 or len(raw) % KEY_BYTES or size != count * self.height * self.width * 3:
                raise DataError(
                    f"this pack of decoded images is damaged; delete {name}.u8 and {name}.keys in "
                    f"{self.folder} and run again: the images are decoded anew",
                    file=str(pixels),
                )
            shape = (count, self.height, self.width, 3)
            self._packs.append(np.memmap(pixels, dtype=np.uint8, mode="r", shape=shape))
            for i in range(count):
                key = raw[i * KEY_BYTES : (i + 1) * KEY_BYTES]
                self._place.setdefault(key, self._starts[-1] + i)
            self._starts.append(self._starts[-1] + count)
            self._seen.add(name)


@dataclass(frozen=True)
class StoreItems:
    """Chosen images of a store as the items of one input; nothing is read before `take`."""

    store: ImageStore
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    def take(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """`{"pixels": [n, height, width, 3] uint8}`."""
        return {"pixels": self.store.gather(self.places[ids])}

    def lengths(self) -> np.ndarray | None:
        return None

    def item_bytes(self) -> float:
        return self.store.height * self.store.width * 3

    def view(self, keys: list[bytes]) -> StoreItems:
        """Other images of the same store; see `writer.Stored`."""
        return self.store.open(keys)
