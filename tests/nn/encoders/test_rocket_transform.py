"""MiniRocket and MultiRocket: equal to their definition, computed step by step; fitted state; features by batches."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from polymodal.core.registry import components
from polymodal.nn.encoders.rocket_transform import RocketTransform, dilations, quantiles

torch.set_num_threads(1)

LENGTHS = [40, 17, 40, 9, 3, 1, 33]
POOLINGS = ("ppv", "mpv", "mipv", "lspv")


def series(channels=1, lengths=LENGTHS, seed=0):
    draw = torch.Generator().manual_seed(seed)
    length = torch.tensor(lengths)
    real = (torch.arange(max(lengths)) < length.unsqueeze(1)).unsqueeze(-1)
    return torch.randn(len(lengths), max(lengths), channels, generator=draw) * real, length


def fitted(channels=1, per_kernel=7, poolings=POOLINGS, seed=0):
    torch.manual_seed(seed)
    transform = RocketTransform(channels, 8, per_kernel, poolings)
    transform.fit(*series(channels, seed=5))
    return transform


def convolve(x, triple, dilation):
    """The definition: at each step, the sum of nine weights times the steps around it, 0 outside of the series."""
    weights = [2.0 if position in triple else -1.0 for position in range(9)]
    steps = len(x)
    return np.array(
        [
            sum(
                weight * x[at + (position - 4) * dilation]
                for position, weight in enumerate(weights)
                if 0 <= at + (position - 4) * dilation < steps
            )
            for at in range(steps)
        ]
    )


def longest_run(above):
    best = run = 0
    for one in above:
        run = run + 1 if one else 0
        best = max(best, run)
    return best


def by_definition(transform, values):
    """The features `[poolings, biases]` of one series `[steps, channels]` from the fitted state alone."""
    counts = [count for count in transform.counts.tolist() if count]
    used = [dilation for dilation in transform.dilations.tolist() if dilation]
    subsets, biases = transform.subsets.numpy(), transform.biases.numpy()
    found, at = [], 0
    for slot, (dilation, count) in enumerate(zip(used, counts, strict=True)):
        for number, triple in enumerate(combinations(range(9), 3)):
            channels = [one for one in subsets[slot, number] if one < values.shape[1]]
            z = convolve(values[:, channels].sum(1), triple, dilation)
            padding = 4 * dilation
            if (slot + number) % 2 and len(z) > 2 * padding:
                z = z[padding:-padding]
            for bias in biases[at : at + count]:
                above = z > bias
                mean = (z - bias)[above].mean() if above.any() else 0
                index = np.flatnonzero(above).mean() if above.any() else -1
                found.append([above.mean(), mean, index, longest_run(above)])
            at += count
    return np.array(found).T


@pytest.mark.parametrize("channels", [1, 3])
def test_the_features_are_those_of_the_papers(channels):
    transform, (values, length) = fitted(channels), series(channels)
    features = transform(values, length).view(len(values), 4, -1).numpy()
    assert features.dtype == np.float32
    assert features.shape[2] == 84 * 7
    for item, steps in enumerate(LENGTHS):
        expected = by_definition(transform, values[item, :steps].double().numpy())
        assert abs(features[item] - expected).max(1) == pytest.approx(0, abs=1e-4), (steps, channels)
        assert abs(features[item, 0] - expected[0]).max() < 1e-6


def test_kernels_dilations_and_quantiles_are_those_of_the_paper():
    assert dilations(150, 119) == (
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 18],  # the reference implementation, 150 steps
        [30, 15, 12, 12, 4, 8, 8, 4, 4, 4, 3, 3, 3, 3, 3, 3],
    )
    assert dilations(5, 10) == ([1], [10])
    golden = (5**0.5 + 1) / 2
    assert quantiles(3).tolist() == pytest.approx([golden % 1, 2 * golden % 1, 3 * golden % 1])
    transform = fitted(channels=12)
    sizes = (transform.subsets < 12).sum(2)
    assert sizes.min() == 1
    assert 1 < sizes.max() <= 9
    assert all(len(set(row.tolist()) - {12}) == (row < 12).sum() for row in transform.subsets.flatten(0, 1))


def test_biases_are_quantiles_of_training_series():
    """With one training series, a fraction q of its steps is at most the quantile q."""
    values, length = series(lengths=[200])
    transform = RocketTransform(1, 8, 4)
    assert not transform.is_fitted
    transform.fit(values, length)
    assert transform.is_fitted
    padded = torch.cat([transform._by_dilation(transform(values, length)[0])[slot][slot % 2 :: 2] for slot in range(4)])
    levels = torch.cat([transform._by_dilation(quantiles(84 * 4))[slot][slot % 2 :: 2] for slot in range(4)])
    assert (1 - padded - levels).abs().max() < 1.5 / 200


@pytest.mark.parametrize("channels", [1, 3])
def test_an_item_has_the_same_features_alone_and_in_any_batch(channels):
    transform, (values, length) = fitted(channels), series(channels)
    together = transform(values, length)
    for item, steps in enumerate(LENGTHS):
        alone = transform(values[item : item + 1, :steps], length[item : item + 1])[0].view(4, -1)
        assert torch.equal(alone[[0, 2, 3]], together[item].view(4, -1)[[0, 2, 3]])
        assert torch.allclose(alone[1], together[item].view(4, -1)[1], rtol=1e-5)
    many = transform(values.repeat(40, 1, 1), length.repeat(40))
    assert torch.equal(many[-len(LENGTHS) :].view(-1, 4, 588)[:, 0], together.view(-1, 4, 588)[:, 0])
    integers = values.round()  # numbers that are equal to a bias compare alike in every batch
    transform.fit(integers, length)
    assert torch.equal(transform(integers[1:2, :17], length[1:2])[0, :588], transform(integers, length)[1, :588])


def test_the_state_is_saved_with_the_weights_and_fitting_is_deterministic():
    transform, data = fitted(3), series(3)
    other = RocketTransform(3, 100, 7, POOLINGS)
    other.load_state_dict(transform.state_dict())
    assert torch.equal(other(*data), transform(*data))
    assert torch.equal(fitted(3)(*data), transform(*data))
    assert not torch.equal(fitted(3, seed=1)(*data), transform(*data))


def test_multirocket_has_eight_times_the_features():
    component = components("encoder")["minirocket"]
    options = component.Options(num_features=200, pooling="all", first_difference=True)
    encoder = component(options, shape={"channels": 2, "steps": 40, "rate": 1.0}, width=4)
    values, length = series(2)
    encoder.fit_items({"values": values, "length": length})
    features = encoder.encode_items({"values": values, "length": length})
    assert features.shape == (len(LENGTHS), 8 * 168)
    real = torch.arange(39) < (length - 1).unsqueeze(1)
    second = encoder.transform.differences(values.diff(dim=1) * real.unsqueeze(-1), (length - 1).clamp_min(1))
    assert torch.equal(features[:, 4 * 168 :], second)
