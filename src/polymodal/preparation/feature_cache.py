"""The feature cache: what lies below the lowest trainable layer of an encoder runs once for each item.

Epochs, folds, trials and runs share what was computed. It is found again by the content of the item, everything that
changes its preparation, the settled layers with their weights, and the number format: one changed byte, weight or
option is another feature (law 8).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xxhash
from torch import Tensor

from polymodal.core.progress import Progress
from polymodal.data.store.decode_buffer import Item, Layout
from polymodal.data.store.items import Items, PreparedInput, RaggedItems, Store
from polymodal.data.store.store import MediaStore, content_key
from polymodal.modalities.base import Modality
from polymodal.nn.encoders.base import Encoder, FrozenPrefix
from polymodal.nn.network import Network
from polymodal.recipe.data import LimitOptions
from polymodal.recipe.recipe import Recipe
from polymodal.recipe.training import FeatureOptions
from polymodal.runtime.compute import network_device
from polymodal.runtime.cpu_kernels import supports_bf16
from polymodal.runtime.random_state import isolated_random_state
from polymodal.runtime.thread_tuner import ThreadTuner

#: Items that run through an encoder at once, and bytes of prepared items at most.
BATCH_ITEMS = 64
MAX_BATCH_BYTES = 16 * 2**20
#: Bytes of features, and seconds of work, that are held before they go to the store: an interrupted run loses no more.
FLUSH_BYTES = 64 * 2**20
FLUSH_SECONDS = 30.0
#: Raised when the same layers come to give other features; kept ones are then not found any more.
VERSION = 1

Advance = Callable[[int], None]


@dataclass(frozen=True)
class FeatureItems:
    """Features of the items of one input.

    plain: one for each item; copies: of randomly changed items, `views` for each, or None
    format: of `hidden`; bf16 lies in the arrays as uint16
    whole: fields that are one for an item; in the arrays each of its records repeats them
    """

    original: Items
    augmented: Items | None
    augmented_copies: int
    format: str
    per_item_fields: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.original)

    def take(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        return self.original.take(ids)

    def lengths(self) -> np.ndarray | None:
        lengths = self.original.lengths()
        return None if lengths is None or (lengths == lengths[:1]).all() else lengths

    def item_bytes(self) -> float:
        return self.original.item_bytes()

    def tensors(self, ids: np.ndarray, *, changed: bool = False) -> dict[str, Tensor]:
        """What the encoder goes on from: `hidden [n, longest, width]` fp32, `length [n]`, and the settled fields.

        changed: take one of each item's randomly changed copies, drawn from torch's global generator
        """
        if changed and self.augmented is not None:
            drawn = torch.randint(self.augmented_copies, (len(ids),)).numpy()
            taken = self.augmented.take(ids * self.augmented_copies + drawn)
        else:
            taken = self.original.take(ids)
        tensors = {name: torch.from_numpy(array) for name, array in taken.items()}
        if self.format == "bf16":
            tensors["hidden"] = tensors["hidden"].view(torch.bfloat16).float()
        return tensors | {name: tensors[name][:, 0] for name in self.per_item_fields}


def feature_dtype(options: FeatureOptions) -> str:
    """The format in which settled layers run and are kept: bf16 only where the processor computes in it."""
    return options.dtype if supports_bf16() else "fp32"


def mean_features(items: FeatureItems) -> np.ndarray:
    """The mean over each item's records, `[items, width]` float32."""
    found = []
    for start in range(0, len(items), 256):
        data = items.tensors(np.arange(start, min(start + 256, len(items))))
        real = torch.arange(data["hidden"].shape[1]) < data["length"].unsqueeze(1)
        weight = real.unsqueeze(-1).float()
        found.append(((data["hidden"] * weight).sum(1) / weight.sum(1).clamp_min(1)).numpy())
    return np.concatenate(found) if found else np.zeros((0, 0), np.float32)


@dataclass(frozen=True)
class FeatureSettings:
    """How features are made and kept.

    limits: of the media that they are made of, which are part of what they are found by
    threads: inside one operation; None finds out by the first batches whether one or all of the processors' are faster
    """

    options: FeatureOptions
    limits: LimitOptions
    threads: int | None = None

    @classmethod
    def of(cls, recipe: Recipe) -> FeatureSettings:
        """As a recipe says."""
        threads = recipe.training.num_threads
        return cls(recipe.training.feature_cache, recipe.data.limits, threads if isinstance(threads, int) else None)


class FeatureCache:
    """The features that this process has open, over the stores on the disk that all runs share.

    What is open is found again by what it was made of: the contents of the items, the settled layers, and whether there
    are changed copies.

    folder: of the stores; None computes features and keeps them in memory
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._open: dict[tuple[str, ...], FeatureItems] = {}

    def encoded(
        self,
        network: Network,
        modalities: Mapping[str, Modality],
        tables: Sequence[Mapping[str, PreparedInput]],
        recipe: Recipe,
        progress: Progress,
    ) -> list[dict[str, PreparedInput]]:
        """The prepared inputs of each of `tables` with features in place of the items of every input whose encoder has
        settled layers: what those make of each item is computed once. Where the recipe switches that off, they stay as
        they are. Inputs of the first table, that of the training rows, also have randomly changed copies.

        Raises:
            DataError: a store is damaged.
        """
        if not recipe.training.feature_cache.enabled:
            return [dict(inputs) for inputs in tables]
        raw, first = network.raw_inputs(), tables[0] if tables else {}
        found = []
        for inputs in tables:
            changed = dict(inputs)
            for name, encoder in network.encoders().items():
                source = inputs.get(name)
                if source is not None and name not in raw:
                    augmented_copies = source is first.get(name)
                    changed[name] = self._input(name, encoder, modalities[name], source, recipe, augmented_copies, progress)
            found.append(changed)
        return found

    def clear(self) -> None:
        """Close what is open; stores on the disk stay."""
        self._open.clear()

    def _input(
        self,
        name: str,
        encoder: Encoder,
        modality: Modality,
        source: PreparedInput,
        recipe: Recipe,
        augmented_copies: bool,
        progress: Progress,
    ) -> PreparedInput:
        settled, identity = encoder.frozen_prefix(), modality.identity(recipe.data.limits)
        if settled is None or identity is None or source.keys is None:
            return source
        contents = xxhash.xxh3_128_hexdigest(b"".join(source.keys))
        key = (identity, settled.fingerprint, contents, str(augmented_copies))
        if key not in self._open:
            settings = FeatureSettings.of(recipe)
            with progress.task(f"encode {name}", len(source.items)) as advance:
                made = encode_frozen_input(
                    encoder, modality, source, settings, folder=self.folder, augmented_copies=augmented_copies, advance=advance
                )
            if made is None or not isinstance(made.items, FeatureItems):
                return source
            self._open[key] = made.items
        return PreparedInput(source.index, self._open[key], source.keys)


def encode_frozen_input(
    encoder: Encoder,
    modality: Modality,
    source: PreparedInput,
    settings: FeatureSettings,
    *,
    folder: Path | None,
    augmented_copies: bool = False,
    advance: Advance = lambda done: None,
) -> PreparedInput | None:
    """The features of an input's items in place of the items; None where the encoder settles nothing, or the items are
    not named by their content.

    folder: of the stores; None computes and keeps them in memory
    views: also keep randomly changed copies, where the modality has random changes
    advance: called with the number of items that were computed since the last call

    Raises:
        DataError: the store is damaged.
    """
    options = settings.options
    settled, identity = encoder.frozen_prefix(), modality.identity(settings.limits)
    if settled is None or identity is None or source.keys is None:
        return None
    run = _FeatureRun(encoder, modality, source.items, settled, feature_dtype(options), advance, ThreadTuner(settings.threads))
    store = None
    if folder is not None:
        described = f"{VERSION}\n{identity}\n{settled.fingerprint}\n{run.format}"
        store = MediaStore(folder, run.layout, described, True, kind="features")
    augmented: Items | None = None
    count = options.augmented_copies if augmented_copies and modality.changes else 0
    original = run.kept(store, source.keys, [(item, None) for item in range(len(source.keys))])
    if count:
        made = [(item, view) for item in range(len(source.keys)) for view in range(count)]
        changes = modality.options.model_dump_json(exclude={"checkpoint"})
        keys = [content_key(source.keys[item] + f" view {view} of {changes}".encode()) for item, view in made]
        augmented = run.kept(store, keys, made)
    return PreparedInput(source.index, FeatureItems(original, augmented, count, run.format, tuple(settled.per_item)), source.keys)


@dataclass
class _FeatureRun:
    """One input's items through the settled layers of its encoder."""

    encoder: Encoder
    modality: Modality
    items: Items
    settled: FrozenPrefix
    format: str
    advance: Advance
    pace: ThreadTuner

    @property
    def layout(self) -> Layout:
        hidden = ("uint16" if self.format == "bf16" else "float32", (self.settled.width,))
        return {"hidden": hidden, **self.settled.per_step, **self.settled.per_item}

    def kept(self, store: Store | None, keys: list[bytes], made: Sequence[tuple[int, int | None]]) -> Items:
        """The features named `keys` of `made` (item, number of the changed copy or None), computed where not known."""
        unknown = list(range(len(keys)))
        if store is not None and keys:
            unknown = np.flatnonzero(~store.contains(keys)).tolist()
        fresh: dict[bytes, Item] = {}
        held, since = 0, time.monotonic()
        for places in self._batches(unknown, made):
            with self.pace.batch(len(places)):
                features = self._features([made[place] for place in places])
            for place, feature in zip(places, features, strict=True):
                fresh[keys[place]] = feature
                held += sum(array.nbytes for array in feature.values())
            self.advance(len(places))
            if store is not None and (held >= FLUSH_BYTES or time.monotonic() - since >= FLUSH_SECONDS):
                store.add(list(fresh), list(fresh.values()))
                fresh, held, since = {}, 0, time.monotonic()
        if store is not None:
            if fresh:
                store.add(list(fresh), list(fresh.values()))
            return store.open(keys)
        return _in_memory([fresh[key] for key in keys], self.layout)

    def _batches(self, places: list[int], made: Sequence[tuple[int, int | None]]) -> Iterator[list[int]]:
        """`places` in batches, items of like length together so that little is padded."""
        lengths = self.items.lengths()
        if lengths is not None:
            places = sorted(places, key=lambda place: int(lengths[made[place][0]]))
        size = int(np.clip(MAX_BATCH_BYTES / max(self.items.item_bytes(), 1.0), 1, BATCH_ITEMS))
        for start in range(0, len(places), size):
            yield places[start : start + size]

    def _features(self, made: Sequence[tuple[int, int | None]]) -> list[Item]:
        if made[0][1] is None:
            return self._through(self.modality.collate(self.items.take(np.array([item for item, _ in made]))))
        changed = [self._changed(item, view or 0) for item, view in made]
        if len({str([tensor.shape for tensor in one.values()]) for one in changed}) == 1:
            changed = [{name: torch.cat([one[name] for one in changed]) for name in changed[0]}]
        return [feature for data in changed for feature in self._through(data)]

    def _changed(self, item: int, view: int) -> dict[str, Tensor]:
        """One item, randomly changed: the same for the same item and number, whatever else is computed."""
        taken = self.items.take(np.array([item]))
        content = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in taken.values()))
        content.update(view.to_bytes(4, "little"))
        with isolated_random_state(int.from_bytes(content.digest()[:8], "little") % 2**63):
            return self.modality.augment(self.modality.collate(taken))

    def _through(self, data: dict[str, Tensor]) -> list[Item]:
        training = self.encoder.training
        self.encoder.eval()
        device = network_device(self.encoder)
        data = {name: tensor.to(device) for name, tensor in data.items()}
        kind = torch.device(device).type
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=self.format == "bf16"):
            found = {name: tensor.cpu() for name, tensor in self.encoder.encode_frozen(data).items()}
        self.encoder.train(training)
        longest = found["hidden"].shape[1]
        for name in self.settled.per_item:
            found[name] = found[name].unsqueeze(1).expand(-1, longest, *found[name].shape[1:])
        if self.format == "bf16":
            found["hidden"] = found["hidden"].to(torch.bfloat16).view(torch.uint16)
        arrays = {name: found[name].numpy() for name in self.layout}
        return [
            {name: array[row, :length] for name, array in arrays.items()}
            for row, length in enumerate(found["length"].tolist())
        ]


def _in_memory(features: list[Item], layout: Layout) -> Items:
    starts = np.cumsum([0, *(len(feature["hidden"]) for feature in features)], dtype=np.int64)
    none = {name: np.zeros((0, *shape), dtype) for name, (dtype, shape) in layout.items()}
    arrays = {name: np.concatenate([none[name], *(feature[name] for feature in features)]) for name in none}
    return RaggedItems(arrays, starts)
