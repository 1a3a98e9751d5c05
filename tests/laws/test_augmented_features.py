"""Cached features of augmented copies depend on the item and the augmentation only, and only training uses them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from laws.frozen_encoders import (
    AUGMENTED,
    WITHIN,
    EncodeCounter,
    built,
    cases,
    encode,
    features_of,
    recipe_of,
    table_for,
)
from polymodal.data.store.items import PreparedInput
from polymodal.nn.encoders.base import Encoder
from polymodal.preparation.feature_cache import FeatureItems
from polymodal.preparation.preparation import Preparation, PreparedTable

AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "pretrained_image": {"horizontal_flip": True, "translate": 0.2, "brightness": 0.3},
    "pretrained_audio": {"gain_db": 6.0, "time_shift": 0.2},
    "pretrained_video": {"horizontal_flip": True, "translate": 0.2},
    "frame_encoder": {"horizontal_flip": True, "translate": 0.2},
}


@pytest.fixture
def encode_counter(monkeypatch: pytest.MonkeyPatch) -> EncodeCounter:
    return EncodeCounter(monkeypatch)


def augmenting(name: str, **changes: Any) -> tuple[Preparation, PreparedTable, Encoder]:
    options = next(options for one, options in cases() if one == name)
    preparation, prepared, _, encoder = built(name, **options, modality=changes or AUGMENTATIONS[name])
    assert preparation.modalities["x"].has_augmentation
    return preparation, prepared, encoder


def copies_of(features: FeatureItems, item: int) -> Tensor:
    """The augmented copies of one item, `[copies, ...]`."""
    assert features.augmented is not None
    ids = item * features.augmented_copies + np.arange(features.augmented_copies)
    return torch.from_numpy(features.augmented.take(ids)["hidden"])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmented_copies_differ_from_each_other_and_from_the_item(name: str, tmp_path: Path) -> None:
    preparation, prepared, encoder = augmenting(name)
    features = features_of(encoder, preparation, prepared.inputs["x"], tmp_path, AUGMENTED)
    for item in range(len(features)):
        plain = torch.from_numpy(features.original.take(np.array([item]))["hidden"])
        seen = [plain[0], *copies_of(features, item)]
        assert all(not torch.equal(a, b) for index, a in enumerate(seen) for b in seen[:index])
    assert all(
        not torch.equal(copies_of(features, 0)[0], copies_of(features, 1)[k]) for k in range(AUGMENTED.augmented_copies)
    )


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmented_copies_do_not_depend_on_other_items_or_order(name: str, tmp_path: Path) -> None:
    preparation, prepared, encoder = augmenting(name)
    source = prepared.inputs["x"]
    assert source.content_keys is not None
    torch.manual_seed(1)
    before = torch.get_rng_state()
    features = features_of(encoder, preparation, source, tmp_path / "all", AUGMENTED)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    order = [2, 0]
    taken = SelectedItems(source.items, np.array(order))
    alone = features_of(
        encoder,
        preparation,
        PreparedInput(np.arange(2), taken, [source.content_keys[one] for one in order]),
        tmp_path / "two",
        AUGMENTED,
    )
    for index, item in enumerate(order):
        torch.testing.assert_close(copies_of(alone, index), copies_of(features, item), atol=WITHIN, rtol=0)


class SelectedItems:
    """A selection of the items, in another order."""

    def __init__(self, items: Any, chosen: np.ndarray) -> None:
        self.items, self.chosen = items, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def take(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = self.items.take(self.chosen[ids])
        return found

    def lengths(self) -> np.ndarray | None:
        lengths = self.items.lengths()
        return None if lengths is None else lengths[self.chosen]

    def item_bytes(self) -> float:
        return float(self.items.item_bytes())


def test_other_augmentations_give_other_copies(encode_counter: EncodeCounter, tmp_path: Path) -> None:
    """Another augmentation encodes new copies, not the items. More copies of the same augmentation are added."""
    name = "pretrained_image"
    for augmentation, count, encoded in (
        ({"brightness": 0.3}, 2, (1, 2)),
        ({"brightness": 0.9}, 2, (0, 2)),
        ({"brightness": 0.3}, 2, (0, 0)),
        ({"brightness": 0.3}, 3, (0, 1)),
        ({"horizontal_flip": True, "translate": 0.1}, 1, (0, 1)),
    ):
        columns, recipe = table_for(name), recipe_of(name, modality=augmentation)
        encode(columns, tmp_path, **recipe, training={"feature_cache": {"augmented_copies": count}})
        assert encode_counter.taken(name) == sum(encoded) * 3, (augmentation, count)


def test_training_draws_augmented_copies_and_evaluation_takes_the_item(tmp_path: Path) -> None:
    preparation, prepared, encoder = augmenting("pretrained_image")
    source = prepared.inputs["x"]
    features = features_of(encoder, preparation, source, tmp_path, AUGMENTED)
    cached = PreparedTable(
        {"x": PreparedInput(source.index, features, source.content_keys)},
        prepared.targets,
        prepared.weight,
        prepared.rows,
    )
    rows = np.arange(prepared.rows)
    plain = torch.from_numpy(features.original.take(np.arange(len(features)))["hidden"])
    assert torch.equal(preparation.batch(cached, rows).inputs["x"].data["hidden"], plain)
    seen: Counter[tuple[int, int]] = Counter()
    torch.manual_seed(0)
    for _ in range(40):
        for item, hidden in enumerate(preparation.batch(cached, rows, augment=True).inputs["x"].data["hidden"]):
            (view,) = [k for k, copy in enumerate(copies_of(features, item)) if torch.equal(hidden, copy)]
            seen[item, view] += 1
    assert len(seen) == len(features) * AUGMENTED.augmented_copies
    assert min(seen.values()) >= 4
    drawn = []
    for _ in range(2):
        torch.manual_seed(5)
        drawn.append([preparation.batch(cached, rows, augment=True).inputs["x"].data["hidden"] for _ in range(3)])
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))


def test_no_copies_are_encoded_without_augmentation(encode_counter: EncodeCounter, tmp_path: Path) -> None:
    columns, recipe = table_for("pretrained_image"), recipe_of("pretrained_image")
    encode(columns, tmp_path, **recipe, training={"feature_cache": {"augmented_copies": 5}})
    assert encode_counter.taken("pretrained_image") == 3
