"""Log-mel spectrograms against the formulas in float64, padding, dtypes, and SpecAugment."""

import math

import numpy as np
import pytest
import torch

from polymodal.core.errors import RecipeError
from polymodal.nn.encoders.logmel import LogMel, LogMelOptions
from polymodal.nn.encoders.spec_augment import spec_augment

WHISPER = {"n_mels": 80, "window_seconds": 0.025, "hop_seconds": 0.01, "normalization": "whisper"}


def build(rate=16000, **options):
    return LogMel(LogMelOptions(name="mel", **options), rate).eval()


def batch(clips):
    """Waveforms `[channels, samples]` or `[samples]` -> values and length."""
    clips = [np.atleast_2d(clip).astype(np.float32) for clip in clips]
    values = torch.zeros(len(clips), len(clips[0]), max(clip.shape[1] for clip in clips))
    for item, clip in enumerate(clips):
        values[item, :, : clip.shape[1]] = torch.from_numpy(clip)
    return values, torch.tensor([clip.shape[1] for clip in clips])


def noise(samples, seed=0, channels=1):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(channels, samples)) * np.linspace(1e-4, 0.4, samples)


def hertz(mel):
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def reference(clip, rate, mels, window, hop):
    """The zero-padded waveform, with cosine and sine sums in float64: the clipped logarithm, `[frames, mels]`."""
    clip = np.asarray(clip, dtype=np.float32).astype(np.float64).ravel()
    count, half = -(-len(clip) // hop), window // 2
    sound = np.zeros(len(clip) + 4 * window + 1)
    sound[: len(clip)] = clip
    sound = np.concatenate([sound[half:0:-1], sound])
    n = np.arange(window)
    hann = np.sin(math.pi * n / window) ** 2
    angle = 2 * math.pi * np.outer(n, np.arange(half + 1)) / window
    frames = np.stack([sound[t * hop : t * hop + window] for t in range(count + half // hop + 1)]) * hann
    power = (frames @ np.cos(angle)) ** 2 + (frames @ np.sin(angle)) ** 2
    top = rate / 2
    highest = top * 3 / 200 if top < 1000 else 15 + 27 * math.log(top / 1000) / math.log(6.4)
    edges = [hertz(highest * edge / (mels + 1)) for edge in range(mels + 2)]
    energy = np.zeros((len(frames), mels))
    for band in range(mels):
        low, middle, high = edges[band : band + 3]
        for k in range(half + 1):
            f = k * rate / window
            up, down = (f - low) / (middle - low), (high - f) / (high - middle)
            energy[:, band] += max(0.0, min(up, down)) * 2 / (high - low) * power[:, k]
    logarithm = np.log10(np.maximum(energy, 1e-10))
    return np.maximum(logarithm, logarithm.max() - 8)[:count]


LENGTHS = [8000, 7777, 3200, 401, 400, 150, 1]


def test_whisper_features_are_the_formulas():
    clips = [noise(samples, seed) for seed, samples in enumerate(LENGTHS)]
    late_click = np.zeros(3200)
    late_click[-1] = 1.0
    clips += [late_click, np.zeros(900)]
    mel, real = build(**WHISPER)(*batch(clips))
    for item, clip in enumerate(clips):
        wanted = (reference(clip, 16000, 80, 400, 160) + 4) / 4
        assert real[item] == len(wanted)
        np.testing.assert_allclose(mel[item, 0, : len(wanted)].numpy(), wanted, atol=1e-4)
        assert not mel[item, 0, len(wanted) :].any()


@pytest.mark.parametrize(("rate", "window", "hop"), [(8000, 320, 160), (22050, 882, 441), (44100, 1764, 882)])
def test_standard_features_at_other_rates(rate, window, hop):
    clips = [noise(rate // 3, 1), noise(rate // 5, 2)]
    mel, real = build(rate)(*batch(clips))
    for item, clip in enumerate(clips):
        wanted = reference(clip, rate, 40, window, hop)
        wanted = (wanted - wanted.mean()) / wanted.std()
        np.testing.assert_allclose(mel[item, 0, : real[item]].numpy(), wanted, atol=1e-4)


@pytest.mark.parametrize("normalise", ["standard", "whisper"])
def test_an_item_does_not_depend_on_its_batch(normalise):
    front = build(normalization=normalise)
    clips = [noise(samples, seed) for seed, samples in enumerate(LENGTHS)]
    together, real = front(*batch(clips))
    for item, clip in enumerate(clips):
        alone, own = front(*batch([clip]))
        assert own[0] == real[item] == alone.shape[2]
        assert torch.allclose(alone[0], together[item, :, : own[0]], atol=1e-5)


def test_standard_features_ignore_loudness_and_whisper_features_do_not():
    clip = noise(4000)
    for normalise, same in (("standard", True), ("whisper", False)):
        mel, _ = build(normalization=normalise)(*batch([clip, clip * 0.25]))
        assert torch.allclose(mel[0], mel[1], atol=1e-3) == same


def test_silence_is_zero_everywhere():
    mel, real = build()(*batch([np.zeros(5000), noise(9000)]))
    assert real.tolist() == [16, 29]
    assert not mel[0].any()


def test_a_steady_tone_stands_out_in_its_band():
    for frequency in (300, 1000, 3000):
        tone = 0.1 * np.sin(2 * math.pi * frequency * np.arange(8000) / 16000)
        mel, _ = build()(*batch([tone + 1e-3 * noise(8000)]))
        edges = [hertz((15 + 27 * math.log(8) / math.log(6.4)) * edge / 41) for edge in range(42)]
        band = int(mel[0, 0, 5:-5].mean(0).argmax())
        assert edges[band] < frequency < edges[band + 2]


def test_channels_are_kept_on_a_common_scale():
    left, right = noise(4000, 1), noise(4000, 2)
    stereo, _ = build(normalization="whisper")(*batch([np.concatenate([left, 0.1 * right])]))
    alone, _ = build(normalization="whisper")(*batch([left]))
    assert torch.allclose(stereo[0, 0], alone[0, 0], atol=1e-6)
    assert (stereo[0, 0].mean() - stereo[0, 1].mean()).item() == pytest.approx(2 / 4, abs=0.1)


def test_numbers_stay_fp32_under_autocast_and_in_a_network_of_bfloat16():
    front, data = build(), batch([noise(4000)])
    before, _ = front(*data)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(front(*data)[0], before)
    half = torch.nn.Sequential(front).to(torch.bfloat16)[0]
    assert torch.equal(half(*data)[0], before)
    assert not list(front.parameters())
    assert not front.state_dict()


def test_the_waveform_is_not_modified_and_has_no_gradient():
    values, length = batch([noise(4000)])
    values.requires_grad_()
    before = values.detach().clone()
    mel, _ = build().train()(values, length)
    assert torch.equal(values, before)
    assert not mel.requires_grad


def test_masks_are_drawn_for_each_item_within_the_maximum_width():
    torch.manual_seed(0)
    frames = torch.tensor([100, 100, 100, 20] * 50)
    mel = torch.ones(200, 2, 100, 40)
    masked = spec_augment(mel, frames, num_time_masks=1, time_mask_width=10.0, num_freq_masks=1, freq_mask_width=6.0)
    assert mel.all()
    assert torch.equal(masked[:, 0], masked[:, 1])
    shown = masked[:, 0].bool()
    hidden_frames, hidden_bands = (~shown.any(2)).sum(1), (~shown.any(1)).sum(1)
    assert hidden_frames[frames == 100].max() == 10
    assert hidden_frames[frames == 20].max() == 4
    assert hidden_bands.max() == 6
    assert hidden_frames.min() == hidden_bands.min() == 0
    assert torch.equal(shown, shown.any(2, keepdim=True) & shown.any(1, keepdim=True))
    for item in range(200):
        places = (~shown[item].any(1)).nonzero().ravel()
        assert len(places) == 0 or places[-1] - places[0] == len(places) - 1
        assert len(places) == 0 or places[-1] < frames[item]
    assert len({tuple(one.flatten().tolist()) for one in shown}) > 100


def test_masks_are_applied_in_training_only():
    data = batch([noise(16000)])
    front = build()
    plain, _ = front(*data)
    torch.manual_seed(1)
    assert not torch.equal(front.train()(*data)[0], plain)
    assert torch.equal(build(num_time_masks=0, num_freq_masks=0).train()(*data)[0], plain)


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"hop_seconds": 0.05}, "hop_seconds"),
        ({"n_mels": 200}, "n_mels"),
        ({"n_mels": 80, "window_seconds": 0.01}, "n_mels"),
    ],
)
def test_invalid_options_are_rejected(options, place):
    with pytest.raises(RecipeError, match=f"^{place}: "):
        build(**{"window_seconds": 0.02, "hop_seconds": 0.01, **options})
