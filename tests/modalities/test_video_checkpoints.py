"""Videos for a checkpoint: frames preprocessed as by its own processor; conflicting options are errors."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import VideoMAEImageProcessor, VivitImageProcessor

from laws.checkpoints import checkpoint
from laws.samples import prepare, sample, table_of
from polymodal.core.errors import RecipeError
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.experiments.plan import make_plan
from polymodal.modalities.video import Video
from polymodal.recipe.data import LimitOptions
from polymodal.recipe.recipe import Recipe

CLIPS = 50
FRAMES = 4
PROCESSORS = {
    "videomae": VideoMAEImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    "videomae, cut from more": VideoMAEImageProcessor(
        size={"shortest_edge": 40}, crop_size={"height": 32, "width": 36}
    ),
    "videomae, distorted": VideoMAEImageProcessor(size={"height": 36, "width": 33}, do_center_crop=False, resample=3),
    "videomae, not resized": VideoMAEImageProcessor(do_resize=False, crop_size={"height": 48, "width": 48}),
    "vivit": VivitImageProcessor(size={"shortest_edge": 37}, crop_size={"height": 32, "width": 32}),
}


def films(count):
    """Clips of 1 to 9 frames of very different sizes, as arrays."""
    draw = np.random.default_rng(0)
    for _ in range(count):
        frames, height, width = int(draw.integers(1, 10)), *draw.integers(20, 120, 2).tolist()
        coarse = draw.integers(0, 256, (frames, 5, 6, 3), dtype=np.uint8)
        yield np.stack([np.array(Image.fromarray(one).resize((width, height))) for one in coarse])


def modality(folder, **options):
    made = Video.Options(checkpoint=str(folder), **options).at_size("tiny")
    return Video(Video.resolve(made, []), columns=["clip"])


def block(cells, cache=None):
    return RowBlock({"clip": cells}, np.arange(len(cells)), None, "table", CellErrors(True), LimitOptions(), cache)


def saved(folder, processor):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "videomae", "num_frames": FRAMES}))
    processor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_are_those_of_the_reference_processor(name, tmp_path):
    processor = PROCESSORS[name]
    made = modality(saved(tmp_path / "checkpoint", processor))
    cells = list(films(CLIPS))
    plain = {"do_rescale": False, "do_normalize": False, **({"offset": False} if name == "vivit" else {})}
    prepared = made.prepare(block(cells))
    for row, clip in enumerate(cells):
        chosen = np.arange(len(clip))
        if len(clip) > FRAMES:
            chosen = (2 * np.arange(FRAMES) + 1) * len(clip) // (2 * FRAMES)
        wanted = processor(list(clip[chosen]), **plain)["pixel_values"][0]
        item = prepared.items.take(prepared.index[[row]])
        assert item["length"].tolist() == [min(FRAMES, len(clip))]
        np.testing.assert_array_equal(item["pixels"][0], np.moveaxis(np.array(wanted), 1, -1))


def test_pixels_of_a_processor_of_torchvision_are_nearly_equal(tmp_path):
    """V-JEPA's resizes tensors of 8 bits; its shorter side follows from the crop, whatever its file says."""
    said = {"video_processor_type": "VJEPA2VideoProcessor", "crop_size": {"height": 32, "width": 32}, "fps": 4}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vjepa2", "frames_per_clip": FRAMES}))
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps({**said, "size": {"shortest_edge": 256}}))
    made = modality(tmp_path)
    cells = [clip[:FRAMES] for clip in films(CLIPS)]
    prepared = made.prepare(block(cells))
    for row, clip in enumerate(cells):
        height, width = clip.shape[1:3]
        size = (int(36 * height / width), 36) if width <= height else (36, int(36 * width / height))
        frames = torch.from_numpy(clip).permute(0, 3, 1, 2)
        resized = torch.nn.functional.interpolate(frames, size, mode="bilinear", antialias=True)
        top, left = (size[0] - 32) // 2, (size[1] - 32) // 2
        wanted = resized[:, :, top : top + 32, left : left + 32].permute(0, 2, 3, 1).numpy()
        found = prepared.items.take(prepared.index[[row]])["pixels"][0]
        apart = np.abs(found.astype(int) - wanted)
        assert apart.max() <= 2
        assert (apart > 1).mean() < 0.01


def test_files_are_prepared_like_arrays_and_kept_under_their_own_name(tmp_path):
    """Decoding processes are told the geometry; a store of other geometry is never read."""
    file = io.BytesIO()
    (clip,) = films(1)
    pictures = [Image.fromarray(frame) for frame in clip]
    pictures[0].save(file, "WEBP", save_all=True, append_images=pictures[1:], duration=40, lossless=True)
    found = {}
    for name in ("videomae", "videomae, cut from more", "vivit"):
        made = modality(saved(tmp_path / name, PROCESSORS[name]))
        prepared = made.prepare(block([file.getvalue(), clip], tmp_path / "store"))
        one, other = (prepared.items.take(prepared.index[[row]]) for row in (0, 1))
        for field in ("pixels", "times", "length"):
            np.testing.assert_allclose(one[field], other[field], atol=1e-6)
        assert one["pixels"].shape[2:4] == (made.shape()["height"], made.shape()["width"])
        found[name] = one["pixels"]
    assert found["videomae"].shape == found["vivit"].shape
    assert not np.array_equal(found["videomae"], found["vivit"])


@pytest.mark.parametrize(
    ("option", "value"), [("num_frames", 3), ("num_frames", 8), ("image_size", 64), ("resize_mode", "pad")]
)
def test_what_the_network_cannot_take_is_refused_by_its_key(option, value):
    inputs = {"x": {"modality": {"name": "video", option: value}, "columns": ["clip"]}}
    inputs["x"]["encoder"] = {"name": "pretrained_video", "checkpoint": checkpoint("video")}
    columns = sample("modality", "video", 4) | sample("task", "regression", 4)
    with pytest.raises(RecipeError, match="remove this option") as raised:
        prepare(columns, inputs=inputs, outputs={"target": "regression"})
    assert raised.value.path == f"inputs.x.modality.{option}"


def test_a_checkpoint_of_images_is_no_checkpoint_of_videos():
    with pytest.raises(RecipeError, match="num_frames"):
        modality(checkpoint("image"))
    assert modality("image:" + checkpoint("image"), num_frames=3).options.num_frames == 3
    assert modality("image:" + checkpoint("image")).options.num_frames == Video.Options().num_frames


def test_videos_are_changed_only_where_that_is_asked_for():
    assert not modality(checkpoint("video")).has_augmentation
    asked = modality(checkpoint("video"), translate=0.1)
    assert asked.has_augmentation
    assert asked.options.translate == 0.1
    assert Video(Video.Options(), columns=["clip"]).has_augmentation


@pytest.mark.parametrize("size", ["tiny", "base"])
def test_a_complete_recipe_is_complete_again_as_it_is(size):
    columns = sample("modality", "video", 4) | sample("task", "regression", 4)
    inputs = {"x": {"columns": ["clip"], "encoder": {"name": "pretrained_video", "checkpoint": checkpoint("video")}}}
    table = table_of(columns)
    once = make_plan(table, Recipe(inputs=inputs, outputs={"target": "regression"}, size=size)).recipe
    assert once.inputs["x"].modality.num_frames == FRAMES
    assert make_plan(table, Recipe(**once.to_dict())).recipe == once


def test_a_saved_preparation_needs_no_checkpoint(tmp_path):
    folder = shutil.copytree(checkpoint("video"), tmp_path / "checkpoint")
    made = modality(folder)
    state = json.loads(json.dumps(made.save(tmp_path)))
    (clip,) = films(1)
    before, shape = made.prepare(block([clip])).items.take(np.array([0])), made.shape()
    shutil.rmtree(folder)
    again = Video(made.options, columns=["clip"])
    again.load(tmp_path, state)
    assert again.shape() == shape
    np.testing.assert_array_equal(again.prepare(block([clip])).items.take(np.array([0]))["pixels"], before["pixels"])
