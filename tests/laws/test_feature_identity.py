"""Law 8 for features: the store finds the features of an item again for the same content, preparation, frozen weights
and split of the layers, and never for others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from laws.alternatives import alternatives
from laws.checkpoints import checkpoint
from laws.frozen_encoders import (
    WITH_FROZEN_PREFIX,
    EncodeCounter,
    cases,
    distinct,
    encode,
    recipe_of,
    table_for,
)
from laws.samples import prepare
from polymodal.core.errors import RecipeError
from polymodal.core.registry import components
from polymodal.data.store.items import PreparedInput

#: Values of options whose ranges give no value that matters here.
OTHER_VALUES: dict[str, list[Any]] = {"max_length": [6]}


@pytest.fixture
def encode_counter(monkeypatch: pytest.MonkeyPatch) -> EncodeCounter:
    return EncodeCounter(monkeypatch)


@pytest.mark.parametrize("name", WITH_FROZEN_PREFIX)
def test_every_item_is_encoded_once_and_never_again(name: str, encode_counter: EncodeCounter, tmp_path: Path) -> None:
    options = next(options for one, options in cases() if one == name)
    columns, recipe = table_for(name), recipe_of(name, **options)
    cells = next(iter(columns.values()))
    encode(columns, tmp_path, **recipe)
    assert encode_counter.taken(name) == distinct(cells)
    encode({key: list(reversed(cells)) for key, cells in columns.items()}, tmp_path, **recipe)
    assert encode_counter.taken(name) == 0


def test_one_changed_byte_of_a_cell_is_one_item(encode_counter: EncodeCounter, tmp_path: Path) -> None:
    columns, recipe = table_for("pretrained_text"), recipe_of("pretrained_text")
    encode(columns, tmp_path, **recipe)
    encode_counter.taken("pretrained_text")
    changed = {**columns, "text": [columns["text"][0] + "z", *columns["text"][1:]]}
    encode(changed, tmp_path, **recipe)
    assert encode_counter.taken("pretrained_text") == 1


def test_one_changed_pixel_is_one_item(encode_counter: EncodeCounter, tmp_path: Path) -> None:
    columns, recipe = table_for("pretrained_image"), recipe_of("pretrained_image")
    encode(columns, tmp_path, **recipe)
    encode_counter.taken("pretrained_image")
    picture = columns["image"][0].copy()
    picture.putpixel((3, 3), (1, 2, 3))
    encode({**columns, "image": [picture, *columns["image"][1:]]}, tmp_path, **recipe)
    assert encode_counter.taken("pretrained_image") == 1


def changed_copy(folder: Path, *, weight: str) -> str:
    """The tiny text checkpoint with one number of one weight changed; "" changes nothing."""
    shutil.copytree(checkpoint("text"), folder)
    weights = load_file(folder / "model.safetensors")
    if weight:
        weights[weight].view(-1)[0] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


BOTTOM, TOP = (f"encoder.layer.{layer}.attention.self.query.weight" for layer in (0, 2))


@pytest.mark.parametrize(
    ("weight", "tune", "again"),
    [
        ("", {}, False),
        (BOTTOM, {}, True),
        (TOP, {}, True),
        (BOTTOM, {"fine_tuning": "last", "num_layers": 1}, True),
        (TOP, {"fine_tuning": "last", "num_layers": 1}, False),
        ("embeddings.LayerNorm.bias", {"fine_tuning": "last", "num_layers": 2}, True),
    ],
)
def test_only_changed_weights_of_frozen_layers_count(
    weight: str, tune: dict[str, Any], again: bool, encode_counter: EncodeCounter, tmp_path: Path
) -> None:
    """The content of the weights counts, not the folder of the checkpoint."""
    columns = table_for("pretrained_text")
    encode(columns, tmp_path, **recipe_of("pretrained_text", **tune))
    items = encode_counter.taken("pretrained_text")
    other = changed_copy(tmp_path / "other", weight=weight)
    encode(columns, tmp_path, **recipe_of("pretrained_text", checkpoint=other, **tune))
    assert encode_counter.taken("pretrained_text") == (items if again else 0)


@pytest.mark.parametrize(
    ("before", "after", "again"),
    [
        ({}, {"max_tokens": 2}, True),
        ({"max_tokens": 2}, {"max_tokens": None}, True),
        ({}, {"fine_tuning": "last", "num_layers": 1}, True),
        ({"fine_tuning": "last", "num_layers": 1}, {"fine_tuning": "last", "num_layers": 2}, True),
        (
            {"fine_tuning": "last", "num_layers": 1},
            {"fine_tuning": "last", "num_layers": 1, "lr_multiplier": 0.5, "layer_decay": 0.5},
            False,
        ),
        ({"fine_tuning": "last", "num_layers": 1}, {"fine_tuning": "last", "num_layers": 1, "max_tokens": 2}, False),
        ({"fine_tuning": "lora", "num_layers": 1}, {"fine_tuning": "lora", "num_layers": 1, "lora_rank": 2}, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", [name for name in WITH_FROZEN_PREFIX if name.startswith("pretrained_")])
def test_only_options_of_frozen_layers_count(
    name: str, before: dict[str, Any], after: dict[str, Any], again: bool, encode_counter: EncodeCounter, tmp_path: Path
) -> None:
    columns = table_for(name)
    encode(columns, tmp_path, **recipe_of(name, **before))
    items = encode_counter.taken(name)
    encode(columns, tmp_path, **recipe_of(name, **after))
    assert encode_counter.taken(name) == (items if again else 0)


def test_dtype_counts(encode_counter: EncodeCounter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polymodal.preparation.feature_cache.feature_dtype", lambda options, device: options.dtype)
    columns, recipe = table_for("pretrained_text"), recipe_of("pretrained_text")
    for form, again in (("bf16", True), ("fp32", True), ("bf16", False)):
        encode(columns, tmp_path, **recipe, training={"feature_cache": {"dtype": form}})
        assert (encode_counter.taken("pretrained_text") > 0) == again


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 24},
        {"fusion": "gated"},
        {"seed": 3},
        {"training": {"learning_rate": 0.5, "modality_dropout": 0.5}},
        {"outputs": {"target": {"task": "regression", "decoder": {"name": "mlp", "hidden_size": 8}}}},
    ],
    ids=str,
)
def test_nothing_above_the_frozen_layers_counts(
    change: dict[str, Any], encode_counter: EncodeCounter, tmp_path: Path
) -> None:
    columns, recipe = table_for("pretrained_text"), recipe_of("pretrained_text")
    encode(columns, tmp_path, **recipe)
    assert encode_counter.taken("pretrained_text") > 0
    encode(columns, tmp_path, **recipe | change)
    assert encode_counter.taken("pretrained_text") == 0


def test_layers_over_time_do_not_count_for_frames(encode_counter: EncodeCounter, tmp_path: Path) -> None:
    ways = [options for name, options in cases() if name == "frame_encoder"]
    columns = table_for("frame_encoder")
    encode(columns, tmp_path, **recipe_of("frame_encoder", **ways[0]))
    assert encode_counter.taken("frame_encoder") > 0
    for options in ways[1:]:
        encode(columns, tmp_path, **recipe_of("frame_encoder", **options))
        assert encode_counter.taken("frame_encoder") == 0


@pytest.mark.parametrize("name", [name for name in WITH_FROZEN_PREFIX if name.startswith("pretrained_")])
def test_every_option_that_changes_an_item_changes_its_feature(
    name: str, encode_counter: EncodeCounter, tmp_path: Path
) -> None:
    """Every option of the modality, at values other than its default."""
    modality = components("modality")[WITH_FROZEN_PREFIX[name].modality]
    columns = table_for(name)
    if "text" in columns:  # long enough that some are truncated
        columns["text"] = [" ".join([text] * 3) for text in columns["text"]]
    encode(columns, tmp_path, **recipe_of(name))
    base = prepare(columns, **recipe_of(name))[1].inputs["x"]
    encode_counter.taken(name)
    different = set()
    for option in modality.Options.model_fields:
        if option in ("name", "checkpoint", "vocab_size"):
            continue
        values = [*alternatives(modality.Options, option, {})][:2] + OTHER_VALUES.get(option, [])
        for value in [one for place, one in enumerate(values) if one not in values[:place]]:
            recipe = recipe_of(name, modality={option: value})
            try:
                changed = prepare(columns, **recipe)[1].inputs["x"]
            except RecipeError:  # the checkpoint prescribes the value
                continue
            if not same_items(base, changed):
                encode(columns, tmp_path, **recipe)
                windows = value if option == "max_windows" else 1  # of each item
                taken, items = encode_counter.taken(name), len(changed.items)
                assert items <= taken <= windows * items, (option, value)
                different.add(option)
    assert different or name == "pretrained_image"  # whose checkpoint prescribes all options


def same_items(one: PreparedInput, other: PreparedInput) -> bool:
    found, wanted = (prepared.items.take(np.arange(len(prepared.items))) for prepared in (one, other))
    return all(np.array_equal(found[name], wanted[name]) for name in wanted)
