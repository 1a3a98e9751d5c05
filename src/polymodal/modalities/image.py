"""Images."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image as Pillow
from pydantic import Field
from torch import Tensor

from polymodal.data.block import Block
from polymodal.data.media.image import SUFFIXES, decode_image, image_size
from polymodal.data.media.source import MediaError, read_bytes
from polymodal.data.prepared import FixedItems, Items, Prepared
from polymodal.data.sample import ColumnSample, Guess
from polymodal.data.store import ImageStore, content_key
from polymodal.modalities import augment
from polymodal.modalities.base import Modality, ModalityOptions
from polymodal.recipe.data import LimitOptions
from polymodal.recipe.options import Sized, sized
from polymodal.registry import register

SIDES = (32, 64, 96, 128, 160, 192, 224)
# Changes whenever the same options would give other pixels, so that older stores are left alone.
PREPARATION = "rgb8, bilinear, 1"
# Cells read before their images are decoded and stored; bounds the memory that encoded files take.
CHUNK = 256
# Bytes of decoded pixels held before they go to the store: few large packs are read faster than many small.
PACK = 256 * 2**20
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")


@register
class Image(Modality):
    """Images as square 8-bit RGB pixels.

    A cell is a path below the table's folder, encoded bytes, a `data:` address, a record of `bytes` and
    `path`, a PIL image or an array (see `data.media`). Each distinct image is decoded once, and with a
    store never again.

    Prepared: `pixels [items, side, side, 3]` uint8; collated: `pixels [items, 3, side, side]`, the same
    memory seen channels-first, as convolutions want it. Items are distinct by content, not by path.
    """

    class Options(ModalityOptions, Sized):
        name: Literal["image"] = "image"
        pixels: int | None = Field(default=None, ge=32, le=1_024)
        """Height and width that images are brought to. Silent: the largest of 32, 64, 96, 128, 160, 192 and
        224 that is not above `max_pixels` nor above the shorter side of half the images of a sample."""
        max_pixels: int = sized(64, 128, 224, ge=32, le=1_024)
        """Upper bound of the side that is chosen while `pixels` is silent."""
        fit: Literal["crop", "pad", "stretch"] = "crop"
        """How an oblong image becomes a square: cut off the ends, add black bars, or distort."""
        shift: float = Field(default=0.06, ge=0, le=0.5)
        """In training: move images by up to this share of their side. 0: never."""
        flip: bool = False
        """In training: mirror half of the images. Only where left and right mean the same."""
        brightness: float = Field(default=0.0, ge=0, le=1)
        """In training: make images brighter or darker by up to this share."""
        contrast: float = Field(default=0.0, ge=0, le=1)
        """In training: raise or lower the contrast by up to this share."""

    default_encoder = "resnet"
    options: Options

    def __init__(self, options: Options, *, columns: list[str]) -> None:
        super().__init__(options, columns=columns)
        self.column = columns[0]
        self.side = options.pixels or options.max_pixels
        self._stores: dict[Path, ImageStore] = {}

    @classmethod
    def recognise(cls, sample: ColumnSample) -> Guess | None:
        values = [value for value in sample.values if not _is_missing(value)]
        if not values:
            return None
        share = sum(map(_looks_like_image, values)) / len(values)
        if share < 0.9:
            return None
        return Guess(0.97, f"image {'paths' if isinstance(values[0], str) else 'data'} in {share:.0%} of the rows")

    @classmethod
    def resolve(cls, options: Options, samples: list[ColumnSample]) -> Options:
        """Fill `pixels` from the headers of up to 200 sampled images; those that cannot be read do not
        count.
        """
        if options.pixels is not None:
            return options
        sides = []
        for sample in samples:
            for cell in sample.values[:: max(1, len(sample.values) // 200)]:
                try:
                    sides.append(min(_size(cell, sample.root)))
                except MediaError:
                    continue
        bound = min(options.max_pixels, float(np.median(sides)) if sides else options.max_pixels)
        return options.model_copy(update={"pixels": max([SIDES[0], *(side for side in SIDES if side <= bound)])})

    def fit(self, blocks: Iterable[Block]) -> None:
        """Images have nothing to learn from the training rows."""

    def prepare(self, block: Block) -> Prepared:
        store = self._store(block.cache)
        positions: dict[Any, list[int]] = {}
        cells: dict[Any, Any] = {}
        for position, cell in enumerate(block.cells(self.column)):
            if not _is_missing(cell):
                name = _identity(cell)
                cells.setdefault(name, cell)
                positions.setdefault(name, []).append(position)
        index = np.full(len(block), -1, np.int64)
        place: dict[bytes, int] = {}
        pixels: dict[bytes, np.ndarray] = {}
        faults: list[tuple[int, str, str | None]] = []
        names = list(cells)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, len(names), CHUNK):
                chunk = names[start : start + CHUNK]
                found = self._load([cells[name] for name in chunk], block, store, pixels, pool)
                for name, result in zip(chunk, found, strict=True):
                    if isinstance(result, bytes):
                        index[positions[name]] = place.setdefault(result, len(place))
                    else:
                        faults += [(position, str(result), _file(cells[name])) for position in positions[name]]
                if store is not None and len(pixels) * 3 * self.side**2 >= PACK:
                    _move(pixels, store)
        for position, reason, file in sorted(faults):
            block.fault(position, self.column, reason, file)
        keys = list(place)
        items: Items
        if store is not None:
            _move(pixels, store)
            items = store.open(keys)
        else:
            arrays = [pixels[key] for key in keys]
            items = FixedItems({"pixels": np.stack(arrays) if arrays else self._none()})
        return Prepared(index, items, keys)

    def _store(self, cache: Path | None) -> ImageStore | None:
        """The store in `cache`, opened once: opening reads the keys of everything that is in it."""
        if cache is None:
            return None
        if cache not in self._stores:
            self._stores[cache] = ImageStore(cache, self.side, self.side, f"{PREPARATION}, {self.options.fit}")
        return self._stores[cache]

    def _load(
        self,
        cells: list[Any],
        block: Block,
        store: ImageStore | None,
        pixels: dict[bytes, np.ndarray],
        pool: ThreadPoolExecutor,
    ) -> list[bytes | MediaError]:
        """The content key of each cell, or why it cannot be used; images not known yet go into `pixels`."""
        apply = map if len(cells) < 4 else pool.map  # threads cost more than they save on a few
        sources = list(apply(lambda cell: _caught(_read, cell, block.root, block.limits), cells))
        first: dict[bytes, Any] = {}
        for source in sources:
            if not isinstance(source, MediaError):
                first.setdefault(*source)
        stored = store.known(list(first)) if store is not None else np.zeros(len(first), bool)
        have = {key for key, known in zip(first, stored, strict=True) if known or key in pixels}
        first = {key: source for key, source in first.items() if key not in have}
        decoded = apply(lambda source: _caught(self._decode, source, block.limits), first.values())
        fresh = dict(zip(first, decoded, strict=True))
        failed = {key: image for key, image in fresh.items() if isinstance(image, MediaError)}
        pixels.update((key, image) for key, image in fresh.items() if key not in failed)
        return [source if isinstance(source, MediaError) else failed.get(source[0], source[0]) for source in sources]

    def _decode(self, source: bytes | Pillow.Image, limits: LimitOptions) -> np.ndarray:
        """Pixels `[side, side, 3]` of one image."""
        image = source
        if not isinstance(image, Pillow.Image):
            image = decode_image(image, limits, (self.side, self.side))
        return square(image, self.side, self.options.fit)

    def _none(self) -> np.ndarray:
        return np.zeros((0, self.side, self.side, 3), np.uint8)

    def collate(self, items: dict[str, np.ndarray]) -> dict[str, Tensor]:
        return {"pixels": torch.from_numpy(items["pixels"]).permute(0, 3, 1, 2)}

    def augment(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        pixels, chosen = data["pixels"], self.options
        if chosen.shift:
            pixels = augment.shift(pixels, chosen.shift)
        if chosen.flip:
            pixels = augment.flip(pixels)
        if chosen.brightness:
            pixels = augment.brightness(pixels, chosen.brightness)
        if chosen.contrast:
            pixels = augment.contrast(pixels, chosen.contrast)
        return {"pixels": pixels}

    def shape(self) -> dict[str, Any]:
        """`height`, `width` and `channels` of an image."""
        return {"height": self.side, "width": self.side, "channels": 3}

    def save(self, folder: Path) -> dict[str, Any]:
        return {"side": self.side}

    def load(self, folder: Path, state: dict[str, Any]) -> None:
        self.side = state["side"]

    def picture(self, item: dict[str, np.ndarray]) -> Pillow.Image:
        return Pillow.fromarray(np.ascontiguousarray(item["pixels"]))

    def show(self) -> str:
        return f"images of {self.side} x {self.side} pixels ({self.options.fit})"


def square(image: Pillow.Image, side: int, fit: str) -> np.ndarray:
    """An RGB image as pixels `[side, side, 3]` uint8, resized with an antialiasing bilinear filter."""
    width, height = image.size
    bilinear = Pillow.Resampling.BILINEAR
    if fit == "pad":
        scale = side / max(width, height)
        small = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), bilinear, reducing_gap=2.0)
        canvas = Pillow.new("RGB", (side, side))
        canvas.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
        return np.array(canvas)
    box = (0.0, 0.0, float(width), float(height))
    if fit == "crop":
        short = min(width, height)
        left, top = (width - short) / 2, (height - short) / 2
        box = (left, top, left + short, top + short)
    return np.array(image.resize((side, side), bilinear, box=box, reducing_gap=2.0))


def _move(pixels: dict[bytes, np.ndarray], store: ImageStore) -> None:
    """Add `pixels` to the store and empty them."""
    if pixels:
        store.add(list(pixels), np.stack(list(pixels.values())))
        pixels.clear()


def _caught(function: Any, *arguments: Any) -> Any:
    """The function's result, or the reason why a cell cannot be used, as a value that a thread can hand
    back.
    """
    try:
        return function(*arguments)
    except MediaError as error:
        return error


def _read(cell: Any, root: Path | None, limits: LimitOptions) -> tuple[bytes, bytes | Pillow.Image]:
    """The content key of a cell and what to decode: encoded bytes, or the image itself."""
    if isinstance(cell, Pillow.Image | np.ndarray):
        image = decode_image(cell, limits)
        return content_key(b"%d x %d " % image.size + image.tobytes()), image
    data, _ = read_bytes(cell, root, limits)
    return content_key(data), data


def _size(cell: Any, root: Path | None) -> tuple[int, int]:
    limits = LimitOptions()
    if isinstance(cell, Pillow.Image | np.ndarray):
        return decode_image(cell, limits).size
    return image_size(read_bytes(cell, root, limits)[0])


def _is_missing(cell: Any) -> bool:
    if isinstance(cell, str):
        return not cell.strip()
    if isinstance(cell, dict):
        return cell.get("bytes") is None and cell.get("path") is None
    return cell is None or (isinstance(cell, float) and np.isnan(cell))


def _identity(cell: Any) -> Any:
    """What tells cells apart before they are read: two cells of one identity are the same image."""
    if isinstance(cell, dict):
        inline = cell.get("bytes")
        return ("record", inline if inline is not None else cell.get("path"))
    return cell if isinstance(cell, str | bytes | PurePath) else ("object", id(cell))


def _file(cell: Any) -> str | None:
    if isinstance(cell, dict):
        cell = cell.get("path")
    if isinstance(cell, PurePath):
        return str(cell)
    return cell if isinstance(cell, str) and cell[:5].lower() != "data:" else None


def _looks_like_image(cell: Any) -> bool:
    if isinstance(cell, dict):
        inline = cell.get("bytes")
        return _looks_like_image(inline if inline is not None else cell.get("path"))
    if isinstance(cell, str | PurePath):
        text = str(cell)
        return text[:11].lower() == "data:image/" or PurePath(text).suffix.lower() in SUFFIXES
    if isinstance(cell, bytes):
        return cell.startswith(_MAGIC) or (cell[:4] == b"RIFF" and cell[8:12] == b"WEBP")
    if isinstance(cell, np.ndarray):
        return (cell.ndim == 3 and cell.shape[2] in (1, 3, 4)) or (cell.ndim == 2 and cell.dtype == np.uint8)
    return isinstance(cell, Pillow.Image)
