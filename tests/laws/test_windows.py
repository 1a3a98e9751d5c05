"""Windows over long items, over the registry: rows stand alone, items of one window are as without windows, cached
features are exact, all parameters learn, features of estimators are the mean over windows."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from laws.checkpoints import checkpoint
from laws.frozen_encoders import features_of
from laws.objectives import train_steps
from laws.samples import Columns, experiment, light, network_of, prepare, sample, total_loss, whole_batch
from laws.test_devices import assert_close, assert_only_allowed, gradients_of
from laws.test_featurizers import FEATURIZERS
from laws.test_padding import assert_rows_stand_alone
from laws.test_resume import Killed, KilledAt, assert_same_run
from polymodal.core.errors import RecipeError
from polymodal.core.progress import Progress
from polymodal.core.registry import components
from polymodal.data.store.items import FixedItems, PreparedInput
from polymodal.experiments.train import train_model
from polymodal.features.feature_set import FeatureSet
from polymodal.model.model import Model
from polymodal.nn.encoders.windowed import WindowedEncoder
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation, PreparedTable
from simulated_device import recorded_synchronizations, simulated_device

#: Options under which sample items have up to this many windows, and the dimension of time of stored items.
WINDOWS: dict[str, dict[str, Any]] = {
    "time_series": {"num_steps": 8, "max_windows": 4, "jitter": 0.0},
    "audio": {"seconds": 0.4, "max_windows": 3, "time_shift": 0.0, "gain_db": 0.0},
    "video": {"num_frames": 4, "max_windows": 3, "image_size": 32, "translate": 0.0},
}
ENCODERS = [(one.modality, name) for name, one in components("encoder").items() if one.modality in WINDOWS]
FRAMES = {"name": "frame_encoder", "frame_encoder": {"name": "pretrained_image", "checkpoint": checkpoint("image")}}
#: Encoders with frozen layers, of each kind of output that is cached.
FROZEN: list[tuple[str, dict[str, Any]]] = [
    ("time_series", {"name": "minirocket", "num_features": 84}),
    ("audio", {"name": "pretrained_audio"}),
    ("audio", {"name": "pretrained_audio", "max_tokens": None}),
    ("audio", {"name": "pretrained_audio", "fine_tuning": "last", "num_layers": 1}),
    ("video", {"name": "pretrained_video", "fine_tuning": "last", "num_layers": 1, "max_tokens": None}),
    ("video", {**FRAMES, "temporal": "lstm"}),
]
ROWS = 8


def windowed(modality: str, encoder: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The recipe keys of an input with windows; a checkpoint sets the size of its own."""
    own = {"num_frames", "image_size"} if "pretrained" in str(encoder) and modality == "video" else set()
    if encoder["name"] == "frame_encoder" and own:
        own = {"image_size"}
    options = {key: value for key, value in WINDOWS[modality].items() if key not in own}
    columns = list(sample("modality", modality, rows=ROWS))
    return {"modality": {"name": modality, **options, **changes}, "columns": columns, "encoder": light(encoder)}


def built(modality: str, encoder: dict[str, Any], **changes: Any) -> tuple[Preparation, PreparedTable, Network]:
    columns = sample("modality", modality, rows=ROWS) | sample("task", "regression", rows=ROWS)
    columns[next(iter(columns))][2] = None
    inputs = {"x": windowed(modality, encoder, **changes)}
    preparation, prepared = prepare(columns, inputs=inputs, outputs={"target": "regression"})
    return preparation, prepared, network_of(preparation)


def outputs_of(network: Network, preparation: Preparation, prepared: PreparedTable) -> Tensor:
    with torch.no_grad():
        return network.eval()(whole_batch(preparation, prepared))["target"].values


@pytest.mark.parametrize(("modality", "encoder"), ENCODERS)
def test_of_every_encoder(modality: str, encoder: str) -> None:
    """Rows stand alone, one of them without the input; every parameter learns; the state is all there is."""
    preparation, prepared, network = built(modality, {"name": encoder})
    assert isinstance(network.encoders()["x"], WindowedEncoder)
    lengths = prepared.inputs["x"].items.lengths()
    shape = preparation.shapes()["x"]
    size = next(shape[key] for key in ("steps", "samples", "frames") if key in shape)
    assert lengths is not None
    assert lengths.max() > size, "some sample items have several windows"
    assert_rows_stand_alone(preparation, prepared, network)

    other = network_of(preparation, seed=1)
    other.load_state_dict(network.state_dict())
    wanted = outputs_of(network, preparation, prepared)
    assert torch.equal(outputs_of(other, preparation, prepared), wanted)

    before = {name: one.detach().clone() for name, one in network.named_parameters() if one.requires_grad}
    optimizer = torch.optim.AdamW(network.train().parameters(), 1e-2, weight_decay=0)
    for _ in range(2):
        optimizer.zero_grad()
        total_loss(preparation, network, whole_batch(preparation, prepared)).backward()
        optimizer.step()
    same = [name for name, one in network.named_parameters() if name in before and torch.equal(before[name], one)]
    assert same == []


@pytest.mark.parametrize("modality", WINDOWS)
def test_windows_compute_on_another_device(modality: str) -> None:
    encoder = {"time_series": "inception_time", "audio": "pretrained_audio", "video": "frame_encoder"}[modality]
    preparation, prepared, network = built(modality, {"name": encoder})
    batch = whole_batch(preparation, prepared)
    expected = gradients_of(preparation, network, batch)
    with simulated_device() as device:
        own = copy.deepcopy(network).to(device)
        with recorded_synchronizations() as reads:
            found = gradients_of(preparation, own, batch.to(device))
        assert_only_allowed(reads)
        assert_close(found, expected)


@pytest.mark.parametrize("modality", WINDOWS)
def test_an_item_of_one_window_is_encoded_as_without_windows(modality: str) -> None:
    encoder = {"time_series": "inception_time", "audio": "audio_cnn", "video": "frame_encoder"}[modality]
    exact: dict[str, Any] = {"num_frames": 8} if modality == "video" else {}
    if modality == "time_series":
        exact = {"normalization": "none", "num_steps": 16, "long_series": "truncate"}
    one = built(modality, {"name": encoder}, **exact, max_windows=1)
    several = built(modality, {"name": encoder}, **exact)
    weights = {name.replace(".encoder.", ".encoder.inner."): value for name, value in one[2].state_dict().items()}
    several[2].load_state_dict(weights)
    found, wanted = outputs_of(several[2], *several[:2]), outputs_of(one[2], *one[:2])
    lengths = one[1].inputs["x"].items.lengths()
    all_lengths = several[1].inputs["x"].items.lengths()
    assert lengths is not None
    assert all_lengths is not None
    index = several[1].inputs["x"].index
    short = (index < 0) | (all_lengths[index] <= lengths.max())
    same = torch.isclose(found, wanted, atol=1e-5, rtol=0).all(1).numpy()
    assert 1 < short.sum() < ROWS or modality == "audio", all_lengths
    assert same[short].all()
    assert not same[~short].any()


@pytest.mark.parametrize(("modality", "encoder"), FROZEN, ids=str)
def test_cached_features_give_the_output_of_whole_items(modality: str, encoder: dict[str, Any], tmp_path: Path) -> None:
    preparation, prepared, network = built(modality, encoder)
    wanted = outputs_of(network, preparation, prepared)
    source = prepared.inputs["x"]
    features = features_of(network.encoders()["x"], preparation, source, tmp_path)
    cached = PreparedTable(
        {"x": PreparedInput(source.index, features, source.content_keys)},
        prepared.targets,
        prepared.weight,
        prepared.rows,
    )
    torch.testing.assert_close(outputs_of(network, preparation, cached), wanted, atol=1e-5, rtol=0)
    assert_rows_stand_alone(preparation, cached, network)


def test_an_encoder_whose_weights_are_frozen_is_cached_as_well(tmp_path: Path) -> None:
    preparation, prepared, network = built("time_series", {"name": "inception_time", "num_blocks": 1})
    network.encoders()["x"].requires_grad_(False)
    wanted = outputs_of(network, preparation, prepared)
    source = prepared.inputs["x"]
    features = features_of(network.encoders()["x"], preparation, source, tmp_path)
    cached = PreparedTable({"x": PreparedInput(source.index, features)}, prepared.targets, None, prepared.rows)
    torch.testing.assert_close(outputs_of(network, preparation, cached), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "modality"),
    [(name, modality) for name, one in FEATURIZERS.items() for modality in one.modalities if modality in WINDOWS],
)
def test_features_are_the_mean_over_windows(name: str, modality: str) -> None:
    """The features of an item, before they are scaled, are the mean of those of its windows as items of their own."""
    encoder = {"name": f"pretrained_{modality}"} if name == "embedding" else {"name": "inception_time"}
    spec = windowed(modality, encoder, **({"normalization": "none"} if modality == "time_series" else {}))
    if name != "embedding":
        del spec["encoder"]
    spec["features"] = [{"name": name}]
    columns = sample("modality", modality, rows=ROWS) | sample("task", "classification", rows=ROWS)
    recipe: dict[str, Any] = {"inputs": {"x": spec}, "outputs": {"target": "classification"}}
    if name == "embedding":
        recipe["training"] = {"feature_cache": {"dtype": "fp32"}}
    preparation, prepared = prepare(columns, **recipe, members=["linear"], network=True)
    network = network_of(preparation).eval()
    features = FeatureSet(preparation.recipe, preparation, network.encoders(), None)
    features.fit(prepared, np.arange(ROWS))
    featurizer: Any = features.featurizers["x"][name]
    if name != "embedding":
        featurizer.scaling = lambda values: values  # it clips, so that means of scaled values are others
    found = features.transform(prepared, np.arange(ROWS)).blocks["x"][0].values
    source = prepared.inputs["x"]
    longest = int(np.argmax(source.items.lengths()))
    whole = {key: array[0] for key, array in source.items.take(np.array([longest])).items()}
    size = next(size for key, size in preparation.shapes()["x"].items() if key in ("steps", "samples", "frames"))
    length = int(whole.pop("length"))
    count = -(-length // size)
    assert count > 1
    parts = []
    for number in range(count):
        start, end = (length * place // count for place in (number, number + 1))
        part = {key: array[start:end][None] for key, array in whole.items()} | {"length": np.array([end - start])}
        if name == "embedding":
            with torch.no_grad():
                tokens, mask = network.encoders()["x"](preparation.modalities["x"].collate(part))
            parts.append(tokens[0][mask[0]].mean(0).numpy())
        else:
            alone = PreparedInput(np.zeros(1, np.int64), FixedItems(part))
            parts.append(featurizer.transform(alone).values[0])
    mean = np.mean(parts, axis=0)
    if name == "embedding":
        mean /= np.linalg.norm(mean)
    np.testing.assert_allclose(found[source.index == longest][0], mean, rtol=1e-4, atol=1e-4)


@pytest.fixture
def recipe() -> dict[str, Any]:
    columns = {**sample("modality", "time_series", 24), **sample("task", "classification", 24)}
    spec = {"modality": {**WINDOWS["time_series"], "name": "time_series"}, "columns": ["time_series"]}
    columns["time_series"][3] = None
    return {"columns": columns, "inputs": {"x": spec}, "outputs": {"target": "classification"}}


def test_a_resumed_run_equals_the_uninterrupted_and_a_saved_model_predicts_the_same(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    columns, training = recipe.pop("columns"), {"epochs": 2, "batch_size": 8, "save_steps": 1}
    parts = {"train": columns, "validation": columns}
    run = experiment(parts, tmp_path / "run", **recipe, training=training)
    whole = train_model(run, progress=Progress(False))
    folder = tmp_path / "killed"
    folder.mkdir()
    with pytest.raises(Killed):
        train_model(run, progress=KilledAt(4), folder=folder)
    assert_same_run(train_model(run, progress=Progress(False), folder=folder, resume=True), whole)
    whole.save(tmp_path / "model")
    rows = {"time_series": columns["time_series"]}
    again = Model.load(tmp_path / "model").predict_proba(rows)
    np.testing.assert_array_equal(again, whole.predict_proba(rows))
    one = {"time_series": columns["time_series"][:1]}
    np.testing.assert_allclose(whole.predict_proba(one), again[:1], atol=1e-5)


@pytest.mark.parametrize("name", ["masked_modeling", "dino", "barlow_twins"])
def test_objectives_learn_from_whole_items(name: str) -> None:
    columns: Columns = {}
    inputs = {}
    for modality in ("time_series", "audio"):
        columns |= sample("modality", modality, rows=ROWS)
        encoder = {"time_series": "patch_transformer", "audio": "audio_cnn"}[modality]
        inputs[modality] = windowed(modality, {"name": encoder}, **({"jitter": 0.3} if modality != "audio" else {}))
    preparation, prepared = prepare(columns, inputs=inputs, objectives=[{"name": name}])
    before = network_of(preparation).state_dict()
    network = network_of(preparation)
    losses = train_steps(preparation, prepared, network, steps=2)
    assert all(torch.isfinite(loss) for loss in losses)
    for modality in inputs:
        part = f"towers.{modality}.encoder.inner."
        state = network.state_dict()
        assert any(not torch.equal(state[key], before[key]) for key in state if key.startswith(part))


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        ({"task": "event_detection"}, "max_windows: it shifts or loses the times of the events of 'target'"),
        ({"task": "text_generation", "decoder": "ctc"}, "ctc needs a token for each moment, but 'x' is encoded in sev"),
        (
            {"task": "text_generation", "decoder": {"name": "transformer", "ctc_weight": 0.3}},
            "ctc_weight needs a token for each moment",
        ),
    ],
)
def test_what_needs_the_whole_time_axis_is_refused(output: dict[str, Any], problem: str, tmp_path: Path) -> None:
    columns = sample("modality", "audio", ROWS) | sample("task", output["task"], ROWS)
    spec = {"modality": {**WINDOWS["audio"], "name": "audio"}, "columns": ["sound"]}
    with pytest.raises(RecipeError, match=problem):
        network_of(prepare(columns, inputs={"x": spec}, outputs={"target": output})[0])
