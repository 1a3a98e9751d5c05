"""Law 8 for features: what frozen layers make of an item is found again for the same content, preparation, weights and
cut, never for others, and goes on to the same end as the item itself."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from laws.alternatives import alternatives
from laws.checkpoints import checkpoint
from laws.samples import Columns, experiment, light, network_of, prepare, sample, small, table_of, whole_batch
from polymodal.core.errors import RecipeError
from polymodal.core.progress import Progress
from polymodal.core.registry import components
from polymodal.data.store.items import PreparedInput
from polymodal.model.model import make_network
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
#: Ways to cut, in which something is frozen.
WAYS: list[dict[str, Any]] = [
    {},
    {"max_tokens": 2},
    {"max_tokens": None},
    {"fine_tuning": "last", "num_layers": 1},
    {"fine_tuning": "last", "num_layers": 2, "max_tokens": None},
    {"fine_tuning": "lora", "num_layers": 1},
]
FP32 = FeatureCacheOptions(dtype="fp32")
#: Of options whose ranges lead to no value that matters here.
OTHER_VALUES: dict[str, list[Any]] = {"max_tokens": [6]}
VIEWS = FeatureCacheOptions(dtype="fp32", augmented_copies=3)


def cases() -> list[tuple[str, dict[str, Any]]]:
    """Every encoder with frozen layers, in every way in which it has them."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name, encoder in WITH_FROZEN_PREFIX.items():
        if issubclass(encoder, PretrainedEncoder):
            found += [(name, way) for way in WAYS]
        else:
            frames = {"name": "pretrained_image", "checkpoint": checkpoint("image")}
            found += [(name, {"frame_encoder": frames, "temporal": way}) for way in ("mean", "lstm", "transformer")]
    return found


#: Encoders that are cached whole once nothing of them learns, and read what is named by its content.
STILL = {
    name: one
    for name, one in components("encoder").items()
    if name not in WITH_FROZEN_PREFIX and one.modality not in ("number", "category")
}


def spec_of(name: str, **options: Any) -> dict[str, Any]:
    """An input of sample data of the encoder's modality."""
    modality = WITH_FROZEN_PREFIX[name].modality
    model = {} if "frame_encoder" in options or "checkpoint" in options else {"checkpoint": checkpoint(modality)}
    prepared = {"name": modality, **options.pop("modality", {})}
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
    settings, views = FeatureSettings(options, LimitOptions()), modality.has_augmentation and options is VIEWS
    found = encode_frozen_input(encoder, modality, source, settings, folder=folder, augmented_copies=views)
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
            if id(encoder) in self.within:  # what the class above adds to
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
        """The items of these encoders since the last call."""
        found = sum(self.items[WITH_FROZEN_PREFIX[name].__name__] for name in names)
        self.items.clear()
        return found


@pytest.fixture
def encode_counter(monkeypatch: pytest.MonkeyPatch) -> EncodeCounter:
    return EncodeCounter(monkeypatch)


def encode(columns: Columns, cache: Path, **recipe: Any) -> None:
    """What a run does before it trains."""
    table = table_of(columns)
    prepared = experiment({"train": table, "validation": table}, cache / "prepared", **{"seed": 0, **recipe})
    prepared.features.folder = cache
    torch.manual_seed(prepared.recipe.seed)
    network = make_network(prepared.recipe, prepared.preparation, pretrained=True)
    prepared.feature_splits(network, Progress(False))


@pytest.mark.parametrize(
    ("name", "options"), cases(), ids=[f"{name}-{place}" for place, (name, _) in enumerate(cases())]
)
def test_settled_items_go_on_to_what_whole_ones_do(name: str, options: dict[str, Any], tmp_path: Path) -> None:
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
def test_what_is_settled_beside_hidden_states_is_given_back_exactly(
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
def test_a_changed_weight_counts_below_the_cut_only(
    weight: str, tune: dict[str, Any], again: bool, encode_counter: EncodeCounter, tmp_path: Path
) -> None:
    """The folder of the checkpoint does not count: content is what names features."""
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
@pytest.mark.parametrize("name", [name for name in WITH_FROZEN_PREFIX if name != "frame_encoder"])
def test_options_count_where_they_matter_below_the_cut(
    name: str, before: dict[str, Any], after: dict[str, Any], again: bool, encode_counter: EncodeCounter, tmp_path: Path
) -> None:
    columns = table_for(name)
    encode(columns, tmp_path, **recipe_of(name, **before))
    items = encode_counter.taken(name)
    encode(columns, tmp_path, **recipe_of(name, **after))
    assert encode_counter.taken(name) == (items if again else 0)


def test_number_format_counts(encode_counter: EncodeCounter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polymodal.preparation.feature_cache.feature_dtype", lambda options: options.dtype)
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
def test_nothing_above_the_cut_counts(change: dict[str, Any], encode_counter: EncodeCounter, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("name", [name for name in WITH_FROZEN_PREFIX if name != "frame_encoder"])
def test_whatever_changes_a_prepared_item_changes_its_feature(
    name: str, encode_counter: EncodeCounter, tmp_path: Path
) -> None:
    """Every option of the modality, at other values than its own."""
    modality = components("modality")[WITH_FROZEN_PREFIX[name].modality]
    columns = table_for(name)
    if "text" in columns:  # so long that some are cut
        columns["text"] = [" ".join([text] * 3) for text in columns["text"]]
    encode(columns, tmp_path, **recipe_of(name))
    base = prepare(columns, **recipe_of(name))[1].inputs["x"]
    encode_counter.taken(name)
    different = set()
    for option in modality.Options.model_fields:
        if option in ("name", "checkpoint", "vocab_size"):
            continue
        for value in [*alternatives(modality.Options, option, {})][:2] + OTHER_VALUES.get(option, []):
            recipe = recipe_of(name, modality={option: value})
            try:
                changed = prepare(columns, **recipe)[1].inputs["x"]
            except RecipeError:  # the checkpoint says what it is
                continue
            if not same_items(base, changed):
                encode(columns, tmp_path, **recipe)
                assert encode_counter.taken(name) == len(changed.items), (option, value)
                different.add(option)
    assert different or name == "pretrained_image"  # whose checkpoint says everything


def distinct(cells: list[Any]) -> int:
    """How many different items there are."""
    kept = [cell for cell in cells if cell is not None]
    return len({cell if isinstance(cell, str | bytes) else cell.tobytes() for cell in kept})


def same_items(one: PreparedInput, other: PreparedInput) -> bool:
    found, wanted = (prepared.items.take(np.arange(len(prepared.items))) for prepared in (one, other))
    return all(np.array_equal(found[name], wanted[name]) for name in wanted)


# Views: copies of items with random changes.

CHANGES: dict[str, dict[str, Any]] = {
    "pretrained_image": {"horizontal_flip": True, "translate": 0.2, "brightness": 0.3},
    "pretrained_audio": {"gain_db": 6.0, "time_shift": 0.2},
    "pretrained_video": {"horizontal_flip": True, "translate": 0.2},
    "frame_encoder": {"horizontal_flip": True, "translate": 0.2},
}


def changing(name: str, **changes: Any) -> tuple[Preparation, PreparedTable, Encoder]:
    options = next(options for one, options in cases() if one == name)
    preparation, prepared, _, encoder = built(name, **options, modality=changes or CHANGES[name])
    assert preparation.modalities["x"].has_augmentation
    return preparation, prepared, encoder


def copies_of(features: FeatureItems, item: int) -> Tensor:
    """`[augmented copies, ...]`: the augmented copies of one item."""
    assert features.augmented is not None
    ids = item * features.augmented_copies + np.arange(features.augmented_copies)
    return torch.from_numpy(features.augmented.take(ids)["hidden"])


@pytest.mark.parametrize("name", CHANGES)
def test_views_differ_from_one_another_and_from_the_item(name: str, tmp_path: Path) -> None:
    preparation, prepared, encoder = changing(name)
    features = features_of(encoder, preparation, prepared.inputs["x"], tmp_path, VIEWS)
    for item in range(len(features)):
        plain = torch.from_numpy(features.original.take(np.array([item]))["hidden"])
        seen = [plain[0], *copies_of(features, item)]
        assert all(not torch.equal(a, b) for place, a in enumerate(seen) for b in seen[:place])
    assert all(
        not torch.equal(copies_of(features, 0)[0], copies_of(features, 1)[k]) for k in range(VIEWS.augmented_copies)
    )


@pytest.mark.parametrize("name", CHANGES)
def test_views_are_the_same_in_any_order_and_company(name: str, tmp_path: Path) -> None:
    preparation, prepared, encoder = changing(name)
    source = prepared.inputs["x"]
    assert source.content_keys is not None
    torch.manual_seed(1)
    before = torch.get_rng_state()
    features = features_of(encoder, preparation, source, tmp_path / "all", VIEWS)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    order = [2, 0]
    taken = Chosen(source.items, np.array(order))
    alone = features_of(
        encoder,
        preparation,
        PreparedInput(np.arange(2), taken, [source.content_keys[one] for one in order]),
        tmp_path / "two",
        VIEWS,
    )
    for place, item in enumerate(order):
        torch.testing.assert_close(copies_of(alone, place), copies_of(features, item), atol=WITHIN, rtol=0)


class Chosen:
    """Some of the items, in another order."""

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


def test_views_of_other_changes_are_others(encode_counter: EncodeCounter, tmp_path: Path) -> None:
    """The plain items are found again, the copies are not; more copies of the same changes are added to those known."""
    name = "pretrained_image"
    for changes, count, encoded in (
        ({"brightness": 0.3}, 2, (1, 2)),
        ({"brightness": 0.9}, 2, (0, 2)),
        ({"brightness": 0.3}, 2, (0, 0)),
        ({"brightness": 0.3}, 3, (0, 1)),
        ({"horizontal_flip": True, "translate": 0.1}, 1, (0, 1)),
    ):
        columns, recipe = table_for(name), recipe_of(name, modality=changes)
        encode(columns, tmp_path, **recipe, training={"feature_cache": {"augmented_copies": count}})
        assert encode_counter.taken(name) == sum(encoded) * 3, (changes, count)


def test_training_draws_among_views_and_evaluation_takes_the_plain_item(tmp_path: Path) -> None:
    preparation, prepared, encoder = changing("pretrained_image")
    source = prepared.inputs["x"]
    features = features_of(encoder, preparation, source, tmp_path, VIEWS)
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
    assert len(seen) == len(features) * VIEWS.augmented_copies
    assert min(seen.values()) >= 4
    drawn = []
    for _ in range(2):
        torch.manual_seed(5)
        drawn.append([preparation.batch(cached, rows, augment=True).inputs["x"].data["hidden"] for _ in range(3)])
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))


def test_views_are_kept_for_training_rows_only_where_there_are_changes(
    encode_counter: EncodeCounter, tmp_path: Path
) -> None:
    columns, recipe = table_for("pretrained_image"), recipe_of("pretrained_image")
    encode(columns, tmp_path, **recipe, training={"feature_cache": {"augmented_copies": 5}})
    assert encode_counter.taken("pretrained_image") == 3


# Encoders of the network's own, once nothing of them learns.


def still(name: str) -> tuple[Preparation, PreparedTable, Encoder]:
    """The encoder of sample rows, frozen after a step in training mode, so that it is not as it was built."""
    modality = STILL[name].modality
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


@pytest.mark.parametrize("name", STILL)
def test_a_still_encoder_settles_whole_and_gives_the_same_from_the_store(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preparation, prepared, encoder = still(name)
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


@pytest.mark.parametrize("name", STILL)
def test_one_weight_that_learns_and_nothing_is_settled(name: str) -> None:
    _, _, encoder = still(name)
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


def test_the_scale_of_a_series_counts(tmp_path: Path) -> None:
    """`collate` applies what `fit` learned, so that it is no part of the items."""
    preparation, _, _ = still("inception_time")
    modality: Any = preparation.modalities["x"]
    before = modality.identity(LimitOptions())
    modality.mean = modality.mean + 1e-3
    assert modality.identity(LimitOptions()) != before


# Rows that lack the input, and rows that share an item.


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
