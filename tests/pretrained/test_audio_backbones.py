"""Pretrained audio networks on tiny checkpoints: features equal those of transformers, in any batch."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from polymodal.core.errors import MissingExtraError, RecipeError
from polymodal.modalities.audio import Audio
from polymodal.nn.encoders.pretrained_audio import PretrainedAudio
from polymodal.pretrained import silent_window

transformers = pytest.importorskip("transformers")
from laws.audio_checkpoints import KINDS, folder  # noqa: E402  # it needs transformers

FEATURES, PADDING = 1e-4, 1e-5
#: Networks that cannot be cut between their layers; they say so.
UNCUT = {"wav2vec2-adapter", "clap-fused"}


@cache
def sounds(rate: int) -> list[np.ndarray]:
    """Audio of different lengths and volumes; the fourth as long as the first, the last too short for some networks."""
    draw = np.random.default_rng(0)
    lengths = [int(rate * seconds) for seconds in (0.5, 1.1, 0.23, 0.5, 0.8, 0.01)]
    made = [draw.normal(0, 0.05 * (1 + at), length) for at, length in enumerate(lengths)]
    return [np.rint(one.clip(-1, 1) * 32_767).astype(np.int16) for one in made]


def encoder(
    kind: str, tokens: int | None = 1, model: str | None = None, **tuning: Any
) -> tuple[PretrainedAudio, Audio]:
    model = model or folder(kind)
    options = Audio.resolve(Audio.Options(checkpoint=model, max_seconds=2), [])
    modality = Audio(options, columns=["sound"])
    modality.fit([])
    made = PretrainedAudio(
        PretrainedAudio.Options(checkpoint=model, max_tokens=tokens, **tuning), shape=modality.shape(), width=16
    )
    made.load_pretrained()
    return made.eval(), modality


def batch(modality: Audio, clips: list[np.ndarray]) -> dict[str, Tensor]:
    values = np.zeros((len(clips), max(map(len, clips)), 1), np.int16)
    for row, one in zip(values, clips, strict=True):
        row[: len(one), 0] = one
    return modality.collate({"values": values, "length": np.array([len(one) for one in clips])})


def reference(kind: str, clip: np.ndarray) -> Any:
    """The features of one item in transformers."""
    model = transformers.AutoModel.from_pretrained(folder(kind)).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder(kind))
    given = extractor(clip.astype(np.float32) / 32_768, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    with torch.no_grad():
        if kind == "whisper":
            return model.encoder(given["input_features"].float())
        if kind.startswith("clap"):
            given["is_longer"][:] = False
            return model.get_audio_features(given["input_features"].float(), given["is_longer"])
        return model(given["input_values"].float())


@pytest.mark.parametrize("kind", KINDS)
def test_features_equal_those_of_transformers(kind: str) -> None:
    exact = {"padding": "max_length"} if kind == "whisper" else {}
    every, modality = encoder(kind, tokens=None, **exact)
    one, _ = encoder(kind, tokens=1, **exact)
    clips = sounds(modality.options.sampling_rate)[:5]
    with torch.no_grad():
        tokens, mask = every(batch(modality, clips))
        summary, _ = one(batch(modality, clips))
    assert summary.shape == (5, 1, one.width)
    assert tokens.shape[2] == every.width
    for item, clip in enumerate(clips):
        wanted = reference(kind, clip)
        hidden = wanted.last_hidden_state[0]
        if kind == "ast":
            hidden = hidden[2:].unflatten(0, (5, 12)).mean(0)
        elif kind.startswith("clap"):
            hidden = hidden.mean(1).T
        found = tokens[item][mask[item]]
        torch.testing.assert_close(found, hidden[: len(found)], atol=FEATURES, rtol=0)
        pooled = getattr(wanted, "pooler_output", None)
        pooled = hidden[: len(found)].mean(0) if pooled is None else pooled[0]
        torch.testing.assert_close(summary[item, 0], pooled, atol=FEATURES, rtol=0)


@pytest.mark.parametrize("tokens", [1, 3, None])
@pytest.mark.parametrize("kind", KINDS)
def test_features_do_not_depend_on_the_batch(kind: str, tokens: int | None) -> None:
    made, modality = encoder(kind, tokens)
    clips = sounds(modality.options.sampling_rate)
    with torch.no_grad():
        data = batch(modality, clips)
        together, mask = made(data)
        times = made.compute_times(data, together.shape[1])
        for item, clip in enumerate(clips):
            alone = batch(modality, [clip])
            features, real = made(alone)
            count = int(real.sum())
            assert count == int(mask[item].sum())
            assert bool(mask[item, :count].all())
            torch.testing.assert_close(features[0, :count], together[item, :count], atol=PADDING, rtol=0)
            assert torch.isfinite(features).all()
            torch.testing.assert_close(made.compute_times(alone, features.shape[1])[0, :count], times[item, :count])


@pytest.mark.parametrize("tune", ["freeze", "last"])
@pytest.mark.parametrize("kind", KINDS)
def test_forward_from_cached_hidden_states(kind: str, tune: str) -> None:
    """Same result as the whole network, for batches and for single items of several lengths."""
    if tune == "last" and kind in UNCUT:
        with pytest.raises(RecipeError, match="`freeze` or `full`"):
            encoder(kind, None, fine_tuning="last", num_layers=1)
        return
    tuning = {"fine_tuning": tune, "num_layers": 1} if tune == "last" else {"fine_tuning": tune}
    made, modality = encoder(kind, None, **tuning)
    data = batch(modality, sounds(modality.options.sampling_rate))
    with torch.no_grad():
        whole, mask = made(data)
        settled = made.encode_frozen(data)
        again, real = made(settled)
        torch.testing.assert_close(real, mask)
        torch.testing.assert_close(again[mask], whole[mask], atol=PADDING, rtol=0)
        times = made.times(settled, whole.shape[1])
        assert times is not None
        torch.testing.assert_close(times[mask], made.compute_times(data, whole.shape[1])[mask])
        few = {name: tensor[[5, 0]] for name, tensor in settled.items()}
        few["hidden"] = few["hidden"][:, : int(few["length"].max())]
        again, real = made(few)
        for item, one in zip([5, 0], range(2), strict=True):
            torch.testing.assert_close(again[one][real[one]], whole[item][mask[item]], atol=PADDING, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_has_the_length_of_the_audio(kind: str) -> None:
    made, modality = encoder(kind, tokens=None)
    clips = sounds(modality.options.sampling_rate)[:5]
    data = batch(modality, clips)
    with torch.no_grad():
        features, mask = made(data)
    times = made.compute_times(data, features.shape[1])
    step = float(times[0, 1] - times[0, 0])
    for item, clip in enumerate(clips):
        seconds = len(clip) / modality.options.sampling_rate
        last = float(times[item][mask[item]].max())
        assert seconds - 2 * step - 0.1 < last < seconds + step
        assert times[item][mask[item]].diff().min() > 0


def test_times_of_averaged_tokens_and_of_a_single_token() -> None:
    made, modality = encoder("whisper", tokens=2)
    data = batch(modality, [np.zeros(16_000, np.int16), np.zeros(320, np.int16)])
    with torch.no_grad():
        _, mask = made(data)
    assert mask.tolist() == [[True, True], [True, False]]
    torch.testing.assert_close(
        made.compute_times(data, 2)[0], torch.tensor([0.24, 0.74])
    )  # 50 tokens of 20 ms from 0 on
    made, _ = encoder("whisper", tokens=1)
    torch.testing.assert_close(made.compute_times(data, 1), torch.tensor([[0.5], [0.01]]))


def test_clap_gives_an_embedding_of_length_one() -> None:
    made, modality = encoder("clap")
    with torch.no_grad():
        features, _ = made(batch(modality, sounds(48_000)))
    assert made.width == features.shape[2] == 12
    torch.testing.assert_close(features.norm(dim=2), torch.ones(6, 1))


def test_a_network_that_does_not_match_its_extractor(tmp_path: Path) -> None:
    model, _ = KINDS["whisper"]()
    model.save_pretrained(tmp_path)
    transformers.WhisperFeatureExtractor(chunk_length=3).save_pretrained(tmp_path)
    with pytest.raises(RecipeError, match="200 frames") as raised:
        encoder("", model=str(tmp_path))
    assert raised.value.path == "checkpoint"


def test_whisper_tiny() -> None:
    """The real weights of the starter package, on a chord and on noise."""
    try:
        made, modality = encoder("", tokens=None, model="starter", padding="max_length")
    except (MissingExtraError, RecipeError) as error:
        pytest.skip(f"no starter weights: {error}")
    from polymodal.pretrained.resolve import weights_folder

    model = transformers.WhisperModel.from_pretrained(weights_folder(made.checkpoint), dtype=torch.float32).eval()
    extractor = transformers.WhisperFeatureExtractor(**made.checkpoint.preprocessor)
    time = np.arange(24_000) / 16_000
    chord = sum(np.sin(2 * np.pi * tone * time) for tone in (220, 277, 330)) * 0.2
    clips = [np.rint(chord * 32_767).astype(np.int16), sounds(16_000)[0]]
    with torch.no_grad():
        features, mask = made(batch(modality, clips))
        for item, clip in enumerate(clips):
            given = extractor(clip.astype(np.float32) / 32_768, sampling_rate=16_000, return_tensors="pt")
            wanted = model.encoder(given["input_features"]).last_hidden_state[0]
            found = features[item][mask[item]]
            assert len(found) == -(-len(clip) // 320)
            torch.testing.assert_close(found, wanted[: len(found)], atol=FEATURES, rtol=0)
    with torch.no_grad():
        condensed, _ = encoder("", tokens=1, model="starter")
        nearly = condensed(batch(modality, clips))[0][:, 0]
        pooled = torch.stack([features[item][mask[item]].mean(0) for item in range(2)])
    assert torch.cosine_similarity(nearly, pooled).min() > 0.94


@pytest.mark.parametrize("tokens", [1, None])
def test_condensed_silence_is_exact_if_no_token_stands_for_others(
    tokens: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, modality = encoder("whisper", tokens, padding="max_length")
    condensed, _ = encoder("whisper", tokens)
    assert made.frozen_prefix().fingerprint != condensed.frozen_prefix().fingerprint
    data = batch(modality, sounds(modality.options.sampling_rate))
    with torch.no_grad():
        wanted, mask = made(data)
        found, real = condensed(data)
        assert torch.equal(real, mask[:, : real.shape[1]])
        wanted = wanted[:, : real.shape[1]]
        assert (found - wanted)[real].abs().max() > 1e-5, "a token stands for several"
        assert torch.cosine_similarity(found[real], wanted[real], dim=-1).min() > 0.99
        monkeypatch.setattr(silent_window, "RUN", 1)
        found, _ = condensed(data)
        torch.testing.assert_close(found[real], wanted[real], atol=FEATURES, rtol=0)


def test_the_layers_read_fewer_tokens_of_silence() -> None:
    condensed, modality = encoder("whisper", 1)
    lengths: list[int] = []
    condensed.backbone.layers[0].register_forward_pre_hook(lambda _, given: lengths.append(given[0].shape[1]))
    rate = modality.options.sampling_rate
    with torch.no_grad():  # of 2 s, in tokens of 20 ms
        condensed(batch(modality, [np.ones(int(seconds * rate), np.int16) for seconds in (0.4, 0.5, 1.9)]))
    assert lengths == [50 + 2, 100]


def test_the_decoder_of_the_checkpoint_reads_the_whole_window() -> None:
    condensed, modality = encoder("whisper", None)
    condensed.keep_all_tokens()
    made, _ = encoder("whisper", None, padding="max_length")
    made.keep_all_tokens()
    data = batch(modality, sounds(modality.options.sampling_rate))
    with torch.no_grad():
        assert torch.equal(condensed(data)[0], made(data)[0])


def test_padding_is_refused_where_it_has_no_effect() -> None:
    with pytest.raises(RecipeError, match="is no Whisper checkpoint"):
        encoder("ast", padding="max_length")
