"""Pretrained video networks against transformers: inputs, features, and videos with too few frames."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import (
    TimesformerConfig,
    TimesformerForVideoClassification,
    TimesformerModel,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VideoMAEImageProcessor,
    VideoMAEModel,
    ViTImageProcessor,
    ViTModel,
    VivitConfig,
    VivitForVideoClassification,
    VivitImageProcessor,
    VJEPA2Config,
    VJEPA2Model,
)

from laws.checkpoints import checkpoint
from laws.samples import sample, trained
from polymodal.core.errors import RecipeError
from polymodal.modalities.video import Video
from polymodal.model.model import Model
from polymodal.nn.encoders.frame_encoder import FrameEncoder
from polymodal.nn.encoders.pretrained_video import PretrainedVideo

FRAMES, SIDE, PATCHES = 4, 32, 4
COMMON = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": SIDE,
    "num_frames": FRAMES,
    "initializer_range": 0.2,
}
CUT = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
MAE = {**COMMON, "patch_size": 16, "tubelet_size": 2}
JEPA = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "mlp_ratio": 2.0,
    "patch_size": 16,
    "crop_size": SIDE,
    "frames_per_clip": FRAMES,
    "pred_hidden_size": 16,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 1,
    "pred_num_mask_tokens": 2,
}


def by_time(tokens):
    """The tokens of TimeSformer, ordered by position, then by frame."""
    return tokens.unflatten(1, (PATCHES, FRAMES)).transpose(1, 2).flatten(1, 2)


#: For each kind: its network and processor; its trunk; from its last hidden states the summary and the tokens.
KINDS = {
    "videomae": (
        lambda: VideoMAEModel(VideoMAEConfig(**MAE, use_mean_pooling=False)),
        lambda: VideoMAEImageProcessor(**CUT),
        lambda model: model,
        lambda model, hidden: hidden.mean(1),
        lambda hidden: hidden,
    ),
    "videomae, its classifier": (
        lambda: VideoMAEForVideoClassification(VideoMAEConfig(**MAE, use_mean_pooling=True)),
        lambda: VideoMAEImageProcessor(**CUT, image_mean=[0.45, 0.4, 0.5], image_std=[0.2, 0.25, 0.3]),
        lambda model: model.videomae,
        lambda model, hidden: model.fc_norm(hidden.mean(1)),
        lambda hidden: hidden,
    ),
    "vivit": (
        lambda: VivitForVideoClassification(VivitConfig(**COMMON, tubelet_size=[2, 16, 16])),
        lambda: VivitImageProcessor(size={"shortest_edge": 40}, crop_size={"height": SIDE, "width": SIDE}),
        lambda model: model.vivit,
        lambda model, hidden: hidden[:, 0],
        lambda hidden: hidden[:, 1:],
    ),
    "timesformer": (
        lambda: TimesformerForVideoClassification(TimesformerConfig(**COMMON, patch_size=16)),
        lambda: VideoMAEImageProcessor(**CUT),
        lambda model: model.timesformer,
        lambda model, hidden: hidden[:, 0],
        lambda hidden: by_time(hidden[:, 1:]),
    ),
    "timesformer, all at once": (
        lambda: TimesformerModel(TimesformerConfig(**COMMON, patch_size=16, attention_type="joint_space_time")),
        lambda: VideoMAEImageProcessor(**CUT),
        lambda model: model,
        lambda model, hidden: hidden[:, 0],
        lambda hidden: by_time(hidden[:, 1:]),
    ),
    "vjepa2": (
        lambda: VJEPA2Model(VJEPA2Config(**JEPA)),
        lambda: VideoMAEImageProcessor(
            size={"shortest_edge": 36},
            crop_size=CUT["crop_size"],
            image_mean=[0.485, 0.456, 0.406],
            image_std=[0.229, 0.224, 0.225],
        ),
        lambda model: model,
        lambda model, hidden: hidden.mean(1),
        lambda hidden: hidden,
    ),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tmp_path_factory):
    """A saved network with random weights, none of them zero or one, and its processor."""
    network, processor, trunk, summary, tokens = KINDS[request.param]
    folder = tmp_path_factory.mktemp("checkpoint")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = network().eval()
        for parameter in model.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    processor().save_pretrained(folder)
    if request.param == "vjepa2":  # its own processor needs torchvision
        said = json.loads((folder / "preprocessor_config.json").read_text())
        (folder / "preprocessor_config.json").unlink()
        del said["image_processor_type"]
        own = {"video_processor_type": "VJEPA2VideoProcessor", "do_sample_frames": True, "size": {"shortest_edge": 9}}
        (folder / "video_preprocessor_config.json").write_text(json.dumps({**said, **own}))
    return folder, model, processor(), trunk(model), summary, tokens


def encoder_of(folder, **options):
    modality = Video(Video.resolve(Video.Options(checkpoint=str(folder)).at_size("tiny"), []), columns=["clip"])
    given = PretrainedVideo.Options(checkpoint=str(folder), **options)
    encoder = PretrainedVideo(given, shape=modality.shape(), width=16).eval()
    encoder.load_pretrained()
    return encoder


def clips(*lengths, seed=0):
    """Collated videos with these numbers of frames; shorter ones are padded."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 256, (len(lengths), max(lengths), 3, SIDE, SIDE), dtype=np.uint8)
    times = np.sort(draw.uniform(0, 9, (len(lengths), max(lengths))), axis=1).astype(np.float32)
    for row, length in enumerate(lengths):
        pixels[row, length:], times[row, length:] = 0, 0
    return {
        "pixels": torch.from_numpy(pixels),
        "times": torch.from_numpy(times),
        "length": torch.tensor(lengths),
    }


def first(data, row, length):
    return {
        "pixels": data["pixels"][row : row + 1, :length],
        "times": data["times"][row : row + 1, :length],
        "length": torch.tensor([length]),
    }


@torch.no_grad()
def test_inputs_and_features_are_those_of_transformers(kind):
    folder, model, processor, trunk, summary, tokens = kind
    data = clips(FRAMES, FRAMES, FRAMES)
    processor.do_resize = processor.do_center_crop = False
    films = [list(clip.permute(0, 2, 3, 1).numpy()) for clip in data["pixels"]]
    wanted = torch.tensor(np.array(processor(films)["pixel_values"]), dtype=torch.float32)
    pooled, every = encoder_of(folder), encoder_of(folder, max_tokens=None)
    (read,) = pooled.prepare_inputs(data).values()
    torch.testing.assert_close(read, wanted, atol=1e-6, rtol=0)
    hidden = trunk(wanted).last_hidden_state
    features, mask = pooled(data)
    assert mask.shape == (3, 1)
    assert mask.all()
    torch.testing.assert_close(features[:, 0], summary(model, hidden), atol=1e-4, rtol=0)
    features, mask = every(data)
    assert mask.all()
    torch.testing.assert_close(features, tokens(hidden), atol=1e-4, rtol=0)


@torch.no_grad()
def test_short_videos_repeat_frames_independent_of_the_batch(kind):
    """Frames are repeated evenly, as if the file contained the repetitions."""
    folder, *_ = kind
    encoder = encoder_of(folder, max_tokens=3)
    data = clips(1, 2, 3, 4)
    together, _ = encoder(data)
    times = encoder.times(data, 3)
    repeated = {1: [0, 0, 0, 0], 2: [0, 0, 1, 1], 3: [0, 1, 1, 2], 4: [0, 1, 2, 3]}
    for row, (length, frames) in enumerate(repeated.items()):
        alone, _ = encoder(first(data, row, length))
        torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=0)
        full = {**first(data, row, 4), "pixels": data["pixels"][row : row + 1, frames]}
        full["times"] = data["times"][row : row + 1, frames]
        torch.testing.assert_close(encoder(full)[0][0], together[row], atol=1e-5, rtol=0)
        torch.testing.assert_close(encoder.times(full, 3)[0], times[row], atol=1e-6, rtol=0)


@torch.no_grad()
def test_tokens_have_the_time_of_their_frames(kind):
    folder, *_ = kind
    encoder, data = encoder_of(folder, max_tokens=None), clips(FRAMES)
    length = encoder(data)[0].shape[1]
    tubelet = 4 * PATCHES // length
    wanted = data["times"].view(1, -1, tubelet).mean(-1).repeat_interleave(PATCHES, dim=1)
    torch.testing.assert_close(encoder.times(data, length), wanted)
    one = encoder_of(folder)
    torch.testing.assert_close(one.times(data, 1), data["times"].mean(1, keepdim=True))


@torch.no_grad()
def test_cached_hidden_states_give_the_same_features(kind):
    """With the times of the tokens, and without pixels."""
    folder, *_ = kind
    data = clips(FRAMES, 2)
    for options in (
        {},
        {"max_tokens": 3},
        {"max_tokens": None},
        {"fine_tuning": "last", "num_layers": 1, "max_tokens": None},
    ):
        encoder = encoder_of(folder, **options)
        features, mask = encoder(data)
        kept = encoder.encode_frozen(data)
        assert not {"pixels"} & kept.keys()
        again, other = encoder(kept)
        torch.testing.assert_close(again, features, atol=1e-6, rtol=0)
        assert torch.equal(mask, other)
        length = features.shape[1]
        torch.testing.assert_close(encoder.times(kept, length), encoder.times(data, length))


def test_a_network_of_another_size_than_its_preprocessor_is_rejected(tmp_path):
    VideoMAEModel(VideoMAEConfig(**MAE)).save_pretrained(tmp_path)
    VideoMAEImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(RecipeError, match="32 x 32 pixels, but videos are prepared as 4 frames of 224 x 224"):
        encoder_of(tmp_path)


def framewise(frames, temporal="lstm"):
    """A `frame_encoder` with a pretrained image encoder, as planned."""
    options = FrameEncoder.Options(
        frame_encoder={"name": "pretrained_image", **frames}, temporal=temporal, num_layers=1
    )
    chosen = Video.Options(**FrameEncoder.required_options(options), num_frames=3).at_size("tiny")
    modality = Video(Video.resolve(chosen, []), columns=["clip"])
    torch.manual_seed(0)
    encoder = FrameEncoder(options, shape=modality.shape(), width=16).eval()
    encoder.load_pretrained()
    return encoder


@pytest.mark.parametrize("temporal", ["mean", "lstm", "transformer"])
@torch.no_grad()
def test_frames_of_a_frozen_image_encoder_are_cached(temporal):
    encoder = framewise({"checkpoint": checkpoint("image")}, temporal)
    data = clips(3, 1, 2)
    settled = encoder.frozen_prefix()
    assert settled is not None
    assert settled.per_step == {"times": ("float32", ())}
    kept = encoder.encode_frozen(data)
    assert kept["hidden"].shape == (3, 3, settled.width)
    assert kept.keys() == {"hidden", "times", "length"}
    features, mask = encoder(data)
    again, other = encoder(kept)
    torch.testing.assert_close(again, features, atol=1e-6, rtol=0)
    assert torch.equal(mask, other)
    assert torch.equal(encoder.times(kept, 3), data["times"])


@torch.no_grad()
def test_frame_features_are_those_of_the_image_network():
    encoder, data = framewise({"checkpoint": checkpoint("image")}, "mean"), clips(3, 2)
    model, processor = ViTModel.from_pretrained(checkpoint("image")), ViTImageProcessor(do_resize=False)
    for row, length in enumerate(data["length"].tolist()):
        frames = [frame.permute(1, 2, 0).numpy() for frame in data["pixels"][row, :length]]
        hidden = model(processor(frames, return_tensors="pt")["pixel_values"]).last_hidden_state
        torch.testing.assert_close(encoder(data)[0][row, :length], hidden[:, 0], atol=1e-4, rtol=0)


def test_frames_of_a_trainable_image_encoder_are_not_cached():
    encoder = framewise({"checkpoint": checkpoint("image"), "fine_tuning": "last", "num_layers": 1})
    assert encoder.frozen_prefix() is None
    learned = {id(parameter) for parameter in encoder.frames.parameters() if parameter.requires_grad}
    assert learned
    assert {id(parameter) for parameter in encoder.lr_multipliers()} <= learned


@pytest.mark.parametrize("kind", ["video", "image"])
def test_a_model_loads_without_its_checkpoint(kind, tmp_path):
    """Training caches the features; a loaded model runs the whole network and predicts the same."""
    folder = shutil.copytree(checkpoint(kind), tmp_path / "checkpoint")
    encoder = {"name": "pretrained_video", "checkpoint": str(folder)}
    if kind == "image":
        encoder = {"name": "frame_encoder", "frame_encoder": {"name": "pretrained_image", "checkpoint": str(folder)}}
    columns = sample("modality", "video", 12) | sample("task", "classification", 12)
    model = trained(
        {"train": columns, "validation": columns},
        tmp_path / "work",
        inputs={"x": {"columns": ["clip"], "encoder": encoder}},
        outputs={"target": "classification"},
        training={"epochs": 1},
    )
    shutil.rmtree(folder)
    again = Model.load(model.save(tmp_path / "model"))
    cells = {"clip": columns["clip"]}
    np.testing.assert_allclose(again.predict_proba(cells), model.predict_proba(cells), atol=1e-6)
