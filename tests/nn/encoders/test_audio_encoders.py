"""Audio encoders: shapes, padding, channels, dtypes, times, and learning of planted tones."""

import math

import pytest
import torch
from torch import nn

from polymodal.core.errors import RecipeError
from polymodal.core.registry import components

NAMES = ["audio_cnn", "audio_transformer", "conformer", "crnn", "waveform_cnn"]
RATE, WIDTH = 8000, 32
QUIET = {"dropout": 0.0, "num_time_masks": 0, "num_freq_masks": 0}
LENGTHS = torch.tensor([8000, 4801, 1, 39, 640, 3333, 2500])


def build(name, *, channels=1, rate=RATE, width=WIDTH, seed=0, **options):
    torch.manual_seed(seed)
    component = components("encoder")[name]
    known = component.Options.model_fields
    options = {key: value for key, value in options.items() if key in known or key not in QUIET}
    return component(
        component.Options(**options), shape={"rate": rate, "channels": channels, "samples": rate}, width=width
    )


def sound(lengths=LENGTHS, channels=1, seed=1):
    """Noise with rising volume, and one silent item."""
    generator = torch.Generator().manual_seed(seed)
    longest = int(lengths.max())
    values = torch.randn(len(lengths), channels, longest, generator=generator) * torch.linspace(0.01, 0.3, longest)
    values = values * (torch.arange(longest) < lengths.unsqueeze(1)).unsqueeze(1)
    values[-1] = 0
    return {"values": values, "length": lengths}


def test_these_are_all_audio_encoders():
    """The pretrained encoder is tested in tests/pretrained."""
    of_sound = {name for name, found in components("encoder").items() if found.modality == "audio"}
    assert of_sound == {*NAMES, "pretrained_audio"}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_masks(name, channels):
    encoder, data = build(name, channels=channels), sound(channels=channels)
    before = data["values"].clone()
    features, mask = encoder(data)
    assert features.shape == (*mask.shape, encoder.width)
    assert features.dtype == torch.float32
    assert mask.dtype == torch.bool
    assert features.isfinite().all()
    seconds = LENGTHS / RATE
    assert ((mask.sum(1) >= 1) & (mask.sum(1) <= 1 + 25 * seconds)).all()
    assert torch.equal(mask, mask.long().cummin(1).values.bool())
    assert torch.equal(data["values"], before)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_an_item_does_not_depend_on_its_batch(name, training, channels):
    encoder, data = build(name, channels=channels, **QUIET).train(training), sound(channels=channels)
    with torch.no_grad():
        together, mask = encoder(data)
        for item, length in enumerate(LENGTHS.tolist()):
            alone, own = encoder(
                {"values": data["values"][item : item + 1, :, :length], "length": LENGTHS[item : item + 1]}
            )
            assert own.all()
            assert alone.shape[1] == mask[item].sum()
            torch.testing.assert_close(alone[0], together[item][mask[item]], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name):
    encoder, data = build(name, channels=2, **QUIET), sound(channels=2)
    features, mask = encoder(data)
    probe = torch.randn(features.shape, generator=torch.Generator().manual_seed(2))
    (features * probe)[mask].sum().backward()
    assert [key for key, value in encoder.named_parameters() if value.grad is None or not value.grad.any()] == []


@pytest.mark.parametrize("name", NAMES)
def test_training_on_silence_gives_finite_values(name):
    encoder = build(name)
    features, _ = encoder({"values": torch.zeros(2, 1, 900), "length": torch.tensor([900, 5])})
    features.square().sum().backward()
    assert features.isfinite().all()
    assert all(value.grad is None or value.grad.isfinite().all() for value in encoder.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_every_channel_affects_the_features(name):
    encoder, data = build(name, channels=2).eval(), sound(torch.tensor([8000, 4801, 640, 640]), channels=2)
    with torch.no_grad():
        before, mask = encoder(data)
        swapped, _ = encoder({**data, "values": data["values"].flip(1)})
    changed = (before - swapped).abs().amax(2) > 1e-3
    assert changed[:3][mask[:3]].all()
    assert not changed[3].any()


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_by_autocast_and_in_the_weights(name):
    encoder, data = build(name).eval(), sound(torch.tensor([8000, 4801, 2000]))
    full, mask = encoder(data)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = encoder(data)
    half, _ = encoder.to(torch.bfloat16)(data)
    assert half.dtype == torch.bfloat16
    for other in (mixed.float(), half.float()):
        assert (other - full)[mask].norm() / full[mask].norm() < 0.1
    encoder.train()
    with torch.autocast("cpu", torch.bfloat16):
        encoder.float()(data)[0].float().square().mean().backward()
    assert all(value.grad.isfinite().all() for value in encoder.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_times_are_evenly_spaced(name):
    encoder, data = build(name), sound(torch.tensor([8000, 4801, 1]))
    _, mask = encoder(data)
    times = encoder.times(data, mask.shape[1])
    assert times.shape == mask.shape
    assert times.dtype == torch.float32
    steps = times.diff(dim=1)
    assert torch.allclose(steps, steps[0, 0])
    assert (times[:, 0] >= 0).all()
    assert (times[:, 0] <= steps[0, 0] / 2).all()
    ends = (times * mask).amax(1)
    assert ((ends - data["length"] / RATE).abs() <= 1.01 * steps[0, 0])[:2].all()


@pytest.mark.parametrize("name", NAMES)
def test_a_click_changes_the_token_at_its_time(name):
    """Over several initial weights: the token that a click changes most is near it, and neither early nor late as a
    rule.
    """
    options = {} if name == "waveform_cnn" else {"normalization": "whisper"}
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(1, 1, 2 * RATE, generator=generator).mul(0.01).repeat(16, 1, 1)
    data = {"values": values, "length": torch.full((16,), 2 * RATE)}
    click = 0.3 * (-1.0) ** torch.arange(RATE // 200)
    errors = []
    for seed in range(8):
        seconds = 0.1 + 1.8 * torch.rand(16, generator=generator)
        clicked = values.clone()
        for item, start in enumerate((seconds * RATE).int().tolist()):
            clicked[item, 0, start : start + len(click)] += click
        encoder = build(name, seed=seed, **options).eval()
        with torch.no_grad():
            before, mask = encoder(data)
            after, _ = encoder({**data, "values": clicked})
        times = encoder.times(data, mask.shape[1])[0]
        found = times[(after - before).norm(dim=2).argmax(1)]
        errors.append((found - seconds - len(click) / 2 / RATE) / (times[1] - times[0]))
    assert torch.cat(errors).abs().max() < 2
    assert torch.cat(errors).mean().abs() < 0.2


def tones(generator, count=128):
    """A low or a high tone at a random volume and time in noise, in items of different lengths."""
    length = torch.randint(2400, 4001, (count,), generator=generator)
    label = torch.randint(0, 2, (count,), generator=generator)
    time = torch.arange(4000) / RATE
    pitch = torch.where(label == 1, 1500.0, 600.0) * (0.9 + 0.2 * torch.rand(count, generator=generator))
    start = torch.rand(count, generator=generator) * 0.15
    loudness = 0.05 + 0.2 * torch.rand(count, generator=generator)
    phase = 2 * math.pi * torch.rand(count, generator=generator)
    heard = (time > start[:, None]) & (time < start[:, None] + 0.15)
    wave = loudness[:, None] * torch.sin(2 * math.pi * pitch[:, None] * time + phase[:, None]) * heard
    values = wave + 0.03 * torch.randn(count, 4000, generator=generator)
    values = values * (torch.arange(4000) < length[:, None])
    return {"values": values.unsqueeze(1), "length": length}, label


@pytest.mark.parametrize(
    ("name", "rate", "steps"),
    [
        ("audio_cnn", 0.003, 25),
        ("crnn", 0.003, 25),
        ("audio_transformer", 0.003, 50),
        ("conformer", 0.003, 40),
        ("waveform_cnn", 0.005, 60),
    ],
)
def test_learns_planted_tones(name, rate, steps):
    encoder = build(name)
    head = nn.Linear(encoder.width, 2)

    def decide(data):
        features, mask = encoder(data)
        return head((features * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True))

    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], rate)
    data, label = tones(torch.Generator().manual_seed(1), 256)
    shuffle = torch.Generator().manual_seed(3)
    for _ in range(steps):
        chosen = torch.randperm(256, generator=shuffle)[:48]
        loss = nn.functional.cross_entropy(decide({key: value[chosen] for key, value in data.items()}), label[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    encoder.eval()
    fresh, truth = tones(torch.Generator().manual_seed(2), 256)
    with torch.no_grad():
        assert (decide(fresh).argmax(1) == truth).float().mean() > 0.9


@pytest.mark.parametrize("name", ["audio_transformer", "conformer"])
def test_heads_must_divide_the_width(name):
    with pytest.raises(RecipeError, match="heads"):
        build(name, num_heads=3)


def test_the_stride_must_not_exceed_the_window():
    with pytest.raises(RecipeError, match=r"^stride_seconds: 0\.02 s is longer than the window of 0\.01 s"):
        build("waveform_cnn", window_seconds=0.01, stride_seconds=0.02)


def test_patches_cover_neighboring_frames_and_bands():
    from polymodal.nn.encoders.audio_transformer import patchify_spectrogram

    mel = torch.arange(2 * 2 * 6 * 9).view(2, 2, 6, 9).float()
    patches = patchify_spectrogram(mel, 4, 3)
    assert patches.shape == (2, 2, 3, 2 * 4 * 3)
    assert torch.equal(patches[1, 0, 2].view(2, 4, 3), mel[1, :, :4, 6:9])
    assert torch.equal(patches[1, 1, 0].view(2, 4, 3)[:, :2], mel[1, :, 4:, :3])
    assert not patches[1, 1, 0].view(2, 4, 3)[:, 2:].any()
