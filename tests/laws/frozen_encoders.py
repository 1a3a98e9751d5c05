"""Networks with frozen encoder layers for the laws of features, and a count of the items that these layers encode."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from laws.checkpoints import checkpoint
from laws.samples import Columns, experiment, prepare, sample, table_of
from polymodal.core.progress import Progress
from polymodal.core.registry import components
from polymodal.data.store.items import PreparedInput
from polymodal.model.make_network import make_network
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.encoders.pretrained import PretrainedEncoder
from polymodal.nn.network import Network
from polymodal.preparation.feature_cache import FeatureItems, FeatureSettings, encode_frozen_input
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.recipe.data import LimitOptions
from polymodal.recipe.training import FeatureCacheOptions

WITHIN = 1e-5
ROWS = 9
WITH_FROZEN_PREFIX = {
    name: one for name, one in components("encoder").items() if one.frozen_prefix is not Encoder.frozen_prefix
}
#: Options of pretrained encoders under which some layers are frozen.
WAYS: list[dict[str, Any]] = [
    {},
    {"max_tokens": 2},
    {"max_tokens": None},
    {"fine_tuning": "last", "num_layers": 1},
    {"fine_tuning": "last", "num_layers": 2, "max_tokens": None},
    {"fine_tuning": "lora", "num_layers": 1},
]
FP32 = FeatureCacheOptions(dtype="fp32")
AUGMENTED = FeatureCacheOptions(dtype="fp32", augmented_copies=3)


def cases() -> list[tuple[str, dict[str, Any]]]:
    """Every encoder with frozen layers, under each of these options."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name, encoder in WITH_FROZEN_PREFIX.items():
        if issubclass(encoder, PretrainedEncoder):
            found += [(name, way) for way in WAYS]
        elif encoder.modality == "time_series":
            found.append((name, {"num_features": 84}))
        else:
            frames = {"name": "pretrained_image", "checkpoint": checkpoint("image")}
            found += [(name, {"frame_encoder": frames, "temporal": way}) for way in ("mean", "lstm", "transformer")]
    return found


def spec_of(name: str, **options: Any) -> dict[str, Any]:
    """An input of sample data of the encoder's modality."""
    modality = WITH_FROZEN_PREFIX[name].modality
    own = "frame_encoder" in options or "checkpoint" in options or modality == "time_series"
    model = {} if own else {"checkpoint": checkpoint(modality)}
    exact = {"normalization": "none"} if modality == "time_series" else {}  # fitted statistics depend on the row order
    prepared = {"name": modality, **exact, **options.pop("modality", {})}
    columns = list(sample("modality", modality, rows=ROWS))
    return {"modality": prepared, "columns": columns, "encoder": {"name": name, **model, **options}}


def table_for(name: str) -> Columns:
    return sample("modality", WITH_FROZEN_PREFIX[name].modality, rows=ROWS) | sample("task", "regression", rows=ROWS)


def recipe_of(name: str, **options: Any) -> dict[str, Any]:
    return {"inputs": {"x": spec_of(name, **options)}, "outputs": {"target": "regression"}}


def built(name: str, **options: Any) -> tuple[Preparation, PreparedTable, Network, Encoder]:
    """The network in evaluation mode, with the checkpoint's weights."""
    preparation, prepared = prepare(table_for(name), **recipe_of(name, **options))
    torch.manual_seed(0)
    network = make_network(preparation.recipe, preparation, pretrained=True).eval()
    return preparation, prepared, network, network.encoders()["x"]


def features_of(
    encoder: Encoder,
    preparation: Preparation,
    source: PreparedInput,
    folder: Path | None,
    options: FeatureCacheOptions = FP32,
) -> FeatureItems:
    modality = preparation.modalities["x"]
    settings, copies = FeatureSettings(options, LimitOptions()), modality.has_augmentation and options is AUGMENTED
    found = encode_frozen_input(encoder, modality, source, settings, folder=folder, augmented_copies=copies)
    assert found is not None
    assert isinstance(found.items, FeatureItems)
    return found.items


class EncodeCounter:
    """Counts the items that run through frozen layers, by the class of the encoder."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.items: Counter[str] = Counter()
        self.within: set[int] = set()
        for encoder in WITH_FROZEN_PREFIX.values():
            owner: Any = next(one for one in encoder.__mro__ if "encode_frozen" in vars(one))
            if not getattr(owner.encode_frozen, "counted", False):
                patch.setattr(owner, "encode_frozen", self._counting(owner.encode_frozen))

    def _counting(self, encode_frozen: Any) -> Any:
        def counting(encoder: Encoder, data: dict[str, Tensor]) -> dict[str, Tensor]:
            if id(encoder) in self.within:  # a call of the parent class
                inner: dict[str, Tensor] = encode_frozen(encoder, data)
                return inner
            self.items[type(encoder).__name__] += len(next(iter(data.values())))
            self.within.add(id(encoder))
            found: dict[str, Tensor] = encode_frozen(encoder, data)
            self.within.remove(id(encoder))
            return found

        counting.counted = True  # type: ignore[attr-defined]
        return counting

    def taken(self, *names: str) -> int:
        """The number of items of these encoders since the last call."""
        found = sum(self.items[WITH_FROZEN_PREFIX[name].__name__] for name in names)
        self.items.clear()
        return found


def encode(columns: Columns, cache: Path, **recipe: Any) -> None:
    """Encode the frozen layers of the inputs, as a run does before it trains."""
    table = table_of(columns)
    prepared = experiment({"train": table, "validation": table}, cache / "prepared", **{"seed": 0, **recipe})
    prepared.features.folder = cache
    torch.manual_seed(prepared.recipe.seed)
    network = make_network(prepared.recipe, prepared.preparation, pretrained=True)
    prepared.feature_splits(network, Progress(False))


def distinct(cells: list[Any]) -> int:
    """The number of different items."""
    kept = [cell for cell in cells if cell is not None]
    return len({cell.tobytes() if hasattr(cell, "tobytes") else str(cell) for cell in kept})
