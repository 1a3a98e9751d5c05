"""Video encoders: padding, frame order, times, and learning of motion."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from pydantic import ValidationError
from torch import nn

from polymodal.core.errors import RecipeError
from polymodal.core.registry import components
from polymodal.datasets.moving_shapes import make_moving_shapes
from polymodal.nn.encoders.cnn3d import AdjacentFrames, SpaceTimeConv
from polymodal.recipe.recipe import Recipe

torch.set_num_threads(1)

WIDTH = 16
SHAPE = {"frames": 7, "height": 32, "width": 32, "channels": 3}
KINDS = [
    ("frame_encoder", {"temporal": "mean"}),
    ("frame_encoder", {"temporal": "lstm"}),
    ("frame_encoder", {"temporal": "transformer"}),
    ("frame_encoder", {"frame_encoder": {"name": "vit", "num_layers": 1, "patch_size": 16}}),
    ("frame_encoder", {"frame_encoder": {"name": "vgg16", "width_multiplier": 0.0625}, "temporal": "mean"}),
    ("cnn3d", {}),
    ("cnn3d", {"factorized": False}),
    ("video_transformer", {}),
    ("video_transformer", {"tokens": "boxes", "tubelet": 3}),
]
SEES_ORDER = [kind for kind in KINDS if kind[1].get("temporal") != "mean"]


def build(name, **options):
    torch.manual_seed(0)
    component = components("encoder")[name]
    return component(component.Options(**options), shape=SHAPE, width=WIDTH)


def clips(length=(7, 1, 4, 5)):
    generator = torch.Generator().manual_seed(1)
    length = torch.tensor(length)
    most = int(length.max())
    noise = torch.rand(len(length), most, 32, 32, 3, generator=generator)
    bright = torch.rand(len(length), most, 1, 1, 1, generator=generator)
    pixels = (noise * bright * 256).to(torch.uint8)
    real = torch.arange(most) < length[:, None]
    times = torch.rand(len(length), most, generator=generator).cumsum(1) * real
    return {"pixels": (pixels * real[:, :, None, None, None]).permute(0, 1, 4, 2, 3), "times": times, "length": length}


@pytest.mark.parametrize(("name", "options"), KINDS, ids=str)
def test_shapes_masks_and_times(name, options):
    encoder, data = build(name, **options), clips()
    features, mask = encoder(data)
    times = encoder.times(data, features.shape[1])
    assert features.shape == (*mask.shape, encoder.width)
    assert times.shape == mask.shape
    assert mask.any(1).all()
    assert features[mask].isfinite().all()
    assert (times[mask] <= data["times"].max()).all()
    if name != "video_transformer":
        assert mask.sum(1).tolist() == [7, 1, 4, 5]
        assert torch.equal(times[mask], data["times"][mask])


def test_steps_of_the_video_transformer():
    data = clips((5, 2))
    data["times"] = torch.tensor([[0.0, 1, 2, 3, 4], [0.0, 1, 0, 0, 0]])
    steps = build("video_transformer", tubelet=2)
    features, mask = steps(data)
    assert mask.tolist() == [[True, True, True], [True, False, False]]
    assert steps.times(data, 3)[0].tolist() == [0.5, 2.5, 4.0]
    assert steps.times(data, 3)[1, 0] == 0.5
    boxes = build("video_transformer", tubelet=2, tokens="boxes")
    kept, mask = boxes(data)
    assert mask.sum(1).tolist() == [48, 16]
    assert torch.allclose(kept.view(2, 3, 16, WIDTH).mean(2), features, atol=1e-5)
    assert boxes.times(data, 48)[0].tolist() == [0.5] * 16 + [2.5] * 16 + [4.0] * 16


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("name", "options"), KINDS, ids=str)
def test_padding_changes_nothing(name, options, training):
    """In training, batch norm makes videos depend on each other, but never on the content of the padding."""
    encoder, data = build(name, dropout=0.0, **options).train(training), clips()
    if not training:
        with torch.no_grad():
            features, mask = encoder(data)
            for at, length in enumerate(data["length"].tolist()):
                one = {key: value[at : at + 1] for key, value in data.items()}
                alone, own = encoder({key: v if key == "length" else v[:, :length] for key, v in one.items()})
                assert own.all()
                assert torch.allclose(alone[0], features[at][mask[at]], atol=1e-5)
    real = torch.arange(7) < data["length"][:, None]
    torch.manual_seed(2)
    features, mask = encoder(data)
    torch.manual_seed(2)
    rubbish = torch.where(real[:, :, None, None, None], data["pixels"], 201)
    again, _ = encoder({**data, "pixels": rubbish, "times": data["times"].masked_fill(~real, 9.0)})
    assert torch.allclose(again[mask], features[mask], atol=1e-5)


def swapped(data, one=0, other=2):
    order = list(range(7))
    order[one], order[other] = other, one
    return {**data, "pixels": data["pixels"][:, order]}


@pytest.mark.parametrize(("name", "options"), SEES_ORDER, ids=str)
def test_the_frame_order_changes_the_features(name, options):
    """Not only the order of the tokens: their mean too."""
    encoder, data = build(name, **options).eval(), clips((7, 7))
    assert not torch.allclose(encoder(data)[0].mean(1), encoder(swapped(data))[0].mean(1), atol=2e-5, rtol=0)


@pytest.mark.parametrize("frames", ["resnet", "vit"])
def test_the_mean_ignores_frame_order_and_times(frames):
    encoder, data = build("frame_encoder", temporal="mean", frame_encoder=frames).eval(), clips((7, 7))
    features, other = encoder(data)[0], encoder(swapped({**data, "times": data["times"] * 3}))[0]
    assert torch.allclose(features[:, [2, 1, 0, *range(3, 7)]], other, atol=1e-5)


@pytest.mark.parametrize(("name", "options"), [kind for kind in SEES_ORDER if kind[0] != "cnn3d"], ids=str)
def test_frame_times_affect_the_features(name, options):
    encoder, data = build(name, **options).eval(), clips((7, 7))
    assert not torch.allclose(encoder(data)[0], encoder({**data, "times": data["times"] * 2})[0], atol=1e-3)


@pytest.mark.parametrize("factorized", [False, True])
def test_planar_convolutions_of_stacked_frames_are_convolutions_in_space_and_time(factorized):
    torch.manual_seed(0)
    layer = SpaceTimeConv(4, 6, 3, 2, factorized).eval()
    x = torch.randn(5, 4, 8, 8)
    found = layer(x, AdjacentFrames(torch.ones(1, 5, dtype=torch.bool)))
    wide = x.transpose(0, 1).unsqueeze(0)
    wanted = wide
    weight = layer.time.weight
    if factorized:
        convolution, norm, relu = layer.space
        wanted = nn.functional.conv3d(wide, convolution.weight.unsqueeze(2), stride=(1, 2, 2), padding=(0, 1, 1))
        wanted = relu(norm(wanted.squeeze(0).transpose(0, 1))).transpose(0, 1).unsqueeze(0)
        kernel = weight.view(6, 3, 6, 1, 1).transpose(1, 2)
        wanted = nn.functional.conv3d(wanted, kernel, padding=(1, 0, 0))
    else:
        kernel = weight.view(6, 3, 4, 3, 3).transpose(1, 2)
        wanted = nn.functional.conv3d(wide, kernel, stride=(1, 2, 2), padding=1)
    assert torch.allclose(found, layer.norm(wanted.squeeze(0).transpose(0, 1)), atol=1e-5)


@pytest.mark.parametrize(("name", "options"), KINDS, ids=str)
def test_every_parameter_gets_a_gradient(name, options):
    encoder = build(name, dropout=0.0, **options)
    features, mask = encoder(clips())
    probe = torch.randn(features.shape, generator=torch.Generator().manual_seed(2))
    (features * probe)[mask].sum().backward()
    dead = [key for key, value in encoder.named_parameters() if value.grad is None or not value.grad.any()]
    assert dead == []


@pytest.mark.parametrize(("name", "options"), KINDS, ids=str)
def test_the_input_is_not_changed_and_bfloat16_works(name, options):
    encoder, data = build(name, **options).eval(), clips()
    before = {key: value.clone() for key, value in data.items()}
    full, mask = encoder(data)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = encoder(data)
    half, _ = encoder.to(torch.bfloat16)(data)
    assert all(torch.equal(before[key], data[key]) for key in data)
    assert half.dtype == torch.bfloat16
    for other in (mixed, half):
        assert (other.float() - full)[mask].norm() < 0.1 * full[mask].norm()


CHANGES = {
    "frame_encoder": [
        {"frame_encoder": "vit"},
        {"frame_encoder": {"name": "resnet", "channels": 8}},
        {"temporal": "mean"},
        {"temporal": "lstm"},
        {"num_layers": 1},
        {"num_heads": 2},
        {"dropout": 0.5},
    ],
    "cnn3d": [{"channels": 8}, {"num_blocks": 2}, {"factorized": False}, {"dropout": 0.5}],
    "video_transformer": [
        {"patch_size": 16},
        {"tubelet": 1},
        {"num_layers": 1},
        {"num_heads": 2},
        {"tokens": "boxes"},
        {"dropout": 0.5},
    ],
}


@pytest.mark.parametrize(("name", "change"), [(name, change) for name in CHANGES for change in CHANGES[name]], ids=str)
def test_every_option_changes_the_result(name, change):
    def result(**options):
        encoder = build(name, **options)
        torch.manual_seed(3)
        return encoder(clips())[0]

    before, after = result(), result(**change)
    assert torch.equal(before, result())
    assert before.shape != after.shape or not torch.allclose(before, after)
    fields = set(components("encoder")[name].Options.model_fields) - {"name"}
    assert fields == {key for changes in CHANGES[name] for key in changes}


def test_the_size_preset_applies_to_the_image_encoder():
    options = components("encoder")["frame_encoder"].Options
    assert options().at_size("base").frame_encoder.channels == 96
    assert options(frame_encoder={"channels": 40}).at_size("base").frame_encoder.channels == 40
    assert options(frame_encoder={"channels": 40}).at_size("base").frame_encoder.num_blocks == 3
    assert options(frame_encoder="vit").at_size("small").frame_encoder.num_layers == 6


def encoder_of_a_recipe(encoder):
    return Recipe(inputs={"view": {"encoder": encoder}}, outputs={"y": "classification"})


@pytest.mark.parametrize(
    ("frames", "problem"),
    [
        (
            "lstm",
            "inputs.view.encoder.frame_encoder: 'lstm' reads text, but frames are images; available: ",
        ),
        ("cnn3d", "inputs.view.encoder.frame_encoder: 'cnn3d' reads video, but"),
        ("resnett", "inputs.view.encoder.frame_encoder: there is no encoder 'resnett'; did you mean 'resnet'"),
        ({"chanels": 8}, "inputs.view.encoder.frame_encoder.chanels: there is no such key; did you mean 'channels'"),
        ({"name": "vit", "num_layers": 0}, "inputs.view.encoder.frame_encoder.num_layers: "),
    ],
    ids=str,
)
def test_errors_of_the_image_encoder_have_its_path(frames, problem):
    with pytest.raises(RecipeError) as caught:
        encoder_of_a_recipe({"name": "frame_encoder", "frame_encoder": frames})
    assert str(caught.value).startswith(problem)


def test_options_of_another_modality_are_rejected_as_objects_too():
    with pytest.raises(ValidationError, match="reads text"):
        components("encoder")["frame_encoder"].Options(frame_encoder=components("encoder")["lstm"].Options())


def test_a_recipe_with_an_image_encoder_round_trips():
    given = encoder_of_a_recipe({"name": "frame_encoder", "frame_encoder": {"name": "vit", "num_layers": 2}})
    assert Recipe(**given.to_dict()) == given
    assert Recipe.model_json_schema()


@pytest.mark.parametrize(
    ("name", "options", "path"),
    [
        ("frame_encoder", {"num_heads": 3}, "num_heads"),
        ("frame_encoder", {"frame_encoder": {"name": "vit", "patch_size": 5}}, "frame_encoder.patch_size"),
        ("video_transformer", {"num_heads": 3}, "num_heads"),
        ("video_transformer", {"patch_size": 5}, "patch_size"),
    ],
    ids=str,
)
def test_invalid_options_are_rejected(name, options, path):
    with pytest.raises(RecipeError) as caught:
        build(name, **options)
    assert caught.value.path == path


@cache
def planted(rows, seed):
    """Videos of `moving_shapes`, collated as by the video modality."""
    columns = make_moving_shapes(rows, seed)
    decoded = []
    for cell in columns["clip"]:
        frames = ImageSequence.Iterator(Image.open(io.BytesIO(cell)))
        decoded.append(np.stack([np.asarray(frame.convert("RGB")) for frame in frames]))
    length = torch.tensor([len(frames) for frames in decoded])
    pixels = np.zeros((rows, int(length.max()), 32, 32, 3), np.uint8)
    for at, frames in enumerate(decoded):
        pixels[at, : len(frames)] = frames
    times = torch.arange(pixels.shape[1]).expand(rows, -1) * 0.1
    data = {"pixels": torch.from_numpy(pixels).permute(0, 1, 4, 2, 3), "times": times, "length": length}
    return data, torch.tensor([motion == "forward" for motion in columns["motion"]]).long()


def accuracy(name, options, rate, steps):
    """Accuracy on new videos of a linear layer on the mean of the tokens, after `steps` batches of 32 videos."""
    torch.manual_seed(0)
    component = components("encoder")[name]
    encoder = component(component.Options(**options), shape={**SHAPE, "frames": 10}, width=32)
    head = nn.Linear(encoder.width, 2)
    model = nn.ModuleList([encoder, head])
    optimiser = torch.optim.AdamW(model.parameters(), rate, fused=True)

    def decide(data):
        features, mask = encoder(data)
        weight = mask.unsqueeze(-1).float()
        return head((features * weight).sum(1) / weight.sum(1))

    data, label = planted(384, seed=1)
    shuffle = torch.Generator().manual_seed(3)
    for _ in range(steps):
        chosen = torch.randperm(384, generator=shuffle)[:32]
        loss = nn.functional.cross_entropy(decide({key: v[chosen] for key, v in data.items()}), label[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    fresh, truth = planted(192, seed=2)
    with torch.no_grad():
        return (decide(fresh).argmax(1) == truth).float().mean().item()


SMALL = {"name": "resnet", "channels": 8}


@pytest.mark.parametrize(
    ("name", "options", "rate", "steps"),
    [
        ("frame_encoder", {"frame_encoder": SMALL, "temporal": "lstm", "num_layers": 1, "dropout": 0.0}, 0.005, 60),
        (
            "frame_encoder",
            {"frame_encoder": SMALL, "temporal": "transformer", "num_layers": 1, "dropout": 0.0},
            0.003,
            80,
        ),
        ("cnn3d", {"channels": 8, "dropout": 0.0}, 0.01, 40),
        ("cnn3d", {"channels": 8, "dropout": 0.0, "factorized": False}, 0.01, 60),
        ("video_transformer", {"num_layers": 1, "dropout": 0.0}, 0.003, 80),
    ],
    ids=str,
)
def test_learns_motion(name, options, rate, steps):
    assert accuracy(name, options, rate, steps) > 0.9


def test_the_mean_of_frames_stays_at_the_baseline():
    assert accuracy("frame_encoder", {"frame_encoder": SMALL, "temporal": "mean"}, 0.005, 60) < 0.6
