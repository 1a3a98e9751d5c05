"""The output of cached features is the output of the items themselves, to the rounding, for every encoder with frozen
layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from laws.frozen_encoders import (
    FP32,
    ROWS,
    WITH_FROZEN_PREFIX,
    WITHIN,
    EncodeCounter,
    built,
    cases,
    distinct,
    features_of,
    recipe_of,
    table_for,
)
from laws.samples import light, network_of, prepare, sample, small, whole_batch
from polymodal.core.registry import components
from polymodal.data.store.items import PreparedInput
from polymodal.model.make_network import make_network
from polymodal.nn.encoders.base import Encoder
from polymodal.preparation.feature_cache import FeatureSettings, encode_frozen_input
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.recipe.data import LimitOptions

#: Other encoders of media, text and time series. Their whole output is cached if no weight is trainable.
WHOLLY_FROZEN = {
    name: one
    for name, one in components("encoder").items()
    if name not in WITH_FROZEN_PREFIX and one.modality not in ("number", "category", "datetime")
}


@pytest.fixture
def encode_counter(monkeypatch: pytest.MonkeyPatch) -> EncodeCounter:
    return EncodeCounter(monkeypatch)


@pytest.mark.parametrize(
    ("name", "options"), cases(), ids=[f"{name}-{place}" for place, (name, _) in enumerate(cases())]
)
def test_cached_features_give_the_output_of_whole_items(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    preparation, prepared, _, encoder = built(name, **options)
    frozen = encoder.frozen_prefix()
    assert frozen is not None
    data = whole_batch(preparation, prepared).inputs["x"].data
    kept = features_of(encoder, preparation, prepared.inputs["x"], tmp_path)
    with torch.no_grad():
        wanted, mask = encoder(data)
        times = encoder.times(data, wanted.shape[1])
        found = encoder.encode_frozen(data)
        assert found["hidden"].shape[-1] == frozen.width
        assert found.keys() == {"hidden", "length", *frozen.per_step, *frozen.per_item}
        for given in (found, kept.tensors(np.arange(len(kept)))):
            features, real = encoder(given)
            longest = min(features.shape[1], wanted.shape[1])
            assert torch.equal(real[:, :longest], mask[:, :longest])
            assert real.sum() == mask.sum()
            real = real[:, :longest]
            torch.testing.assert_close(features[:, :longest][real], wanted[:, :longest][real], atol=WITHIN, rtol=0)
            if times is not None:
                own = encoder.times(given, features.shape[1])
                assert own is not None
                torch.testing.assert_close(own[:, :longest][real], times[:, :longest][real], atol=WITHIN, rtol=0)


@pytest.mark.parametrize("folder", [None, "store"])
@pytest.mark.parametrize(
    ("name", "options"), cases(), ids=[f"{name}-{place}" for place, (name, _) in enumerate(cases())]
)
def test_other_fields_of_cached_features_are_exact(
    name: str, options: dict[str, Any], folder: str | None, tmp_path: Path
) -> None:
    preparation, prepared, _, encoder = built(name, **options)
    frozen = encoder.frozen_prefix()
    assert frozen is not None
    found = encoder.encode_frozen(whole_batch(preparation, prepared).inputs["x"].data)
    kept = features_of(encoder, preparation, prepared.inputs["x"], tmp_path / folder if folder else None)
    given = kept.tensors(np.arange(len(kept)))
    assert given.keys() == found.keys()
    assert torch.equal(given["length"], found["length"])
    for name, (dtype, shape) in frozen.per_item.items():
        assert given[name].dtype == found[name].dtype == getattr(torch, dtype)
        assert given[name].shape == (len(kept), *shape)
        assert torch.equal(given[name], found[name])
    for name in frozen.per_step:
        for item, length in enumerate(found["length"].tolist()):
            assert torch.equal(given[name][item, :length], found[name][item, :length])


# Rows with a missing input, and rows that share an item.


@pytest.mark.parametrize("name", WITH_FROZEN_PREFIX)
def test_missing_and_shared_rows(name: str, encode_counter: EncodeCounter, tmp_path: Path) -> None:
    options = next(options for one, options in cases() if one == name)
    columns = table_for(name)
    cells = columns[next(iter(columns))]
    cells[1] = cells[5] = None
    cells[2] = cells[7] = cells[0]
    preparation, prepared = prepare(columns, **recipe_of(name, **options))
    network = network_of(preparation).eval()
    source = prepared.inputs["x"]
    features = features_of(network.encoders()["x"], preparation, source, tmp_path)
    assert encode_counter.taken(name) == len(features) == distinct(cells)
    cached = PreparedTable(
        {"x": PreparedInput(source.index, features, source.content_keys)},
        prepared.targets,
        prepared.weight,
        prepared.rows,
    )
    with torch.no_grad():
        for rows in (np.arange(ROWS), np.array([1]), np.array([7, 5, 0, 2]), np.array([5, 1])):
            whole, frozen = (network(preparation.batch(one, rows))["target"].values for one in (prepared, cached))
            torch.testing.assert_close(frozen, whole, atol=WITHIN, rtol=0)


@pytest.mark.parametrize("name", WITH_FROZEN_PREFIX)
def test_a_column_without_any_item(name: str, tmp_path: Path) -> None:
    options = next(options for one, options in cases() if one == name)
    preparation, _, _, encoder = built(name, **options)
    modality = preparation.modalities["x"]
    nothing = PreparedInput(
        np.full(3, -1), prepare(table_for(name), **recipe_of(name, **options))[1].inputs["x"].items, []
    )
    for folder in (tmp_path, None):
        found = encode_frozen_input(encoder, modality, nothing, FeatureSettings(FP32, LimitOptions()), folder=folder)
        assert found is not None
        assert len(found.items) == 0


def test_samples_have_what_is_tested() -> None:
    assert set(WITH_FROZEN_PREFIX) >= {f"pretrained_{one}" for one in ("text", "image", "audio", "video")} | {
        "frame_encoder"
    }


# Encoders without pretrained weights, after all their weights are frozen.


def frozen_whole(name: str) -> tuple[Preparation, PreparedTable, Encoder]:
    """An encoder of sample rows, frozen after a forward pass in training mode, which changes its statistics."""
    modality = WHOLLY_FROZEN[name].modality
    spec = {"modality": small(modality), "columns": list(sample("modality", modality, ROWS))}
    columns = sample("modality", modality, ROWS) | sample("task", "regression", rows=ROWS)
    inputs = {"x": {**spec, "encoder": light({"name": name})}}
    preparation, prepared = prepare(columns, inputs=inputs, outputs={"target": "regression"})
    torch.manual_seed(0)
    encoder = make_network(preparation.recipe, preparation).train().encoders()["x"]
    with torch.no_grad():
        encoder(whole_batch(preparation, prepared).inputs["x"].data)
    encoder.requires_grad_(False)
    return preparation, prepared, encoder


@pytest.mark.parametrize("name", WHOLLY_FROZEN)
def test_a_wholly_frozen_encoder_gives_the_same_output_from_the_store(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preparation, prepared, encoder = frozen_whole(name)
    encoder.train()
    assert not any(module.training for module in encoder.modules()), "no dropout, no new statistics"
    data = whole_batch(preparation, prepared).inputs["x"].data
    kept = features_of(encoder, preparation, prepared.inputs["x"], tmp_path)
    with torch.no_grad():
        wanted, mask = encoder(data)
        times = encoder.times(data, wanted.shape[1])
    given = kept.tensors(np.arange(len(kept)))
    monkeypatch.setattr(encoder, "forward", None)
    found, real = encoder.forward_cached(given)
    assert real.shape[1] == int(mask.sum(1).max())
    mask, wanted = mask[:, : real.shape[1]], wanted[:, : real.shape[1]]
    assert torch.equal(real, mask)
    torch.testing.assert_close(found[real], wanted[real], atol=WITHIN, rtol=0)
    own = encoder.token_times(given, found.shape[1])
    assert (own is None) == (times is None)
    if own is not None and times is not None:
        torch.testing.assert_close(own[real], times[:, : real.shape[1]][real], atol=WITHIN, rtol=0)


@pytest.mark.parametrize("name", WHOLLY_FROZEN)
def test_one_trainable_weight_leaves_no_frozen_prefix(name: str) -> None:
    _, _, encoder = frozen_whole(name)
    before = encoder.frozen_prefix()
    assert before is not None
    parameters = list(encoder.parameters())
    parameters[-1].requires_grad_(True)
    assert encoder.frozen_prefix() is None
    assert encoder.train().training
    with torch.no_grad():
        parameters[-1].view(-1)[0] += 1e-3
    encoder.requires_grad_(False)
    after = encoder.frozen_prefix()
    assert after is not None
    assert after.fingerprint != before.fingerprint


def test_the_normalization_of_a_series_counts(tmp_path: Path) -> None:
    """`collate` applies the statistics of `fit`, so the items do not contain them."""
    preparation, _, _ = frozen_whole("inception_time")
    modality: Any = preparation.modalities["x"]
    before = modality.fingerprint(LimitOptions())
    modality.mean = modality.mean + 1e-3
    assert modality.fingerprint(LimitOptions()) != before
