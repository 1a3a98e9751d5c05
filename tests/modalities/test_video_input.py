"""Video inputs: any form of cell gives the same frames, and augmentation treats all frames of a video alike."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.sample import ColumnSample
from polymodal.modalities import video_augment, video_corruption
from polymodal.modalities.image import Image as Pictures
from polymodal.modalities.video import Video
from polymodal.recipe.data import LimitOptions


def frames(seed, count=6, height=40, width=48):
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 5, 6, 3), dtype=np.uint8)
    return np.stack([np.array(Image.fromarray(one).resize((width, height))) for one in coarse])


def animation(array, form="WEBP"):
    """One frame every 40 ms, as arrays have it."""
    file = io.BytesIO()
    pictures = [Image.fromarray(one) for one in array]
    options = {"lossless": True} if form == "WEBP" else {}
    pictures[0].save(file, form, save_all=True, append_images=pictures[1:], duration=40, **options)
    return file.getvalue()


def modality(**options):
    return Video(Video.Options(**{"image_size": 32, **options}), columns=["clip"])


def block(cells, root=None, cache=None, limits=None):
    return RowBlock(
        {"clip": cells},
        np.arange(len(cells)),
        root,
        "table",
        CellErrors(False),
        limits or LimitOptions(),
        cache,
    )


def column(values, root=None):
    return ColumnSample("clip", values, None, len(values), len(values), 0, root)


def collated(cells, **options):
    made = modality(**options)
    prepared = made.prepare(block(cells))
    return made.collate(prepared.items.take(prepared.index))


def test_arrays_and_files_give_the_same_frames_with_a_store_and_without(tmp_path):
    data = animation(frames(0))
    (tmp_path / "a.webp").write_bytes(data)
    cells = ["a.webp", data, {"bytes": data, "path": None}, frames(0), None, frames(1, count=20)]
    for cache in (None, tmp_path / "store", tmp_path / "store"):
        given = block(cells, tmp_path, cache)
        prepared = modality().prepare(given)
        assert not given.errors.errors
        assert prepared.index.tolist() == [0, 0, 0, 1, -1, 2]
        taken = prepared.items.take(np.arange(3))
        assert taken["length"].tolist() == [6, 6, 8]
        assert np.array_equal(taken["pixels"][0], taken["pixels"][1])
        assert taken["times"][1] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0.2, 0, 0])
        assert not taken["pixels"][0, 6:].any()
        assert taken["times"][2, 0] == pytest.approx(0.04)  # the frame at the middle of the first of 8 parts


def test_collated_videos_are_channels_first_without_a_copy():
    made = modality()
    items = made.prepare(block([frames(0)])).items.take(np.array([0]))
    data = made.collate(items)
    assert data["pixels"].shape == (1, 6, 3, 32, 32)
    assert data["pixels"].data_ptr() == items["pixels"].__array_interface__["data"][0]
    assert data["times"].dtype == torch.float32


def test_bad_cells_are_bad_cells_and_the_others_stay():
    cells = [b"\x1a\x45\xdf\xa3" + bytes(50), frames(0), np.zeros((2, 4)), np.zeros((0, 4, 4, 3), np.uint8), "/x.mp4"]
    given = block(cells)
    prepared = modality().prepare(given)
    assert prepared.index.tolist() == [-1, 0, -1, -1, -1]
    assert sorted(fault.row for fault in given.errors.errors) == [0, 2, 3, 4]
    assert modality().prepare(block([frames(0)], limits=LimitOptions(frames=5))).index.tolist() == [-1]


def test_columns_of_animations_are_videos_and_those_of_still_images_are_not(tmp_path):
    for number in range(4):
        (tmp_path / f"move{number}.gif").write_bytes(animation(frames(number), "GIF"))
        (tmp_path / f"still{number}.gif").write_bytes(animation(frames(number, count=1), "GIF"))
    moving, still = [f"move{n}.gif" for n in range(4)], [f"still{n}.gif" for n in range(4)]
    for values in (moving, [*moving, *still[:2]], [animation(frames(0))], ["a.mp4", "b.webm"], [frames(0)]):
        sample = column(values, tmp_path)
        guess, image = Video.match_column(sample), Pictures.match_column(sample)
        assert guess is not None
        assert image is None or guess.confidence > image.confidence
    for values in (still, [*moving[:2], *still], ["a.png", "b.png"], [frames(0)[0]], ["walk"], [], ["gone.gif"]):
        assert Video.match_column(column(values, tmp_path)) is None


def test_the_side_follows_the_videos():
    cells = [animation(frames(n, height=100, width=120)) for n in range(2)]
    assert Video.resolve(Video.Options(max_image_size=112), [column(cells)]).image_size == 96
    assert (
        Video.resolve(Video.Options(max_image_size=64), [column([frames(0, height=100, width=120)])]).image_size == 64
    )
    assert Video.resolve(Video.Options(max_image_size=64), [column([b"no clip"])]).image_size == 64


def test_all_frames_of_a_video_move_alike_and_each_video_by_itself():
    torch.manual_seed(0)
    picture = frames(0, count=1, height=32, width=32)
    still = np.repeat(picture, 5, axis=0)
    data = collated([still, *(np.repeat(frames(n, 1, 32, 32), 5, axis=0) for n in range(1, 12))])
    before = data["pixels"].clone()
    for change in (lambda pixels: video_augment.translate(pixels, 0.2), video_augment.horizontal_flip):
        changed = change(data["pixels"])
        assert (changed == changed[:, :1]).all()
        moved = (changed != before).flatten(1).any(1)
        assert moved.any()
        assert torch.equal(data["pixels"], before)
    flipped = video_augment.horizontal_flip(before)
    assert all(torch.equal(one, old) or torch.equal(one, old.flip(3)) for one, old in zip(flipped, before, strict=True))


def test_skipped_frames_leave_the_others_in_order_and_never_none():
    torch.manual_seed(0)
    data = collated([frames(n, count) for n, count in enumerate((1, 3, 8, 8, 5))])
    for share in (0.3, 0.99):
        left = video_augment.frame_dropout(data, share)
        assert (left["length"] >= 1).all()
        assert left["length"].sum() < data["length"].sum()
        assert left["pixels"].shape[1] == left["length"].max()
        for item, length in enumerate(left["length"].tolist()):
            times = left["times"][item, :length]
            kept = torch.isin(data["times"][item, : data["length"][item]], times)
            assert torch.equal(data["times"][item, : data["length"][item]][kept], times)
            assert torch.equal(data["pixels"][item, : data["length"][item]][kept], left["pixels"][item, :length])
            assert not left["pixels"][item, length:].any()


@pytest.mark.parametrize("kind", Video.corruptions)
def test_corruption_grows_with_strength_and_leaves_padding_alone(kind):
    made = modality()
    items = made.prepare(block([frames(0, 8), frames(1, 4)])).items.take(np.arange(2))
    before = items["pixels"].copy()

    def change(strength):
        damaged = made.corrupt(items, kind, strength, np.random.default_rng(0))
        assert np.array_equal(items["pixels"], before)
        assert not damaged["pixels"][1, 4:].any()
        assert damaged["pixels"].shape == before.shape
        assert damaged["times"] is items["times"]
        return np.abs(damaged["pixels"].astype(int) - before).mean()

    little, much = change(0.1), change(1.0)
    assert little <= much
    assert much > 5
    assert change(0.0) < 4  # JPEG at its best quality, with half the colours


def test_frames_are_lost_to_the_one_before_and_shuffled_without_loss():
    numbers = np.arange(50)
    draw = np.random.default_rng(0)
    assert (video_corruption.frame_loss(numbers, 1.0, draw) == 0).all()
    some = video_corruption.frame_loss(numbers, 0.5, draw)
    lost = some != numbers
    assert 0.3 < lost.mean() < 0.7
    assert (some[1:][lost[1:]] == some[:-1][lost[1:]]).all()
    mixed = video_corruption.shuffle(numbers, 0.4, draw)
    assert sorted(mixed) == numbers.tolist()
    assert 0 < (mixed != numbers).sum() <= 20
