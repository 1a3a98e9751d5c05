"""Fine-tuning modes: trainable weights, learning rates, and equality with cached hidden states."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from laws.checkpoints import checkpoint
from laws.samples import network_of, prepare, sample_table, table_of, whole_batch
from laws.text_checkpoints import KINDS, TEXTS, text_checkpoint
from polymodal.core.errors import RecipeError
from polymodal.data.partition import Split
from polymodal.experiments.estimate import estimate
from polymodal.experiments.plan import complete_schedule, make_plan
from polymodal.model.make_network import make_network
from polymodal.model.run_summary import describe_trainable
from polymodal.nn.encoders.pretrained import PretrainedEncoder
from polymodal.nn.network import Network
from polymodal.recipe.recipe import Recipe
from polymodal.recipe.training import ParamGroupOptions, TrainingOptions
from polymodal.training.optimizer import make_optimizer

MODALITIES = ["text", "image", "audio", "video"]
CUT = {"freeze": {}, "last": {"num_layers": 1}, "lora": {"num_layers": 2}, "dora": {"num_layers": 1}}


def built(modality: str, *, pretrained: bool = True, **options: Any) -> tuple[Network, dict[str, Tensor]]:
    columns, recipe = sample_table([modality], ["regression"], rows=8)
    recipe["inputs"][f"in_{modality}"]["encoder"] = {
        "name": f"pretrained_{modality}",
        "checkpoint": checkpoint(modality),
        **options,
    }
    preparation, prepared = prepare(columns, **recipe)
    torch.manual_seed(0)
    network = make_network(preparation.recipe, preparation, pretrained=pretrained)
    return network, whole_batch(preparation, prepared).inputs[f"in_{modality}"].data


def encoder_of(network: Network) -> PretrainedEncoder:
    found = next(iter(network.encoders().values()))
    assert isinstance(found, PretrainedEncoder)
    return found


def learning(network: Network) -> set[str]:
    encoder = encoder_of(network)
    return {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}


def test_freeze_has_no_trainable_weights() -> None:
    assert learning(built("text")[0]) == set()


@pytest.mark.parametrize("modality", MODALITIES)
def test_last_trains_the_top_layers_and_output_modules(modality: str) -> None:
    network = built(modality, fine_tuning="last", num_layers=2)[0]
    encoder = encoder_of(network)
    expected = {id(one) for layer in encoder.backbone.layers[1:] for one in layer.parameters()}
    norms = {"text": [], "image": ["layernorm"], "audio": ["layer_norm"], "video": []}[modality]
    expected |= {id(p) for norm in norms for p in encoder.backbone.model.get_submodule(norm).parameters()}
    assert {id(p) for p in encoder.parameters() if p.requires_grad} == expected


@pytest.mark.parametrize("tune", ["lora", "dora"])
@pytest.mark.parametrize("modality", MODALITIES)
def test_only_adapters_of_the_top_layers_are_trainable(modality: str, tune: str) -> None:
    network = built(modality, fine_tuning=tune, num_layers=1, lora_rank=3)[0]
    names = learning(network)
    assert names
    assert all("lora_" in name for name in names)
    assert any("magnitude" in name for name in names) == (tune == "dora")
    top = {id(p) for p in encoder_of(network).backbone.layers[-1].parameters()}
    assert {id(p) for p in encoder_of(network).parameters() if p.requires_grad} <= top
    ranks = {p.shape[0] for name, p in encoder_of(network).named_parameters() if "lora_A" in name}
    assert ranks == {3}


def test_full_trains_everything() -> None:
    network = built("text", fine_tuning="full")[0]
    assert len(learning(network)) == len(list(encoder_of(network).parameters()))


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("tune", ["lora", "dora"])
def test_new_adapters_change_nothing(modality: str, tune: str) -> None:
    """B is zero, and the DoRA magnitudes are those of the loaded weights."""
    adapted, data = built(modality, fine_tuning=tune)
    whole = {"padding": "max_length"} if modality == "audio" else {}  # as encoders with adapters read sounds
    plain = built(modality, **whole)[0]
    with torch.no_grad():
        expected, found = encoder_of(plain).eval()(data)[0], encoder_of(adapted).eval()(data)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("tune", CUT)
@pytest.mark.parametrize("tokens", [1, 3, None])
def test_cached_hidden_states_give_the_same_features_and_times(modality: str, tune: str, tokens: int | None) -> None:
    network, data = built(modality, fine_tuning=tune, max_tokens=tokens, **CUT[tune])
    encoder = encoder_of(network).eval()
    settled = encoder.frozen_prefix()
    assert settled is not None
    with torch.no_grad():
        expected, mask = encoder(data)
        kept = encoder.encode_frozen(data)
        assert kept["hidden"].shape[2] == settled.width
        assert kept.keys() == {"hidden", "length", *settled.per_step, *settled.per_item}
        found, found_mask = encoder(trimmed(kept, settled.per_item))
    length = found.shape[1]
    assert torch.equal(mask[:, :length], found_mask)
    assert not bool(mask[:, length:].any())
    same = mask[:, :length].unsqueeze(-1)
    torch.testing.assert_close(found * same, expected[:, :length] * same, rtol=0, atol=1e-5)
    before, after = encoder.times(data, length), encoder.times(trimmed(kept, settled.per_item), length)
    assert (before is None) == (after is None)
    if before is not None and after is not None:
        torch.testing.assert_close(after[found_mask], before[found_mask])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tune", ["last", "lora"])
def test_all_text_networks_run_from_cached_hidden_states(kind: str, tune: str) -> None:
    """Masks, end tokens and positions are reconstructed from the lengths."""
    encoder_options = {
        "name": "pretrained_text",
        "checkpoint": text_checkpoint(kind),
        "fine_tuning": tune,
        "num_layers": 1,
    }
    inputs = {"t": {"modality": "text", "encoder": encoder_options}}
    columns = {"t": TEXTS, "y": [float(row) for row in range(len(TEXTS))]}
    preparation, prepared = prepare(columns, inputs=inputs, outputs={"y": "regression"})
    encoder = encoder_of(make_network(preparation.recipe, preparation, pretrained=True)).eval()
    data = whole_batch(preparation, prepared).inputs["t"].data
    settled = encoder.frozen_prefix()
    assert settled is not None
    with torch.no_grad():
        expected, mask = encoder(data)
        found, found_mask = encoder(trimmed(encoder.encode_frozen(data), settled.per_item))
    assert torch.equal(mask, found_mask)
    assert found.shape[2] == encoder.width
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def trimmed(kept: dict[str, Tensor], whole: Iterable[str] = ()) -> dict[str, Tensor]:
    """As a batch from the store: each item cut to its length, then padded with zeros to the longest; `whole` fields are
    as they are."""
    longest = int(kept["length"].max())
    found = {name: kept[name] for name in ("length", *whole)}
    for name in kept.keys() - found.keys():
        values = kept[name][:, :longest].clone()
        for item, length in enumerate(kept["length"].tolist()):
            values[item, length:] = 0
        found[name] = values
    return found


@pytest.mark.parametrize("tune", ["last", "lora"])
def test_gradients_are_the_same_from_cached_hidden_states(tune: str) -> None:
    network, data = built("text", fine_tuning=tune, num_layers=2)
    encoder = encoder_of(network).eval()
    kept = encoder.encode_frozen(data)
    gradients = []
    for given in (data, trimmed(kept)):
        encoder.zero_grad(set_to_none=True)
        features, mask = encoder(given)
        (features * mask.unsqueeze(-1)).square().sum().backward()
        gradients.append({n: p.grad for n, p in encoder.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() == learning(network)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_frozen_layers_stay_in_evaluation_mode() -> None:
    network = built("text", fine_tuning="last", num_layers=1)[0]
    network.train()
    layers = encoder_of(network).backbone.layers
    dropouts = [[m.training for m in layer.modules() if isinstance(m, torch.nn.Dropout)] for layer in layers]
    assert [set(found) for found in dropouts] == [{False}, {False}, {True}]
    frozen = built("text")[0]
    frozen.train()
    assert not any(module.training for module in encoder_of(frozen).backbone.modules())
    full = built("text", fine_tuning="full")[0]
    full.train()
    assert all(module.training for module in encoder_of(full).backbone.modules())


def test_full_and_lora_in_all_layers_have_no_frozen_prefix() -> None:
    assert encoder_of(built("text", fine_tuning="full")[0]).frozen_prefix() is None
    assert encoder_of(built("text", fine_tuning="lora")[0]).frozen_prefix() is None


def test_the_fingerprint_depends_on_weights_split_and_options() -> None:
    def name(**options: Any) -> str:
        settled = encoder_of(built("text", **options)[0]).frozen_prefix()
        assert settled is not None
        return settled.fingerprint

    several = [
        name(),
        name(max_tokens=None),
        name(fine_tuning="last", num_layers=1),
        name(fine_tuning="last", num_layers=2),
    ]
    assert len(set(several)) == 4
    assert name() == several[0]
    assert name(fine_tuning="last", num_layers=1, lr_multiplier=0.5) == several[2]
    assert name(pretrained=False) != several[0]


def test_only_changed_weights_below_the_split_change_the_fingerprint() -> None:
    encoder = encoder_of(built("text", fine_tuning="last", num_layers=1)[0])
    before = encoder.frozen_prefix()
    with torch.no_grad():
        next(encoder.backbone.layers[2].parameters()).add_(1)
    assert encoder.frozen_prefix() == before
    with torch.no_grad():
        next(encoder.backbone.layers[0].parameters()).add_(1)
    assert encoder.frozen_prefix() != before


def test_learning_rates_decay_from_layer_to_layer() -> None:
    network = built("image", fine_tuning="full", lr_multiplier=0.1, layer_decay=0.5)[0]
    encoder = encoder_of(network)
    rates, model = encoder.lr_multipliers(), encoder.backbone.model
    assert rates[next(model.layernorm.parameters())] == pytest.approx(0.1)
    for place, layer in enumerate(encoder.backbone.layers):
        assert all(rates[p] == pytest.approx(0.1 * 0.5 ** (2 - place)) for p in layer.parameters())
    assert all(rates[p] == pytest.approx(0.1 * 0.5**3) for p in model.embeddings.parameters())
    assert rates.keys() == set(encoder.parameters())


def test_the_optimizer_multiplies_the_rates_of_param_groups_and_encoders() -> None:
    network = built("image", fine_tuning="lora", lr_multiplier=0.5)[0]
    parts = {"inputs.in_image": ParamGroupOptions(lr_multiplier=0.1)}
    options = TrainingOptions(learning_rate=1e-2, param_groups=parts)
    optimizer = make_optimizer(network, torch.nn.Module(), options)
    rate_of = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    inside = set(encoder_of(network).parameters())
    assert all(rate_of[p] == pytest.approx(1e-2 * 0.1 * 0.5) for p in rate_of if p in inside)
    assert inside & rate_of.keys()
    assert set(rate_of) == {p for p in network.parameters() if p.requires_grad}
    assert rate_of[next(network.fusion.parameters())] == pytest.approx(1e-2)


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"num_layers": 2}, "num_layers"),
        ({"fine_tuning": "full", "num_layers": 2}, "num_layers"),
        ({"lora_rank": 4}, "lora_rank"),
        ({"fine_tuning": "last", "lora_rank": 4}, "lora_rank"),
        ({"lr_multiplier": 0.1}, "lr_multiplier"),
        ({"fine_tuning": "lora", "layer_decay": 0.5}, "layer_decay"),
        ({"gradient_checkpointing": True}, "gradient_checkpointing"),
        ({"fine_tuning": "full", "quantization": "int8"}, "quantization"),
        ({"fine_tuning": "last", "num_layers": 4}, "num_layers"),
    ],
)
def test_options_without_effect_are_rejected(options: dict[str, Any], path: str) -> None:
    with pytest.raises(RecipeError) as found:
        built("text", **options)
    assert found.value.path == f"inputs.in_text.encoder.{path}"


@pytest.mark.parametrize("tune", ["freeze", "last", "dora", "full"])
def test_copies_and_second_builds_have_equal_states(tune: str) -> None:
    network, data = built("text", fine_tuning=tune)
    twin = copy.deepcopy(network)
    with torch.no_grad():
        assert torch.equal(encoder_of(twin).eval()(data)[0], encoder_of(network).eval()(data)[0])
    assert built("text", fine_tuning=tune, pretrained=False)[0].state_dict().keys() == network.state_dict().keys()


def test_the_estimate_counts_optimizer_state_for_trainable_weights_only() -> None:
    costs = {}
    for tune in ("freeze", "full"):
        columns, recipe = sample_table(["text"], ["regression"], rows=24)
        recipe["inputs"]["in_text"]["encoder"] = {
            "name": "pretrained_text",
            "checkpoint": checkpoint("text"),
            "fine_tuning": tune,
        }
        table = table_of(columns)
        training = {"precision": "fp32", "num_threads": 1}
        plan = make_plan(table, Recipe(hidden_size=16, training=training, **recipe))
        plan = type(plan)(complete_schedule(plan.recipe, 24), plan.roles)
        cost = estimate(plan, {"train": Split(table, torch.arange(24).numpy())}).network
        assert cost is not None
        costs[tune] = cost
    assert costs["freeze"].parameters == costs["full"].parameters
    inside = costs["full"].encoders["in_text"].total
    assert costs["freeze"].encoders["in_text"].trainable == 0
    assert costs["full"].trainable - costs["freeze"].trainable == inside
    assert costs["full"].training_mib - costs["freeze"].training_mib >= 12 * inside / 2**20 - 0.1
    assert ", trainable " in costs["freeze"].text()
    assert costs["freeze"].encoding_seconds > 0 == costs["full"].encoding_seconds


def test_trainable_parts_are_described() -> None:
    network = built("text", fine_tuning="lora", num_layers=1)[0]
    all_, some = (sum(p.numel() for p in network.parameters() if p.requires_grad or every) for every in (True, False))
    text = describe_trainable(network)
    assert f"{all_:,}" in text
    assert f"trainable {some:,}" in text
    assert "encoder of in_text" in text


def test_networks_without_checkpoints_have_no_lr_multipliers() -> None:
    columns, recipe = sample_table(["number"], ["regression"], rows=8)
    recipe["inputs"]["in_number"]["encoder"] = "linear"
    network = network_of(prepare(columns, **recipe)[0])
    groups = make_optimizer(network, torch.nn.Module(), TrainingOptions(learning_rate=1e-2)).param_groups
    assert {group["lr"] for group in groups} == {1e-2}
