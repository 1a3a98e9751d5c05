"""The feature cache: the frozen lower layers of an encoder run once for each item.

Epochs, folds, trials and runs share the features. The cache key covers the content of the item, all options that change
its preparation, the frozen layers with their weights, and the dtype. A change of one byte, weight or option gives
another key (tests/laws/test_cache_identity.py).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import xxhash
from torch import Tensor

from polymodal.core.errors import RecipeError
from polymodal.core.progress import Progress
from polymodal.data.store.decode_buffer import Item, Layout
from polymodal.data.store.items import Items, PreparedInput, RaggedItems, SelectedItems, Store
from polymodal.data.store.store import MediaStore, content_key
from polymodal.modalities.base import Modality
from polymodal.nn.encoders.base import Encoder, FrozenPrefix
from polymodal.nn.network import Network
from polymodal.recipe.data import LimitOptions
from polymodal.recipe.recipe import Recipe
from polymodal.recipe.training import FeatureCacheOptions
from polymodal.runtime.compute import CPU, ComputeConfig, network_device
from polymodal.runtime.random_state import isolated_random_state
from polymodal.runtime.thread_tuner import ThreadTuner

#: Maximum number of items, and bytes of prepared items, in one batch of an encoder.
BATCH_ITEMS = 64
MAX_BATCH_BYTES = 16 * 2**20
#: Other devices than the CPU get batches of so many times the items.
DEVICE_BATCHES = 8
#: Features are written to the store after this many bytes or seconds. An interrupted run loses at most this work.
FLUSH_BYTES = 64 * 2**20
FLUSH_SECONDS = 30.0
#: Version of the features. A higher version invalidates all stored features.
VERSION = 1

Advance = Callable[[int], None]


@dataclass(frozen=True)
class FeatureItems:
    """Features of the items of one input.

    original: features of the items
    augmented: features of augmented items, `augmented_copies` for each item, or None
    dtype: dtype of `hidden`; bf16 is stored as uint16
    per_item_fields: fields with one value per item; in the arrays, each time step repeats the value
    frozen_layers: `feature_hash` of the layers that computed features which other runs have stored; "" for own ones
    """

    original: Items
    augmented: Items | None
    augmented_copies: int
    dtype: str
    per_item_fields: tuple[str, ...] = ()
    frozen_layers: str = ""

    def __len__(self) -> int:
        return len(self.original)

    def take(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """The stored arrays of items."""
        return self.original.take(ids)

    def lengths(self) -> np.ndarray | None:
        """The length of each item; None if all are equal."""
        lengths = self.original.lengths()
        return None if lengths is None or (lengths == lengths[:1]).all() else lengths

    def item_bytes(self) -> float:
        """Mean bytes of an item."""
        return self.original.item_bytes()

    def select(self, ids: np.ndarray) -> FeatureItems:
        """The features of some items, without augmented copies."""
        return replace(self, original=SelectedItems(self.original, ids), augmented=None, augmented_copies=0)

    def tensors(self, ids: np.ndarray, *, augment: bool = False) -> dict[str, Tensor]:
        """The input of the trainable layers: `hidden [n, max length, width]` fp32, `length [n]`, and the other fields.

        augment: use one random augmented copy of each item, drawn from torch's global generator
        """
        if augment and self.augmented is not None:
            drawn = torch.randint(self.augmented_copies, (len(ids),)).numpy()
            stored = self.augmented.take(ids * self.augmented_copies + drawn)
        else:
            stored = self.original.take(ids)
        tensors = {name: torch.from_numpy(array) for name, array in stored.items()}
        if self.dtype == "bf16":
            tensors["hidden"] = tensors["hidden"].view(torch.bfloat16).float()
        return tensors | {name: tensors[name][:, 0] for name in self.per_item_fields}


def feature_dtype(options: FeatureCacheOptions, device: str = CPU) -> str:
    """The dtype of frozen layers and stored features; bf16 only if the device has bf16 instructions."""
    return ComputeConfig(options.dtype, device=device).supported().precision


def stored_dtype(inputs: Mapping[str, PreparedInput]) -> str:
    """The dtype of the cached features among prepared inputs; empty if there are none."""
    return next((one.items.dtype for one in inputs.values() if isinstance(one.items, FeatureItems)), "")


def mean_features(items: FeatureItems) -> np.ndarray:
    """The mean over the time steps of each item, `[items, width]` float32."""
    found = []
    for start in range(0, len(items), 256):
        data = items.tensors(np.arange(start, min(start + 256, len(items))))
        real = torch.arange(data["hidden"].shape[1]) < data["length"].unsqueeze(1)
        weight = real.unsqueeze(-1).float()
        found.append(((data["hidden"] * weight).sum(1) / weight.sum(1).clamp_min(1)).numpy())
    return np.concatenate(found) if found else np.zeros((0, 0), np.float32)


@dataclass(frozen=True)
class FeatureSettings:
    """Options of feature computation.

    limits: limits of the media, a part of the cache key
    threads: intra-op threads; None measures in the first batches whether one thread or all threads are faster
    """

    options: FeatureCacheOptions
    limits: LimitOptions
    threads: int | None = None

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> FeatureSettings:
        """The settings of a recipe."""
        threads = recipe.training.num_threads
        return cls(recipe.training.feature_cache, recipe.data.limits, threads if isinstance(threads, int) else None)


class FeatureCache:
    """Features that are open in this process, backed by stores on disk that all runs share.

    The key of an open entry covers the content of the items, the frozen layers, and whether there are augmented copies.

    folder: folder of the stores; None keeps features in memory
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._open: dict[tuple[str, ...], FeatureItems] = {}

    def encode_tables(
        self,
        network: Network,
        modalities: Mapping[str, Modality],
        tables: Sequence[Mapping[str, PreparedInput]],
        recipe: Recipe,
        progress: Progress,
    ) -> list[dict[str, PreparedInput]]:
        """The prepared inputs of each of `tables`, with cached features instead of items for every input whose encoder
        has frozen layers.

        The inputs do not change if the recipe disables the feature cache. Inputs of the first table, the training rows,
        also get augmented copies.

        Inputs that are features already do not change.

        Raises:
            DataError: a store is damaged.
            RecipeError: features of other runs are those of other frozen layers.
        """
        for inputs in tables:
            _check_frozen_layers(network, inputs)
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
                    changed[name] = self._input(
                        name, encoder, modalities[name], source, recipe, augmented_copies, progress
                    )
            found.append(changed)
        return found

    def clear(self) -> None:
        """Close all open entries. Stores on disk are kept."""
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
        prefix, identity = encoder.frozen_prefix(), modality.fingerprint(recipe.data.limits)
        if isinstance(source.items, FeatureItems) or prefix is None or identity is None or source.content_keys is None:
            return source
        contents = xxhash.xxh3_128_hexdigest(b"".join(source.content_keys))
        key = (identity, prefix.fingerprint, contents, str(augmented_copies))
        if key not in self._open:
            settings = FeatureSettings.from_recipe(recipe)
            with progress.task(f"encode {name}", len(source.items)) as advance:
                requests = encode_frozen_input(
                    encoder,
                    modality,
                    source,
                    settings,
                    folder=self.folder,
                    augmented_copies=augmented_copies,
                    advance=advance,
                )
            if requests is None or not isinstance(requests.items, FeatureItems):
                return source
            self._open[key] = requests.items
        return PreparedInput(source.index, self._open[key], source.content_keys)


def feature_hash(encoder: Encoder, dtype: str) -> str:
    """A hash of the frozen layers of an encoder and of the dtype of their features; "" if it has none."""
    prefix = encoder.frozen_prefix()
    return "" if prefix is None else xxhash.xxh3_128_hexdigest(f"{VERSION}\n{prefix.fingerprint}\n{dtype}".encode())


def _check_frozen_layers(network: Network, inputs: Mapping[str, PreparedInput]) -> None:
    """Check that the features of other runs are those of the frozen layers of a network.

    Raises:
        RecipeError: they are not.
    """
    for name, encoder in network.encoders().items():
        items = inputs[name].items if name in inputs else None
        if isinstance(items, FeatureItems) and items.frozen_layers not in ("", feature_hash(encoder, items.dtype)):
            raise RecipeError(
                f"inputs.{name}.encoder",
                "its frozen layers are not those that computed the features in the store of prepared rows. Prepare the "
                "table with this recipe, or use the recipe of the store",
            )


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
    """An input with the features of frozen layers instead of items; None if the encoder has no frozen layers, or the
    items have no content hash.

    folder: folder of the stores; None keeps features in memory
    augmented_copies: also compute features of augmented items, if the modality has augmentations
    advance: called with the number of items computed since the last call

    Raises:
        DataError: the store is damaged.
    """
    options = settings.options
    prefix, identity = encoder.frozen_prefix(), modality.fingerprint(settings.limits)
    if prefix is None or identity is None or source.content_keys is None:
        return None
    dtype = feature_dtype(options, network_device(encoder))
    run = _FeatureRun(encoder, modality, source.items, prefix, dtype, advance, ThreadTuner(settings.threads))
    store = None
    if folder is not None:
        description = f"{VERSION}\n{identity}\n{prefix.fingerprint}\n{run.dtype}"
        store = MediaStore(folder, run.layout, description, True, kind="features")
    augmented: Items | None = None
    count = options.augmented_copies if augmented_copies and modality.has_augmentation else 0
    original = run.load_or_compute(
        store, source.content_keys, [(item, None) for item in range(len(source.content_keys))]
    )
    if count:
        requests = [(item, copy) for item in range(len(source.content_keys)) for copy in range(count)]
        changes = modality.options.model_dump_json(exclude={"checkpoint"})
        keys = [
            content_key(source.content_keys[item] + f" view {copy} of {changes}".encode()) for item, copy in requests
        ]
        augmented = run.load_or_compute(store, keys, requests)
    return PreparedInput(
        source.index, FeatureItems(original, augmented, count, run.dtype, tuple(prefix.per_item)), source.content_keys
    )


@dataclass
class _FeatureRun:
    """The computation of the features of one input."""

    encoder: Encoder
    modality: Modality
    items: Items
    prefix: FrozenPrefix
    dtype: str
    advance: Advance
    thread_tuner: ThreadTuner

    @property
    def layout(self) -> Layout:
        hidden = ("uint16" if self.dtype == "bf16" else "float32", (self.prefix.width,))
        return {"hidden": hidden, **self.prefix.per_step, **self.prefix.per_item}

    def load_or_compute(
        self, store: Store | None, keys: list[bytes], requests: Sequence[tuple[int, int | None]]
    ) -> Items:
        """The features of `requests` (item, index of the augmented copy or None) by their `keys`. Features that are not
        stored are computed."""
        unknown = list(range(len(keys)))
        if store is not None and keys:
            unknown = np.flatnonzero(~store.contains(keys)).tolist()
        computed: dict[bytes, Item] = {}
        pending_bytes, since = 0, time.monotonic()
        for positions in self._batches(unknown, requests):
            with self.thread_tuner.batch(len(positions)):
                features = self._features([requests[position] for position in positions])
            for position, feature in zip(positions, features, strict=True):
                computed[keys[position]] = feature
                pending_bytes += sum(array.nbytes for array in feature.values())
            self.advance(len(positions))
            if store is not None and (pending_bytes >= FLUSH_BYTES or time.monotonic() - since >= FLUSH_SECONDS):
                store.add(list(computed), list(computed.values()))
                computed, pending_bytes, since = {}, 0, time.monotonic()
        if store is not None:
            if computed:
                store.add(list(computed), list(computed.values()))
            return store.open(keys)
        return _in_memory([computed[key] for key in keys], self.layout)

    def _batches(self, positions: list[int], requests: Sequence[tuple[int, int | None]]) -> Iterator[list[int]]:
        """`positions` in batches of items of similar length, for little padding. The longest come first: the memory of
        a batch then serves the later ones."""
        lengths = self.items.lengths()
        if lengths is not None:
            positions = sorted(positions, key=lambda position: -int(lengths[requests[position][0]]))
        factor = 1 if torch.device(network_device(self.encoder)).type == CPU else DEVICE_BATCHES
        start = 0
        while start < len(positions):
            longest = None if lengths is None else int(lengths[requests[positions[start]][0]])
            item = max(self.items.item_bytes(), self.encoder.item_bytes(longest), 1.0)
            size = int(np.clip(MAX_BATCH_BYTES / item, 1, BATCH_ITEMS)) * factor
            yield positions[start : start + size]
            start += size

    def _features(self, requests: Sequence[tuple[int, int | None]]) -> list[Item]:
        if requests[0][1] is None:
            return self._encode(self.modality.collate(self.items.take(np.array([item for item, _ in requests]))))
        changed = [self._augmented_item(item, copy or 0) for item, copy in requests]
        if len({str([tensor.shape for tensor in one.values()]) for one in changed}) == 1:
            changed = [{name: torch.cat([one[name] for one in changed]) for name in changed[0]}]
        return [feature for data in changed for feature in self._encode(data)]

    def _augmented_item(self, item: int, copy: int) -> dict[str, Tensor]:
        """One augmented item. The augmentation depends only on the content of the item and the index of the copy."""
        stored = self.items.take(np.array([item]))
        content = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in stored.values()))
        content.update(copy.to_bytes(4, "little"))
        with isolated_random_state(int.from_bytes(content.digest()[:8], "little") % 2**63):
            return self.modality.augment(self.modality.collate(stored))

    def _encode(self, data: dict[str, Tensor]) -> list[Item]:
        training = self.encoder.training
        self.encoder.eval()
        device = network_device(self.encoder)
        data = {name: tensor.to(device) for name, tensor in data.items()}
        kind = torch.device(device).type
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=self.dtype == "bf16"):
            found = {name: tensor.cpu() for name, tensor in self.encoder.encode_frozen(data).items()}
        self.encoder.train(training)
        longest = found["hidden"].shape[1]
        for name in self.prefix.per_item:
            found[name] = found[name].unsqueeze(1).expand(-1, longest, *found[name].shape[1:])
        if self.dtype == "bf16":
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
