"""Time-series encoders: shapes, padding, missing values, times, gradients, and learning of planted signals."""

import math

import pytest
import torch
from torch import nn

from polymodal.core.registry import components
from polymodal.nn.encoders.step_pooling import MaskedBatchNorm, pool_steps, window_times

torch.set_num_threads(1)

NAMES = [name for name, found in components("encoder").items() if found.modality == "time_series"]
SHAPE = {"channels": 2, "steps": 20, "rate": 1.0}
LENGTHS = [20, 3, 1, 7, 9, 14]


def build(name, shape=None, **options):
    torch.manual_seed(0)
    component = components("encoder")[name]
    return component(component.Options(**options), shape=shape or SHAPE, width=16)


def items(lengths=LENGTHS, channels=2, seed=1):
    """Standard normal numbers, a tenth of them missing."""
    draw = torch.Generator().manual_seed(seed)
    length = torch.tensor(lengths)
    real = (torch.arange(max(lengths)) < length.unsqueeze(1)).unsqueeze(-1)
    observed = (torch.rand(len(lengths), max(lengths), channels, generator=draw) < 0.9) & real
    values = torch.randn(observed.shape, generator=draw) * observed
    times = torch.arange(max(lengths)).expand(len(lengths), -1) * 0.5 * real.squeeze(-1)
    return {"values": values, "observed": observed.float(), "times": times, "length": length}


def fitted(name, **options):
    """In evaluation mode, after one training batch."""
    encoder = build(name, **options)
    encoder.fit_items(items())
    encoder.train()(items())
    return encoder.eval()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fit", [True, False])
def test_shapes_and_an_item_does_not_depend_on_the_longest(name, fit):
    encoder, data = (fitted if fit else build)(name), items()
    encoder.eval()
    with torch.no_grad():
        features, mask = encoder(data)
        assert features.shape == (6, mask.shape[1], encoder.width)
        assert mask.dtype == torch.bool
        assert mask[:, 0].all()
        for at, length in enumerate(LENGTHS):
            alone = {key: value[at : at + 1] for key, value in data.items()}
            alone = {key: value if key == "length" else value[:, :length] for key, value in alone.items()}
            found, own = encoder(alone)
            assert own.all()
            torch.testing.assert_close(found[0], features[at][mask[at]], atol=1e-5, rtol=0)
            times, together = encoder.times(alone, own.shape[1]), encoder.times(data, mask.shape[1])
            torch.testing.assert_close(times[0], together[at][mask[at]])


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient_and_the_input_is_not_modified(name):
    encoder, data = build(name, dropout=0.0), items()
    before = {key: value.clone() for key, value in data.items()}
    features, mask = encoder(data)
    probe = torch.randn(features.shape, generator=torch.Generator().manual_seed(2))
    (features * probe)[mask].sum().backward()
    assert [key for key, value in encoder.named_parameters() if value.grad is None or not value.grad.any()] == []
    assert all(torch.equal(before[key], data[key]) for key in data)


@pytest.mark.parametrize("name", NAMES)
def test_weights_in_bfloat16_work(name):
    encoder, data = fitted(name), items()
    full, mask = encoder(data)
    half, _ = encoder.to(torch.bfloat16)(data)
    assert half.dtype == torch.bfloat16
    assert (half.float() - full)[mask].norm() < 0.1 * full[mask].norm()


@pytest.mark.parametrize("name", NAMES)
def test_a_series_of_one_step_and_other_sizes_work(name):
    for steps, channels in ((1, 1), (3, 30), (100, 1)):
        encoder = build(name, {"channels": channels, "steps": steps, "rate": 1.0})
        features, mask = encoder(items([steps, 1], channels))
        assert features[mask].isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_times_are_the_center_of_the_steps_of_a_token(name):
    encoder, data = build(name), items([20, 9])
    features, mask = encoder(data)
    times = encoder.times(data, features.shape[1])
    assert times.shape == mask.shape
    for at, length in enumerate((20, 9)):
        real = times[at][mask[at]]
        assert (real.diff() > 0).all()
        assert real.min() >= 0
        assert real.max() <= 0.5 * (length - 1)
    if name == "minirocket":
        assert times.tolist() == [[0.5 * 19 / 2], [0.5 * 8 / 2]]


def test_neighboring_steps_are_averaged_within_the_series():
    x = torch.arange(7.0).view(1, 7, 1).repeat(2, 1, 1)
    real = torch.arange(7) < torch.tensor([[7], [4]])
    pooled, mask = pool_steps(x, real, 3)
    assert pooled.squeeze(-1).tolist() == [[1.0, 4.0, 6.0], [1.0, 3.0, 0.0]]
    assert mask.tolist() == [[True, True, True], [True, True, False]]
    data = {"times": torch.arange(7.0).repeat(2, 1), "length": torch.tensor([7, 4])}
    assert window_times(data, 3, 3, 3)[real[:, ::3]].tolist() == [1.0, 4.0, 6.0, 1.0, 3.0]


def test_normalization_uses_real_positions_only():
    torch.manual_seed(0)
    x, real = torch.randn(4, 3, 10), (torch.arange(10) < torch.tensor([[10], [4], [2], [7]])).unsqueeze(1).float()
    norm = MaskedBatchNorm(3, momentum=1.0)
    loud = torch.where(real.bool(), x, torch.tensor(1e3))
    assert torch.allclose(norm(loud, real), norm(x, real), atol=1e-5)
    found = norm(x, real).transpose(1, 2)[real.squeeze(1).bool()]
    assert torch.allclose(found.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(found.std(0, correction=0), torch.ones(3), atol=1e-3)
    trained = norm(x, real)
    assert torch.allclose(norm.eval()(x, real), trained, atol=1e-5)


def rising(draw):
    """A ramp hidden in noise, up or down, anywhere in a series of 12 to 30 steps."""
    length = torch.randint(12, 31, (192,), generator=draw)
    label = torch.randint(0, 2, (192,), generator=draw)
    values = 0.3 * torch.randn(192, 30, 2, generator=draw)
    for at, (steps, up) in enumerate(zip(length.tolist(), label.tolist(), strict=True)):
        start = int(torch.randint(0, steps - 8, (1,), generator=draw))
        values[at, start : start + 8, 0] += torch.linspace(-2, 2, 8) * (1 if up else -1)
    return values, length, label


def agreeing(draw):
    """Whether two channels are in phase or in antiphase: a single channel is not informative."""
    length = torch.randint(20, 31, (192,), generator=draw)
    label = torch.randint(0, 2, (192,), generator=draw)
    phase = 6.28 * torch.rand(192, 1, generator=draw)
    wave = torch.sin(torch.arange(30) * (2 * math.pi / 8) + phase)
    values = torch.stack([wave, wave * (2 * label - 1).unsqueeze(1)], dim=2)
    return values + 0.3 * torch.randn(values.shape, generator=draw), length, label


def collated(planted):
    values, length, label = planted
    real = (torch.arange(30) < length.unsqueeze(1)).unsqueeze(-1).float()
    times = torch.arange(30.0).expand(len(values), -1)
    return {"values": values * real, "observed": real.expand_as(values), "times": times, "length": length}, label


PLANTED = [
    ("inception_time", rising, {"num_filters": 4}, 0.01, 40),
    ("inception_time", agreeing, {"num_filters": 4}, 0.01, 40),
    ("series_lstm", rising, {"hidden_size": 16}, 0.01, 60),
    ("series_lstm", agreeing, {"hidden_size": 16}, 0.01, 60),
    ("patch_transformer", rising, {"num_layers": 1, "dropout": 0.0}, 0.005, 80),
    ("patch_transformer", agreeing, {"num_layers": 1, "patch_size": 8, "dropout": 0.0}, 0.005, 80),
    ("minirocket", rising, {"num_features": 504}, 0.01, 30),
    ("minirocket", agreeing, {"num_features": 504}, 0.01, 30),
    ("minirocket", rising, {"num_features": 168, "pooling": "all", "first_difference": True}, 0.01, 30),
]


@pytest.mark.parametrize(("name", "plant", "options", "rate", "steps"), PLANTED)
def test_learns_its_planted_signal(name, plant, options, rate, steps):
    encoder = build(name, {"channels": 2, "steps": 30, "rate": 1.0}, **options)
    head = nn.Linear(encoder.width, 2)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], rate)

    def decide(data):
        features, mask = encoder(data)
        weight = mask.unsqueeze(-1).float()
        return head((features * weight).sum(1) / weight.sum(1))

    data, label = collated(plant(torch.Generator().manual_seed(1)))
    encoder.fit_items(data)
    shuffle = torch.Generator().manual_seed(3)
    for _ in range(steps):
        chosen = torch.randperm(192, generator=shuffle)[:64]
        loss = nn.functional.cross_entropy(decide({k: v[chosen] for k, v in data.items()}), label[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    encoder.eval()
    fresh, truth = collated(plant(torch.Generator().manual_seed(2)))
    with torch.no_grad():
        assert (decide(fresh).argmax(1) == truth).float().mean() > 0.9


def test_every_time_series_encoder_is_tested():
    assert {name for name, *_ in PLANTED} == set(NAMES)
